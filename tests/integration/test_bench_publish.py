"""What `sugar bench publish` measures: when a post is in all feeds, and how swipes fare meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from content_world import ContentWorld, content_world

from cluster.embedded.ports import free_port
from cluster.launch.bench import feeds, publishing, requests

pytestmark = pytest.mark.servers

PEOPLE = 6


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentWorld]:
    async with content_world(tmp_path_factory.mktemp("content")) as made:
        yield made


async def test_swipes_are_measured_while_a_post_is_published_again_and_again(world: ContentWorld) -> None:
    settings = world.settings.model_copy(update={"port": free_port()})
    server = uvicorn.Server(
        uvicorn.Config(world.app, port=settings.port, lifespan="off", log_level="critical", access_log=False)
    )
    serving = asyncio.create_task(server.serve())
    await world.until(lambda: server.started)
    people = requests.callers(settings, [(await world.register()).user_id for _ in range(PEOPLE)])
    creator = await world.creator()
    names = sorted(await asyncio.to_thread(feeds.follow_in_rows, settings, creator.user_id, 3))
    published: list[Any] = []

    def publish() -> None:
        published.append(publishing.publish(settings, creator.user_id, names))

    swipes = requests.swipes(people, PEOPLE * (PEOPLE - 1), seed=0)
    measured = await asyncio.to_thread(
        publishing.swiped, settings, swipes, rate=len(swipes) / 2, seconds=2, meanwhile=publish
    )
    assert set(measured.outcome.statuses) == {"200"}
    assert measured.as_json()["p99_ms"] == measured.outcome.p99_ms > 0
    assert measured.behind >= 0
    assert published
    assert all(count == len(names) and seconds < publishing.ARRIVAL_S for seconds, count in published)
    await asyncio.to_thread(feeds.forget_followers, settings, creator.user_id, names)
    assert await asyncio.to_thread(publishing.swiped, settings, swipes[:1], rate=1, seconds=1), "alone, too"
    server.should_exit = True
    await serving
