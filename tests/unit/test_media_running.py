"""Faults of the machine are no faults of the file: an upload is rejected only for what itself does to its decoder."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from media_world import picture
from pydantic import SecretStr
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from cluster.connections.media.local import LocalStore
from cluster.connections.media.s3 import S3Store
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import MediaRejected
from configs.contracts.media import MediaRecord
from configs.settings import Media, load_settings
from writers.media import child, decoding, pictures, videos
from writers.media.block_lists import EMPTY
from writers.media.decoding import Decoder
from writers.media.processing import Processing
from writers.media.running import RayRunner, failed

RECORD = MediaRecord(media_id="00000000-0000-0000-0000-000000000001", owner_id="00000000-0000-0000-0000-000000000002", kind="image")
FULL = OSError(errno.ENOSPC, "No space left on device")


def task_error(cause: Exception) -> RayError:
    """What ``ray.get`` raises of a task that raised."""
    error: RayError = RayTaskError("process_one", "Traceback", cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize("error", [
    task_error(FULL), task_error(ImportError("libvips")), task_error(KeyError("settings")), NodeDiedError("gone"), OutOfMemoryError("much"),
], ids=["disk full", "library missing", "bug", "node died", "machine's memory"])
def test_a_task_that_fails_says_nothing_of_its_file(error: RayError) -> None:
    assert isinstance(failed(RECORD, error), DependencyUnavailable)


def test_a_file_whose_workers_died_each_time_is_rejected() -> None:
    found = failed(RECORD, WorkerCrashedError())
    assert isinstance(found, MediaRejected)
    assert found.reason == "unreadable"


def test_one_that_fails_is_raised_once_the_others_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else those would run on beside their own repetition."""
    import ray

    asked: list[int] = []
    fine = MediaRejected(media_id=RECORD.media_id, owner_id=RECORD.owner_id, reason="too_large")

    def get(reference: int, *, timeout: float) -> Any:
        asked.append(reference)
        if reference == 0:
            raise task_error(FULL)
        return fine

    references = iter(range(4))
    task = SimpleNamespace(remote=lambda *_: next(references))
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: task)
    monkeypatch.setattr(ray, "get", get)
    runner = RayRunner(load_settings("test"))
    with pytest.raises(DependencyUnavailable):
        runner.run([RECORD] * 3, EMPTY)
    assert asked == [0, 1, 2]
    assert runner.run([RECORD], EMPTY) == [fine]


@pytest.fixture
def decode(tmp_path: Path) -> Iterator[Any]:
    """Decodes a picture with a decoder whose settings are given; all decoders are closed in the end."""
    made: list[Decoder] = []
    path, out = tmp_path / "upload", tmp_path / "out"
    path.write_bytes(picture(61, width=3_000, height=2_000))
    out.mkdir()

    def run(**media: Any) -> Mapping[str, Any]:
        made.append(Decoder(Media(**media)))
        return made[-1].decode(path, out, "image", "image/jpeg")

    yield run
    for decoder in made:
        decoder.close()


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"], ids=["is not there", "ends at once"])
def test_a_decoder_that_does_not_start_rejects_nothing(monkeypatch: pytest.MonkeyPatch, decode: Any, python: str) -> None:
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(DependencyUnavailable):
        decode()


def test_a_full_disk_rejects_nothing(monkeypatch: pytest.MonkeyPatch, decode: Any) -> None:
    monkeypatch.setattr(decoding, "FREE_BYTES", 1 << 62)
    with pytest.raises(DependencyUnavailable):
        decode(process_memory_bytes=256 << 20)
    assert "reject" not in decode(), "what can be decoded is"


def test_a_file_that_takes_too_long_is_unreadable(decode: Any) -> None:
    assert decode(image_timeout_s=0.001) == {"reject": "unreadable"}


def test_a_machine_without_a_process_rejects_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], decode: Any) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    for owner, name in ((pictures, "prepare"), (videos, "prepare"), (child, "_die_with_parent")):
        monkeypatch.setattr(owner, name, lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", fork)
        patch.setattr(sys, "stdin", io.StringIO("{}\n"))
        child.serve()
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    monkeypatch.setattr(Decoder, "_ask", lambda *_: answer)
    with pytest.raises(DependencyUnavailable):
        decode()


class Full(LocalStore):
    """A store beside a disk that is full."""

    def fetch(self, key: str, path: Path, most: int) -> None:
        raise FULL


def test_a_full_disk_ends_no_processing_for_good(tmp_path: Path) -> None:
    settings = load_settings("test", data_dir=tmp_path)
    settings = settings.model_copy(update={"media": settings.media.model_copy(update={"url_key": SecretStr("ab" * 32)})})
    processing = Processing(settings, store=Full(settings))
    with pytest.raises(DependencyUnavailable):
        processing.process(RECORD, EMPTY)
    processing.close()


class Body:
    """An object of a bucket as it is read."""

    def iter_chunks(self, size: int) -> Sequence[bytes]:
        return [bytes(size)] * 2


def test_a_bucket_s_object_that_does_not_fit_on_the_disk_is_fetched_later() -> None:
    store = S3Store(Media())
    store._made = SimpleNamespace(get_object=lambda **_: {"Body": Body()})
    with pytest.raises(DependencyUnavailable):
        store.fetch("quarantine/one", Path("/dev/full"), 1 << 30)
