"""From an upload through the API to what others get, and back out again: with the writers' consumers and real rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_world import Person, World
from local_http import local_client
from log_writing import append, eventually, record
from media_world import picture, put, sha256, upload_body, uploaded, video

from actors.media.commands import Found, RemoveMedia, ReviewMedia
from cluster.connections.media.store import media_store
from cluster.connections.redis import sync_client
from configs.contracts import topics
from configs.contracts.albums import MediaRow, media_key
from configs.contracts.events import MediaRemoved, MediaRestored, Payload
from configs.contracts.ids import new_id
from configs.contracts.media import (
    LARGE,
    THUMB,
    MediaRecord,
    derivative_key,
    preserved_key,
    preview_key,
    quarantine_key,
    withheld_key,
)
from configs.contracts.moderation import APPEAL_WINDOW
from configs.settings import Settings
from writers.connections import open_rows
from writers.differences import media_differences
from writers.loads.media import albums, media_rows
from writers.media.block_lists import CSAM, add, counts, matches
from writers.media.processing import Processing
from writers.pruning import prune
from writers.withheld import end_withheld
from writers.worker import Writer

pytestmark = pytest.mark.servers


@contextmanager
def writing(settings: Settings) -> Iterator[Writer]:
    """The writer of all partitions, without the keeper of the read model, which would rebuild it."""
    fenced: list[str] = []
    running = Writer(settings, 0, fenced=fenced.append)
    running._once = []
    running.start()
    try:
        yield running
    finally:
        running.stop()
    assert not fenced


@pytest.fixture(scope="module")
def settings(servers: Settings) -> Settings:
    return servers.model_copy(update={"plan": servers.plan.model_copy(update={"writer_actors": 1})})


@pytest.fixture(scope="module")
def writer(settings: Settings) -> Iterator[Writer]:
    with writing(settings) as running:
        yield running


async def shown(person: Person, media_id: str, **expected: str) -> dict[str, Any]:
    """The media once it is as expected, as a person sees it."""
    async with asyncio.timeout(120):
        while True:
            answer = await person.ask("GET", f"/media/{media_id}")
            if answer.status_code == 200 and expected.items() <= answer.json().items():
                return answer.json()  # type: ignore[no-any-return]
            await asyncio.sleep(0.1)


async def reviewed(world: World, owner: Person, media_id: str, verdict: Any) -> None:
    """What the moderation's decision does."""
    async with asyncio.timeout(60):
        while not isinstance(await world.dependencies.media.review(ReviewMedia(
            owner_id=owner.user_id, media_id=media_id, verdict=verdict, decision_id=new_id()
        )), Found):
            await asyncio.sleep(0.1)


