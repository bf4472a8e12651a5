"""Uploads through the API: what is granted, refused and limited, and that nothing wrong changes anything."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from api_world import World, forged
from local_http import local_client
from log_reading import records_of
from media_world import picture, put, sha256, upload_body, uploaded
from PIL import Image

from cluster.connections.redis import apply_async
from configs.contracts.albums import put_media
from configs.contracts.ids import new_id
from configs.contracts.media import LARGE, POSTER, THUMB, MediaRecord, derivative_key
from configs.settings import Settings

pytestmark = pytest.mark.servers


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_an_upload_is_granted_made_and_completed_once(world: World) -> None:
    person = await world.register()
    content = picture()
    body = upload_body(content)
    granted = await person.ok("POST", "/media/uploads", json=body, key="one")
    again = await person.ok("POST", "/media/uploads", json=body, key="one")
    assert again["mediaId"] == granted["mediaId"]
    other = upload_body(content + b"x")
    assert code(await person.ask("POST", "/media/uploads", json=other, key="one")) == (409, "idempotency_conflict")
    media = granted["mediaId"]
    early = await person.ask("POST", f"/media/uploads/{media}/complete")
    assert code(early) == (409, "upload_incomplete")
    assert (await person.ok("GET", f"/media/{media}"))["state"] == "pending"
    async with local_client() as store:
        await put(store, again, content)
    for _ in range(2):
        assert (await person.ok("POST", f"/media/uploads/{media}/complete"))["state"] == "uploaded"
    assert (await person.ok("GET", f"/media/{media}"))["view"] is None, "nothing can be got before it was processed"


async def test_a_key_names_a_removed_media_also_once_its_album_has_forgotten_it(
    world: World, servers: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("configs.contracts.albums.REMOVED", 1)
    person = await world.register()
    for key in ("one", "two"):
        media = (await person.ok("POST", "/media/uploads", json=upload_body(picture()), key=key))["mediaId"]
        await person.ok("DELETE", f"/media/{media}")
    before = await asyncio.to_thread(records_of, servers, "media.uploaded", person.user_id)
    for key in ("one", "two"):
        again = await person.ok("POST", "/media/uploads", json=upload_body(picture()), key=key)
        assert (again["state"], again["requests"]) == ("removed", [])
    assert await asyncio.to_thread(records_of, servers, "media.uploaded", person.user_id) == before


async def test_a_large_file_is_uploaded_in_parts(make_world: Callable[..., Awaitable[World]], world: World) -> None:
    media = world.settings.media.model_copy(update={"multipart_bytes": 5 << 20})
    person = await (await make_world(media=media)).register()
    content = bytes(range(256)) * (6 << 12)  # 6 MiB
    granted = await person.ok("POST", "/media/uploads", json=upload_body(content))
    assert [request["bytes"] for request in granted["requests"]] == [5 << 20, 1 << 20]
    async with local_client(timeout=60) as store:
        first = granted["requests"][0]
        await store.put(first["url"], content=content[: 5 << 20], headers=first["headers"])
        path = f"/media/uploads/{granted['mediaId']}/complete"
        assert code(await person.ask("POST", path)) == (409, "upload_incomplete")
        await put(store, granted, content)
    assert (await person.ok("POST", path))["state"] == "uploaded"


@pytest.mark.parametrize("change", [
    {"bytes": 0}, {"bytes": -1}, {"bytes": 1.5}, {"sha256": "ab"}, {"sha256": "AB" * 32}, {"contentType": "image/svg+xml"},
    {"contentType": "text/html"}, {"contentType": "video/mp4"}, {"kind": "audio"}, {"url": "https://example.com/x.jpg"},
    {"ownerId": new_id()},
])
async def test_an_upload_that_is_not_what_is_documented(world: World, change: dict[str, object]) -> None:
    person = await world.register()
    body = upload_body(picture()) | change
    assert code(await person.ask("POST", "/media/uploads", json=body)) == (422, "invalid")


async def test_an_upload_that_is_too_large(world: World) -> None:
    person = await world.register()
    body = upload_body(picture()) | {"bytes": world.settings.media.image_bytes + 1}
    assert code(await person.ask("POST", "/media/uploads", json=body)) == (413, "body_too_large")


async def test_nobody_reaches_another_persons_media(world: World) -> None:
    owner, other = await world.register(), await world.register()
    media = await uploaded(owner, picture(1))
    for method, path in (
        ("GET", f"/media/{media}"), ("POST", f"/media/uploads/{media}/complete"), ("DELETE", f"/media/{media}"),
        ("GET", f"/media/{new_id()}"), ("DELETE", f"/media/{new_id()}"),
    ):
        assert code(await other.ask(method, path)) == (404, "not_found")
    photos = await other.ask("PUT", "/users/me/photos", json={"mediaIds": [media]})
    assert code(photos) == (422, "media_unknown")
    assert (await owner.ok("GET", f"/media/{media}"))["state"] == "uploaded"
    unsigned = await world.client.get(f"/api/v1/media/{media}/playlist.m3u8?expires=9999999999&signature={'0' * 64}")
    assert code(unsigned) == (404, "not_found")


async def test_a_picture_is_delivered_with_its_viewers_id_where_that_is_wanted(
    make_world: Callable[..., Awaitable[World]], world: World, tmp_path: Path
) -> None:
    """Only under a URL that was signed for it, only to who is signed in, and each gets their own."""
    marking = await make_world(media=world.settings.media.model_copy(update={"watermark": True}))
    owner, other = await marking.register(), await marking.register()
    media, path = new_id(), tmp_path / "large"
    path.write_bytes(picture(8, form="WEBP"))
    marking.dependencies.media_store.put(derivative_key(media, LARGE), path, "image/webp")
    record = MediaRecord(media, owner.user_id, "image", state="ready", review="approved", derivatives=(LARGE, THUMB))
    await apply_async(marking.dependencies.redis, [put_media(record, 1)])
    url = (await owner.ok("GET", f"/media/{media}"))["view"]["url"].removeprefix("/api/v1")
    answers = [await person.ask("GET", url) for person in (owner, other)]
    assert [(answer.status_code, answer.headers["content-type"]) for answer in answers] == [(200, "image/webp")] * 2
    assert answers[0].headers["cache-control"] == "private, no-store"
    assert answers[0].content != answers[1].content
    assert code(await marking.client.get(f"/api/v1{url}")) == (401, "unauthenticated")
    for wrong in (forged(url), url.replace(media, new_id())):
        assert code(await other.ask("GET", wrong)) == (404, "not_found")
    await apply_async(marking.dependencies.redis, [put_media(msgspec.structs.replace(record, state="removed"), 2)])
    assert code(await other.ask("GET", url)) == (404, "not_found")


async def test_thumbs_and_posters_are_marked_too(
    make_world: Callable[..., Awaitable[World]], world: World, tmp_path: Path
) -> None:
    """Each is the derivative that was asked for, no other name of the store is reached, and none that the media does not have."""
    marking = await make_world(media=world.settings.media.model_copy(update={"watermark": True}))
    owner, path = await marking.register(), tmp_path / "picture"
    for kind, names in (("image", (LARGE, THUMB)), ("video", (POSTER, THUMB))):
        media = new_id()
        for width, name in enumerate((*names, "480p.mp4"), 3):
            path.write_bytes(picture(8, width=width * 100, form="WEBP"))
            marking.dependencies.media_store.put(derivative_key(media, name), path, "image/webp")
        record = MediaRecord(media, owner.user_id, kind, state="ready", derivatives=(*names, "480p.mp4"))
        await apply_async(marking.dependencies.redis, [put_media(record, 1)])
        view = (await owner.ok("GET", f"/media/{media}"))["view"]
        urls = [view["url"] if kind == "image" else view["posterUrl"], view["thumbUrl"]]
        for width, url in zip((300, 400), urls, strict=True):
            answer = await owner.ask("GET", url.removeprefix("/api/v1"))
            assert Image.open(io.BytesIO(answer.content)).width == width
        thumb = urls[1].removeprefix("/api/v1")
        absent = "poster" if kind == "image" else "large"
        assert code(await owner.ask("GET", thumb.replace("thumb", absent))) == (404, "not_found")
        for wrong in ("480p.mp4", "thumb.webp", "../preview", ""):
            assert code(await owner.ask("GET", thumb.replace("name=thumb", f"name={wrong}"))) == (422, "invalid")


async def test_what_one_person_may_have_is_limited(make_world: Callable[..., Awaitable[World]], world: World) -> None:
    """The shard's limits are the servers' (20 open uploads): the 21st waits until one is complete or too old."""
    person = await world.register()
    body = upload_body(picture())
    for _ in range(world.settings.media.open_uploads_per_user):
        await person.ok("POST", "/media/uploads", json=body)
    answer = await person.ask("POST", "/media/uploads", json=body)
    assert code(answer) == (429, "too_many_requests")
    assert 0 < int(answer.headers["retry-after"]) <= world.settings.media.upload_ttl_s


async def test_uploads_of_one_person_are_limited_a_day(make_world: Callable[..., Awaitable[World]], world: World) -> None:
    """What is gone counts on, and a repeated request is no other upload."""
    strict = await make_world(limits=world.settings.limits.model_copy(update={"uploads_per_user_a_day": 2}))
    one, other = await strict.register(), await strict.register()
    body = upload_body(picture())
    for key in ("one", "two"):
        granted = await one.ok("POST", "/media/uploads", json=body, key=key)
    await one.ok("DELETE", f"/media/{granted['mediaId']}")
    refused = await one.ask("POST", "/media/uploads", json=body, key="three")
    assert code(refused) == (429, "too_many_requests")
    assert 43_200 - 60 < int(refused.headers["retry-after"]) <= 43_200
    again = await one.ok("POST", "/media/uploads", json=body, key="one")
    assert again["mediaId"] != granted["mediaId"]
    await other.ok("POST", "/media/uploads", json=body)


async def test_photos_are_ones_own_complete_images_in_order(world: World) -> None:
    person = await world.register()
    one, two = [await uploaded(person, picture(seed)) for seed in (2, 3)]
    pending = (await person.ok("POST", "/media/uploads", json=upload_body(picture(4))))["mediaId"]
    arranged = await person.ok("PUT", "/users/me/photos", json={"mediaIds": [two, one]}, key="first")
    assert [photo["mediaId"] for photo in arranged["photos"]] == [two, one]
    for wrong in ([pending], [one, one], [new_id()], [one] * 10, ["x"]):
        assert (await person.ask("PUT", "/users/me/photos", json={"mediaIds": wrong})).status_code == 422
    await person.ok("PUT", "/users/me/photos", json={"mediaIds": [one]})
    late = await person.ok("PUT", "/users/me/photos", json={"mediaIds": [two, one]}, key="first")
    assert [photo["mediaId"] for photo in late["photos"]] == [one], "a late retry brings nothing back"
    assert code(await person.ask("PUT", "/users/me/photos", json={"mediaIds": [two]}, key="first")) == (409, "idempotency_conflict")
    me = await person.ok("GET", "/users/me")
    assert (me["avatarUrl"], me["photos"]) == (None, []), "nothing shows before it was approved"
    assert [photo["mediaId"] for photo in (await person.ok("GET", "/users/me/photos"))["photos"]] == [one]


async def test_what_is_removed_is_gone_for_its_owner_too(world: World) -> None:
    person = await world.register()
    media = await uploaded(person, picture(5))
    await person.ok("DELETE", f"/media/{media}")
    for method, path in (("GET", f"/media/{media}"), ("DELETE", f"/media/{media}")):
        assert code(await person.ask(method, path)) == (404, "not_found")


WRONG: dict[str, Callable[[bytes], tuple[bytes, dict[str, str]]]] = {
    "another checksum": lambda content: (content[::-1], {}),
    "too short": lambda content: (content[:-1], {}),
    "too long": lambda content: (content + b"x", {}),
    "zero bytes": lambda content: (b"", {}),
    "a length that is a lie": lambda content: (content[:-1], {"Content-Length": str(len(content) - 1)}),
    "another type": lambda content: (content, {"Content-Type": "text/html"}),
    "svg": lambda content: (content, {"Content-Type": "image/svg+xml"}),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_the_store_takes_exactly_what_was_announced(world: World, kind: str) -> None:
    person = await world.register()
    content = picture(6)
    granted = await person.ok("POST", "/media/uploads", json=upload_body(content))
    (request,) = granted["requests"]
    wrong, changed = WRONG[kind](content)
    async with local_client() as store:
        headers = {**request["headers"], "Content-Length": str(len(wrong)), **changed}
        assert (await store.put(request["url"], content=wrong, headers=headers)).status_code in (400, 403)
    complete = await person.ask("POST", f"/media/uploads/{granted['mediaId']}/complete")
    assert code(complete) == (409, "upload_incomplete")
    assert sha256(content) not in complete.text


async def test_nobody_uploads_under_somebody_elses_key(world: World) -> None:
    """A signed upload is good for its own key, and an id leads to no upload of another person's."""
    mine, other = await world.register(), await world.register()
    content = picture(7)
    granted, theirs = [
        await person.ok("POST", "/media/uploads", json=upload_body(content)) for person in (mine, other)
    ]
    (request,) = granted["requests"]
    async with local_client() as store:
        url = request["url"].replace(granted["mediaId"], theirs["mediaId"])
        assert url != request["url"]
        headers = {**request["headers"], "Content-Length": str(len(content))}
        assert (await store.put(url, content=content, headers=headers)).status_code == 403
    complete = f"/media/uploads/{theirs['mediaId']}/complete"
    assert code(await mine.ask("POST", complete)) == (404, "not_found")
    assert code(await other.ask("POST", complete)) == (409, "upload_incomplete"), "nothing came there"
