"""Where a creator has more followers than `content.fanout_followers`, feeds ask for the posts instead of being given them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from api_world import Person
from content_world import ContentWorld, content_world

from cluster.launch.bench.feeds import follow_in_rows
from configs.contracts.home import LARGE_CREATORS, home_key, home_member
from configs.groups.serving import Content

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentWorld]:
    async with content_world(tmp_path_factory.mktemp("content"), content=Content(fanout_followers=1)) as made:
        yield made


async def feeds(person: Person, *expected: str) -> bool:
    """Whether the feed is exactly this, in one page and in pages of one."""
    whole = [post["postId"] for post in (await person.ok("GET", "/content/feed"))["posts"]]
    paged: list[str] = []
    params: dict[str, object] = {"limit": 1}
    while len(paged) <= len(expected):
        page = await person.ok("GET", "/content/feed", params=params)
        paged += [post["postId"] for post in page["posts"]]
        if "nextCursor" not in page or page["nextCursor"] is None:
            break
        params["cursor"] = page["nextCursor"]
    return whole == paged == list(expected)


async def test_with_one_follower_more_than_the_setting_posts_are_asked_for(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.register("sugar_daddy")
    redis = world.dependencies.redis
    [follower] = await asyncio.to_thread(follow_in_rows, world.settings, creator.user_id, 1)

    async def added(post_id: str) -> bool:
        return await redis.zscore(home_key(follower), home_member(post_id, creator.user_id)) is not None

    given = (await world.post(creator))["postId"]
    await world.until(lambda: added(given))
    assert await redis.smembers(LARGE_CREATORS) == set(), "one follower is not more than one"

    await reader.ok("POST", f"/content/creators/{creator.user_id}/follow")
    await world.until(lambda: feeds(reader, given))
    asked = (await world.post(creator))["postId"]
    await world.until(lambda: redis.sismember(LARGE_CREATORS, creator.user_id))
    await world.until(lambda: feeds(reader, asked, given))
    assert not await added(asked)
    await redis.zrem(home_key(reader.user_id), home_member(asked, creator.user_id))
    assert await feeds(reader, asked, given), "one of them is only asked for, the other in the feed too, and each is there once"

    await reader.ok("DELETE", f"/content/creators/{creator.user_id}/follow")
    await world.until(lambda: feeds(reader))
    last = (await world.post(creator))["postId"]
    await reader.ok("POST", f"/content/creators/{creator.user_id}/follow")
    await world.until(lambda: feeds(reader, last, asked, given))
    assert not await added(last), "once large, always"
