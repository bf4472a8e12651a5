"""A media by its id: whoever a post is open to gets the media of it, everybody else hears that there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person
from content_world import ContentWorld, content_world

from cluster.connections.redis import apply_async
from configs.contracts.albums import media_key
from configs.contracts.content import media_posts_key
from configs.contracts.ids import new_id
from configs.contracts.selling import put_purchase
from writers.rebuild import clear, write_everything
from writers.reconcile import reconcile

pytestmark = pytest.mark.servers

PPV = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentWorld]:
    async with content_world(tmp_path_factory.mktemp("content")) as made:
        yield made


async def gets(person: Person, media_id: str) -> bool:
    """Whether the person gets the media; if not, the answer is that of an id that nobody knows."""
    answer = await person.ask("GET", f"/media/{media_id}")
    if answer.status_code == 200:
        view = answer.json()["view"]
        assert view["access"] == "full"
        assert media_id in view["url"]
        assert answer.headers["cache-control"] == "private, no-store"
        return True
    unknown: Any = (await person.ask("GET", f"/media/{new_id()}")).json()
    told: Any = answer.json()
    assert {name: told[name] for name in ("status", "code", "title")} == {name: unknown[name] for name in ("status", "code", "title")}
    assert told["code"] == "not_found"
    return False


async def pictured(world: ContentWorld, creator: Person, **fields: Any) -> tuple[str, str]:
    """(media, post) of a new post with a picture."""
    media = await world.media(creator, new_id())
    made = await world.post(creator, contentType="image", mediaIds=[media], **fields)
    return media, made["postId"]


async def bought(world: ContentWorld, buyer: Person, post_id: str, *, stands: bool, version: int) -> None:
    await apply_async(world.dependencies.redis, [put_purchase(buyer.user_id, post_id, stands=stands, version=version)])


async def test_what_was_bought_is_got_by_its_id_as_long_as_it_is_open(world: ContentWorld) -> None:
    creator = await world.creator()
    buyer, other, child = [await world.register("sugar_daddy") for _ in range(3)]
    for person in (buyer, other):
        await world.adult(person)
    media, post = await pictured(world, creator, access=PPV)
    assert await gets(creator, media)
    assert not await gets(buyer, media)
    for person in (buyer, child):
        await bought(world, person, post, stands=True, version=1)
    assert [await gets(person, media) for person in (buyer, other, child)] == [True, False, False]
    await creator.ok("DELETE", f"/content/posts/{post}")
    assert await gets(buyer, media), "unlisted, its buyers keep it"
    await creator.ok("POST", f"/users/{buyer.user_id}/block")
    assert not await gets(buyer, media)
    await creator.ok("DELETE", f"/users/{buyer.user_id}/block")
    assert await gets(buyer, media)
    await bought(world, buyer, post, stands=False, version=2)
    assert not await gets(buyer, media), "the money went back"


async def test_a_post_that_no_longer_shows_a_media_opens_it_no_longer(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.adult(await world.register("sugar_daddy"))
    media, post = await pictured(world, creator, access={"visibility": "public"})
    assert await gets(reader, media)
    await world.post(creator, contentType="image", mediaIds=[media], access=PPV)
    await creator.ok("PUT", f"/content/posts/{post}", json={"mediaIds": [await world.media(creator, new_id())]})
    await world.until(lambda: _is(reader, media, False))
    draft = await world.post(creator, contentType="image", mediaIds=[media], state="draft")
    assert not await gets(reader, media)
    await creator.ok("PUT", f"/content/posts/{draft['postId']}", json={"state": "published"})
    assert await gets(reader, media)
    await world.media(creator, media, review="rejected")
    assert not await gets(reader, media)


async def test_the_recipient_of_a_priced_message_gets_its_media_once_it_is_paid(world: ContentWorld) -> None:
    creator, buyer, other = await world.creator(), await world.register("sugar_daddy"), await world.register("sugar_daddy")
    for person in (buyer, other):
        await world.adult(person)
    await creator.swipe(buyer)
    await buyer.swipe(creator)
    media, post = await pictured(world, creator, access=PPV, recipientId=buyer.user_id)
    assert not await gets(buyer, media)
    await bought(world, buyer, post, stands=True, version=1)
    assert [await gets(buyer, media), await gets(other, media)] == [True, False]


async def test_what_names_a_medias_posts_is_warmed_rebuilt_and_mended(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.adult(await world.register("sugar_daddy"))
    media, post = await pictured(world, creator, access={"visibility": "public"})
    redis, named = world.dependencies.redis, media_posts_key(media)
    await redis.delete(media_key(media), named)
    await world.until(lambda: _is(reader, media, True))

    async def missed() -> bool:
        await redis.delete(named)  # the projection of the new post may write it once more
        report = await asyncio.to_thread(reconcile, world.settings)
        return (post, "media_post", media) in {(item.user_id, item.kind, item.name) for item in report.differences}

    await world.until(missed)
    await asyncio.to_thread(reconcile, world.settings, repair=True)
    assert await gets(reader, media)
    await asyncio.to_thread(clear, world.settings)
    assert not await redis.exists(named)
    await asyncio.to_thread(write_everything, world.settings)
    assert await gets(reader, media)


async def _is(person: Person, media_id: str, expected: bool) -> bool:
    return await gets(person, media_id) is expected