async def test_a_photo_is_shown_to_others_once_it_was_approved_and_gone_once_it_was_taken_down(
    world: World, writer: Writer, settings: Settings
) -> None:
    owner, other = await world.register(), await world.register("sugar_daddy")
    content = picture(31)
    media = await uploaded(owner, content)
    ready = await shown(owner, media, state="ready", review="pending")
    store = media_store(settings)
    await eventually(lambda: store.size(quarantine_key(media)) is None)
    async with local_client(timeout=60) as client:
        for name in ("url", "thumbUrl", "previewUrl"):
            answer = await client.get(ready["view"][name])
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
            assert answer.headers["cache-control"] == "private, no-store"
        await owner.ok("PUT", "/users/me/photos", json={"mediaIds": [media]})
        assert (await other.ask("GET", f"/media/{media}")).status_code == 404
        assert (await other.ok("GET", f"/users/profile/{owner.user_id}"))["avatarUrl"] is None, "not reviewed yet"

        await reviewed(world, owner, media, "approved")
        await shown(other, media, review="approved")
        profile = await other.ok("GET", f"/users/profile/{owner.user_id}")
        assert [photo["mediaId"] for photo in profile["photos"]] == [media]
        assert (await client.get(profile["avatarUrl"])).status_code == 200
        assert sha256(content) not in str(profile)

        await owner.ok("POST", f"/users/{other.user_id}/block")
        assert (await other.ask("GET", f"/media/{media}")).status_code == 404
        await owner.ok("DELETE", f"/users/{other.user_id}/block")

        removed = await world.dependencies.media.remove(RemoveMedia(
            owner_id=owner.user_id, media_id=media, reason="moderation", block=True
        ))
        assert isinstance(removed, Found)
        await eventually(lambda: store.size(derivative_key(media, LARGE)) is None)
        await eventually(lambda: store.size(preview_key(media)) is None)
        assert store.size(preserved_key(media)), "evidence is kept"
        assert (await client.get(profile["avatarUrl"])).status_code == 404, "also under URLs that are out already"
    async with asyncio.timeout(20):
        for person in (owner, other):
            while (await person.ask("GET", f"/media/{media}")).status_code != 404:
                await asyncio.sleep(0.1)
    async with asyncio.timeout(20):
        while (await other.ok("GET", f"/users/profile/{owner.user_id}"))["avatarUrl"] is not None:
            await asyncio.sleep(0.1)

    again = await uploaded(other, picture(31, quality=60))
    rejected = await shown(other, again, state="rejected")
    assert (rejected["reason"], rejected["view"]) == ("blocked", None), "nobody uploads it again"

    with open_rows(settings, "test") as conn, sync_client(settings) as client:
        rows = media_rows(conn, (media, again))
        assert rows[media].blocked
        assert rows[media].preserved
        assert media_differences(client, rows) == []
        album = albums(conn, (owner.user_id,))[owner.user_id]
        assert (album.photos, album.shown(), dict(album.media), album.removed) == ((media,), (), {}, (media,))
        client.delete(media_key(media))
        assert [found.user_id for found in media_differences(client, rows)] == [media]


