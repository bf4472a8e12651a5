"""A picture that somebody passed on says who: their id is read from it again."""

from __future__ import annotations

import asyncio
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_world import picture
from PIL import Image
from pydantic import SecretStr

from cluster.connections.media.local import LocalStore
from cluster.connections.media.store import ObjectMissing
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.ids import new_id
from configs.contracts.media import LARGE, derivative_key
from configs.settings import Media, load_settings
from serve_apps.media import marking
from serve_apps.media.marking import Marking, mask_of


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    group = Media(url_key=SecretStr("ab" * 32))
    return LocalStore(load_settings("test", data_dir=tmp_path).model_copy(update={"media": group}))


def stored(store: LocalStore, tmp_path: Path, width: int, height: int) -> tuple[str, Any]:
    """A media whose large picture is in the store, and its pixels."""
    media_id, path = new_id(), tmp_path / "large"
    path.write_bytes(picture(3, width=width, height=height, form="WEBP", quality=90))
    content = path.read_bytes()
    store.put(derivative_key(media_id, LARGE), path, "image/webp")
    return media_id, pixels(content)


def pixels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)


def likeness(changed: Any, viewer_id: str) -> float:
    """How much brighter a picture became where an id would stand than elsewhere."""
    mask = mask_of(viewer_id, *changed.shape[:2])
    return float(changed[mask].mean() - changed[~mask].mean())


@pytest.mark.parametrize(("width", "height"), [(2_048, 1_365), (640, 800), (400, 400), (240, 240)])
async def test_whose_picture_it_was_is_read_from_a_copy_of_a_copy(store: LocalStore, tmp_path: Path, width: int, height: int) -> None:
    media_id, original = stored(store, tmp_path, width, height)
    viewers = [new_id() for _ in range(20)]
    made = await Marking(store).picture(media_id, LARGE, viewers[7])
    copy = io.BytesIO()
    Image.open(io.BytesIO(made)).save(copy, "JPEG", quality=60)
    for content in (made, copy.getvalue()):
        changed = pixels(content) - original
        assert changed.shape == original.shape
        assert max(viewers, key=lambda viewer: likeness(changed, viewer)) == viewers[7]
        assert abs(changed).mean() < 20, "the picture itself stays"


async def test_each_viewer_gets_a_picture_of_their_own_that_is_made_once(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_id, _ = stored(store, tmp_path, 320, 240)
    made = Marking(store)
    one, other = [await made.picture(media_id, LARGE, viewer) for viewer in ("0" * 32, "f" * 32)]
    assert one != other
    store.delete([derivative_key(media_id, LARGE)])
    assert await made.picture(media_id, LARGE, "0" * 32) == one
    with pytest.raises(ObjectMissing):
        await made.picture(media_id, LARGE, "1" * 32)
    monkeypatch.setattr(marking, "KEPT_BYTES", len(one) + len(other) - 1)
    media_id, _ = stored(store, tmp_path, 320, 240)
    await made.picture(media_id, LARGE, "0" * 32)
    assert sum(map(len, made._kept.values())) < len(one) + len(other)


async def test_more_requests_than_may_wait_are_refused_and_the_others_answered(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_id, _ = stored(store, tmp_path, 320, 240)
    made, go = Marking(store), threading.Event()
    monkeypatch.setattr(marking, "WAITING", 3)
    really = made._make
    monkeypatch.setattr(made, "_make", lambda *names: go.wait(10) and really(*names))
    asked = [asyncio.create_task(made.picture(media_id, LARGE, str(number) * 32)) for number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(DependencyUnavailable):
        await made.picture(media_id, LARGE, "9" * 32)
    go.set()
    assert len({await task for task in asked}) == 3
