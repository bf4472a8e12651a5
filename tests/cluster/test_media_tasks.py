"""Media are processed as Ray tasks: a worker that is killed in the middle is replaced, and its media processed anew."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from media_world import picture, sha256
from pydantic import SecretStr

from cluster.connections.media.local import LocalStore
from configs.contracts.events import MediaProcessed, MediaRejected
from configs.contracts.ids import new_id
from configs.contracts.media import MediaRecord, derivative_key, quarantine_key
from configs.settings import SETTINGS_VARIABLE, load_settings
from writers.media.block_lists import EMPTY
from writers.media.running import RayRunner, runner_of

ROOT = Path(__file__).resolve().parents[2]


def _decoders() -> list[psutil.Process]:
    """The decoding processes of this cluster's workers."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "writers.media.child" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def _kill_workers(killed: list[int]) -> None:
    """Kills the first worker that decodes something, as soon as it does."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        for decoder in _decoders():
            worker = decoder.parent()
            if worker is not None and decoder.children():
                killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
                return
        time.sleep(0.002)


@pytest.mark.ray
def test_a_killed_worker_is_replaced_and_its_media_processed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    settings = load_settings("test", data_dir=tmp_path)
    settings = settings.model_copy(update={"media": settings.media.model_copy(update={"url_key": SecretStr("ab" * 32)})})
    file = tmp_path / "settings.json"
    file.write_text(settings.dump())
    monkeypatch.setenv(SETTINGS_VARIABLE, str(file))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    store = LocalStore(settings)
    records = []
    # Several are to be decoded, so that the one who looks for a worker that decodes finds one on a busy machine too.
    for seed, size in ((41, None), (43, None), (44, None), (42, 5)):
        content = picture(seed, width=3_000, height=2_000)
        record = MediaRecord(
            media_id=new_id(), owner_id=new_id(), kind="image", state="uploaded", content_type="image/jpeg",
            size=size or len(content), sha256=sha256(content),
        )
        path = tmp_path / "content"
        path.write_bytes(content)
        store.put(quarantine_key(record.media_id), path, "")
        records.append(record)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error", namespace="media")
    try:
        runner = runner_of(settings)
        assert isinstance(runner, RayRunner)
        killed: list[int] = []
        killer = threading.Thread(target=_kill_workers, args=(killed,))
        killer.start()
        outcomes = runner.run(records, EMPTY)
        killer.join()
    finally:
        ray.shutdown()
    assert killed, "a worker was killed while it decoded"
    *processed, rejected = outcomes
    for record, outcome in zip(records, processed, strict=False):
        assert isinstance(outcome, MediaProcessed)
        assert all(store.size(derivative_key(record.media_id, name)) for name in outcome.derivatives)
    assert isinstance(rejected, MediaRejected)
    assert rejected.reason == "size_mismatch"
