"""A writer that dies while it processes: one outcome in the end, everything stored, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from log_writing import append, eventually, record
from media_world import picture, sha256

from cluster.connections.media.store import media_store
from cluster.connections.redis import sync_client
from configs.contracts import topics
from configs.contracts.albums import media_key, read_media
from configs.contracts.events import MediaRemoved, MediaRequested, MediaUploaded
from configs.contracts.ids import new_id
from configs.contracts.media import LARGE, THUMB, derivative_key, preview_key, quarantine_key
from configs.contracts.read_model import GENERATION
from configs.settings import SETTINGS_VARIABLE, Settings
from writers.connections import open_rows
from writers.loads.media import media_rows
from writers.worker import Writer

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def settings(servers: Settings) -> Settings:
    return servers.model_copy(update={"plan": servers.plan.model_copy(update={"writer_actors": 1})})


@contextmanager
def writing(settings: Settings) -> Iterator[None]:
    """The writer of all partitions, without the keeper of the read model, which would rebuild it."""
    with sync_client(settings) as client:
        client.set(GENERATION, "test")
    fenced: list[str] = []
    running = Writer(settings, 0, fenced=fenced.append)
    running._once = []
    running.start()
    try:
        yield
    finally:
        running.stop()
    assert not fenced


def state_of(settings: Settings, media_id: str) -> str | None:
    with open_rows(settings, "test") as conn:
        row = media_rows(conn, (media_id,)).get(media_id)
        return None if row is None else row.record.state


KILLED = """
import os, sys, time
from configs.settings import load_settings
from writers.consumers.deriving import Appending
from writers.media import processing
from writers.worker import Writer

place, media = sys.argv[1:]  # other tests may have left what is processed before this one
inner_append, inner_put = Appending.append, processing.Processing._put

def append(self, records):
    mine = self._name.endswith("media_image") and any(media.encode() in record.value for record in records)
    if mine and place == "before the outcome is in the log":
        os._exit(9)
    inner_append(self, records)
    if mine and place == "before the upload is deleted":
        os._exit(9)

def put(self, record, out, facts):
    if record.media_id == media and place == "while derivatives are being stored":
        os._exit(9)
    inner_put(self, record, out, facts)

Appending.append, processing.Processing._put = append, put
writer = Writer(load_settings(), 0, fenced=lambda reason: os._exit(3))
writer._once = []
writer.start()
time.sleep(150)
"""


PLACES = ("while derivatives are being stored", "before the outcome is in the log", "before the upload is deleted")


async def _killed(settings: Settings, tmp_path: Path, place: str, number: int) -> tuple[str, str]:
    """(owner, media) of an upload in whose processing the writer was killed."""
    owner, media = new_id(), new_id()
    content = picture(number)
    store = media_store(settings)
    path = tmp_path / "content"
    path.write_bytes(content)
    store.put(quarantine_key(media), path, "image/jpeg")
    await append(
        settings,
        record(settings, topics.MEDIA_UPLOADED, owner, MediaRequested(
            media_id=media, owner_id=owner, kind="image", content_type="image/jpeg", size=len(content), sha256=sha256(content),
        )),
        record(settings, topics.MEDIA_UPLOADED, owner, MediaUploaded(media_id=media, owner_id=owner)),
    )
    file = tmp_path / "settings.json"
    file.write_text(settings.dump())
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED, place, media], env=os.environ | {SETTINGS_VARIABLE: str(file)}, timeout=180,
        check=False, capture_output=True,
    )
    assert done.returncode == 9, done.stderr.decode()[-2_000:]
    return owner, media


@pytest.mark.parametrize("place", PLACES)
async def test_a_writer_killed_in_the_middle_of_processing_loses_and_doubles_nothing(
    settings: Settings, tmp_path: Path, place: str
) -> None:
    _, media = await _killed(settings, tmp_path, place, 100 + PLACES.index(place))
    store = media_store(settings)
    assert state_of(settings, media) in ("uploaded", "ready", None)
    with writing(settings):
        await eventually(lambda: state_of(settings, media) == "ready")
        await eventually(lambda: store.size(quarantine_key(media)) is None)
        await eventually(_projected(settings, media))
    for key in (derivative_key(media, LARGE), derivative_key(media, THUMB), preview_key(media)):
        assert store.size(key)


async def test_what_a_killed_writer_stored_goes_with_its_media(settings: Settings, tmp_path: Path) -> None:
    owner, media = await _killed(settings, tmp_path, "before the outcome is in the log", 110)
    store, keys = media_store(settings), [derivative_key(media, LARGE), derivative_key(media, THUMB), preview_key(media)]
    assert all(store.size(key) for key in keys)
    await append(settings, record(
        settings, topics.MEDIA_UPLOADED, owner, MediaRemoved(media_id=media, owner_id=owner, reason="owner")
    ))
    with writing(settings):
        await eventually(lambda: all(store.size(key) is None for key in [*keys, quarantine_key(media)]))
    assert state_of(settings, media) == "removed"


def _projected(settings: Settings, media: str) -> Callable[[], bool]:
    def look() -> bool:
        with sync_client(settings) as client:
            value: Any = client.get(media_key(media))
            return value is not None and read_media(value).state == "ready"

    return look