@pytest.mark.parametrize("kind", ["image", "video"])
async def test_what_is_removed_while_it_is_processed_leaves_nothing(
    world: World, writer: Writer, settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    owner, store = await world.register(), media_store(settings)
    stored: dict[str, list[str]] = {}
    removed = threading.Event()
    put_derivatives = Processing._put

    def put(self: Processing, record: MediaRecord, out: Path, facts: Mapping[str, Any]) -> None:
        put_derivatives(self, record, out, facts)
        if record.owner_id == owner.user_id:
            stored[record.media_id] = [derivative_key(record.media_id, name) for name in facts["derivatives"]]
            assert removed.wait(60)

    monkeypatch.setattr(Processing, "_put", put)
    content, content_type = (picture(51), "image/jpeg") if kind == "image" else (video(1.0, seed=51), "video/mp4")
    media = await uploaded(owner, content, kind, content_type)
    await eventually(lambda: media in stored)
    keys = [*stored[media], preview_key(media)]
    assert all(store.size(key) for key in keys)
    assert (await owner.ask("DELETE", f"/media/{media}")).status_code in (200, 204)

    def state() -> str:
        with open_rows(settings, "test") as conn:
            return media_rows(conn, (media,))[media].record.state

    await eventually(lambda: state() == "removed")
    removed.set()
    await eventually(lambda: all(store.size(key) is None for key in [*keys, quarantine_key(media)]))
    assert state() == "removed"


async def test_what_a_decision_withholds_is_served_nowhere_and_goes_with_its_owner(
    world: World, writer: Writer, settings: Settings
) -> None:
    owner, decision = await world.register(), new_id()
    media = await uploaded(owner, picture(37))
    ready = await shown(owner, media, state="ready")
    store, served = media_store(settings), [derivative_key(media, LARGE), derivative_key(media, THUMB), preview_key(media)]
    withheld = [withheld_key(media, key) for key in served]
    url = ready["view"]["url"]

    def there(keys: list[str]) -> list[bool]:
        return [store.size(key) is not None for key in keys]

    async def told(payload: Payload) -> None:
        await append(settings, record(settings, topics.MEDIA_UPLOADED, owner.user_id, payload))

    removal = MediaRemoved(media_id=media, owner_id=owner.user_id, reason="moderation", decision_id=decision)
    for _ in range(2):  # again: nothing more happens
        await told(removal)
        await eventually(lambda: there(withheld) == [True] * 3 and there(served) == [False] * 3)
    async with local_client(timeout=60) as client:
        assert (await client.get(url)).status_code == 404
        assert (await client.get(url.replace("/media/", "/withheld/"))).status_code in (403, 404)
    assert store.size(preserved_key(media)), "evidence"
    await told(MediaRestored(media_id=media, owner_id=owner.user_id, decision_id=decision))
    await eventually(lambda: there(withheld) == [False] * 3 and there(served) == [True] * 3)
    await told(msgspec.structs.replace(removal, decision_id=new_id()))
    await eventually(lambda: there(withheld) == [True] * 3)
    await told(MediaRemoved(media_id=media, owner_id=owner.user_id, reason="account_deleted"))
    await eventually(lambda: there(withheld) == [False] * 3 and there(served) == [False] * 3)


async def test_withheld_files_go_for_good_once_their_decision_is_final(world: World, writer: Writer, settings: Settings) -> None:
    owner, now, store = await world.register(), datetime.now(UTC), media_store(settings)
    late, waiting = now - APPEAL_WINDOW - timedelta(minutes=1), now - 2 * APPEAL_WINDOW
    decided = {"lately": (now, False, None), "late": (late, False, None), "waits": (waiting, True, None), "refused": (now, True, "upheld")}
    media: dict[str, str] = {}
    for number, (name, (at, appealed, outcome)) in enumerate(decided.items()):
        media[name], decision = await uploaded(owner, picture(41 + number)), new_id()
        await shown(owner, media[name], state="ready")
        await append(settings, record(settings, topics.MEDIA_UPLOADED, owner.user_id, MediaRemoved(
            media_id=media[name], owner_id=owner.user_id, reason="moderation", decision_id=decision,
        )))
        with open_rows(settings, "test") as conn:
            conn.execute(
                "INSERT INTO decisions VALUES (%s, %s, 'media', %s, 'remove', 'other', '', 'somebody', %s, 1, 1)",
                (media[name], decision, owner.user_id, at),
            )
            if appealed:
                conn.execute(
                    "INSERT INTO appeals VALUES (%s, %s, %s, %s, '', now(), now(), %s, NULL, NULL, NULL, 1)",
                    (media[name], decision, new_id(), owner.user_id, outcome),
                )

    def kept() -> set[str]:
        return {name for name, media_id in media.items() if store.size(withheld_key(media_id, preview_key(media_id))) is not None}

    def look() -> tuple[int, Mapping[str, MediaRow]]:
        with open_rows(settings, "test") as conn:
            ended = end_withheld(settings, conn, now)
            return ended, albums(conn, (owner.user_id,))[owner.user_id].withheld

    await eventually(lambda: kept() == media.keys())
    await eventually(lambda: look()[1].keys() == {media["lately"], media["waits"]})
    await eventually(lambda: kept() == {"lately", "waits"})
    assert look()[0] == 0, "the others may be reversed"
    for name in ("late", "refused"):
        assert store.size(preserved_key(media[name])), "evidence"
        assert store.size(derivative_key(media[name], LARGE)) is None


async def test_parts_that_are_not_what_was_announced_are_rejected_once_they_are_read(
    make_world: Callable[..., Awaitable[World]], world: World, writer: Writer, settings: Settings
) -> None:
    """No store tells the SHA-256 of an upload in parts, so `complete` takes it for uploaded."""
    parts = world.settings.media.model_copy(update={"multipart_bytes": 5 << 20})
    owner = await (await make_world(media=parts)).register()
    content = picture(35).ljust(6 << 20, b"x")
    body = upload_body(content) | {"sha256": sha256(content[::-1])}
    granted = await owner.ok("POST", "/media/uploads", json=body)
    assert len(granted["requests"]) == 2
    async with local_client(timeout=60) as client:
        await put(client, granted, content)
    media = granted["mediaId"]
    assert (await owner.ok("POST", f"/media/uploads/{media}/complete"))["state"] == "uploaded"
    rejected = await shown(owner, media, state="rejected")
    assert (rejected["reason"], rejected["view"]) == ("checksum_mismatch", None)
    store = media_store(settings)
    await eventually(lambda: store.size(quarantine_key(media)) is None)
    assert store.size(derivative_key(media, LARGE)) is None


async def test_a_video_is_played_by_signed_playlists_and_segments(world: World, writer: Writer) -> None:
    owner, other = await world.register(), await world.register("sugar_daddy")
    media = await uploaded(owner, video(2.5), "video", "video/mp4")
    view = (await shown(owner, media, state="ready"))["view"]
    assert view["durationMs"] > 2_000
    assert view["url"].startswith(f"/api/v1/media/{media}/playlist.m3u8?")
    master = await world.client.get(view["url"])
    assert (master.status_code, master.headers["cache-control"]) == (200, "private, no-store")
    (variant,) = [line for line in master.text.splitlines() if not line.startswith("#")]
    playlist = await world.client.get(variant)
    assert playlist.status_code == 200, playlist.text
    lines = playlist.text.splitlines()
    segment = next(line for line in lines if not line.startswith("#"))
    size, start = next(line for line in lines if line.startswith("#EXT-X-BYTERANGE")).partition(":")[2].split("@")
    async with local_client(timeout=60) as client:
        for url in (view["posterUrl"], view["thumbUrl"], view["previewUrl"]):
            assert (await client.get(url)).status_code == 200
        part = await client.get(segment, headers={"Range": f"bytes={start}-{int(start) + int(size) - 1}"})
        assert (part.status_code, len(part.content)) == (206, int(size))
        assert (await client.get(segment.partition("?")[0])).status_code == 403, "segments are signed too"
    for wrong in (
        view["url"].replace("expires=", "expires=1"), view["url"].replace(media, new_id()),
        view["url"].partition("&signature")[0] + "&signature=" + "0" * 64,
    ):
        assert (await world.client.get(wrong)).status_code == 404
    assert (await other.ask("GET", f"/media/{media}")).status_code == 404
    await owner.ok("DELETE", f"/media/{media}")
    assert (await world.client.get(view["url"])).status_code == 404, "a playlist ends with its media"


async def test_an_upload_that_nobody_completed_is_forgotten_after_a_week(
    world: World, writer: Writer, settings: Settings
) -> None:
    owner = await world.register()
    old, young = [
        (await owner.ok("POST", "/media/uploads", json=upload_body(picture(seed))))["mediaId"] for seed in (34, 35)
    ]
    with open_rows(settings, "test") as conn:
        await eventually(lambda: len(media_rows(conn, (old, young))) == 2)
        with sync_client(settings) as client:  # the projection comes after the rows
            await eventually(lambda: client.exists(media_key(old), media_key(young)) == 2)
        conn.execute("UPDATE media SET created_at = now() - interval '8 days' WHERE id = %s", (old,))
        assert (await asyncio.to_thread(prune, settings))["abandoned_uploads"] >= 1
        assert list(media_rows(conn, (old, young))) == [young]
    with sync_client(settings) as client:
        assert client.exists(media_key(old), media_key(young)) == 1
    async with asyncio.timeout(20):  # what is known to be there not, is known for a second
        while (await owner.ask("GET", f"/media/{old}")).status_code != 404:
            await asyncio.sleep(0.1)
    assert (await owner.ok("GET", f"/media/{young}"))["state"] == "pending"


async def test_what_is_on_the_child_abuse_list_is_preserved_and_shown_to_nobody(
    world: World, writer: Writer, settings: Settings
) -> None:
    owner = await world.register()
    first = await uploaded(owner, picture(33))
    await shown(owner, first, state="ready")
    with open_rows(settings, "test") as conn:
        add(conn, CSAM, "test", media_rows(conn, (first,))[first].hashes)
    content = picture(33, quality=55)
    second = await uploaded(owner, content)
    answer = await shown(owner, second, state="rejected")
    assert answer["reason"] == "blocked"
    assert "csam" not in str(answer), "who uploads it learns no more than of any other list"
    store = media_store(settings)
    assert store.size(preserved_key(second)) == len(content)
    assert store.size(derivative_key(second, THUMB)) is None
    await eventually(lambda: store.size(quarantine_key(second)) is None)
    with open_rows(settings, "test") as conn:
        row = conn.execute("SELECT matched, preserved FROM media WHERE id = %s", (second,)).fetchone()
        assert matches(conn, CSAM, 1)[0].record.media_id == second
        assert (CSAM, 7) in [found[:2] for found in counts(conn)]
    assert row == (CSAM, True)
