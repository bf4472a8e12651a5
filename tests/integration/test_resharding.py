"""Before partitions change nobody may have left a record behind; afterwards keys' new shards are ahead of their old ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from log_writing import append, record

from cluster.connections.kafka import barrier
from cluster.launch.drain import drained
from cluster.launch.prepare import prepare
from cluster.launch.resharding import check_taken, reshard
from cluster.launch.servers import EmbeddedServers
from configs.contracts import topics
from configs.contracts.errors import ConfigurationError, RecordsWaiting
from configs.contracts.events import ContentPublished, PostAccess, UserCreated
from configs.contracts.ids import new_id, partition_of
from configs.settings import Settings
from writers.buckets import rewrite
from writers.connections import open_rows
from writers.consumers.feeds import Feeds
from writers.loads.log import claim_epochs
from writers.worker import Writer

pytestmark = pytest.mark.servers

NAMES = [topic.name for topic in topics.TOPICS]
SWIPE = "INSERT INTO swipes VALUES (%s, %s, now(), 1, 1, %s, true, NULL)"


def at(settings: Settings, partitions: int) -> Settings:
    return settings.model_copy(update={"log": settings.log.model_copy(update={"partitions": partitions})})


async def test_a_record_that_nobody_took_in_keeps_the_topics_and_a_barrier_does_not(
    fresh_servers: Callable[[], EmbeddedServers], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepare(fresh_servers().settings())
    await append(settings, *(barrier(name, 0) for name in NAMES))
    await asyncio.to_thread(check_taken, settings, NAMES)

    user, one_writer = new_id(), settings.model_copy(update={"plan": settings.plan.model_copy(update={"writer_actors": 1})})
    await append(settings, record(settings, topics.USER_CREATED, user, UserCreated(
        user_id=user, role="sugar_baby", display_name="Ada", birth_date="1994-05-17"
    )))
    with pytest.raises(RecordsWaiting) as raised:
        await asyncio.to_thread(check_taken, settings, NAMES)
    assert raised.value.details["records"] == {"user.created": 1}

    writer = Writer(one_writer, 0)
    writer.start()
    try:
        with open_rows(settings, "test") as conn:
            while conn.execute("SELECT FROM users WHERE id = %s", (user,)).fetchone() is None:
                await asyncio.sleep(0.05)
        with pytest.raises(ConfigurationError, match="stop it first"):
            await asyncio.to_thread(reshard, settings, print)
        # One of the consumers is slower than the rows.
        slow, handle = threading.Event(), Feeds.handle

        def handle_late(*given: Any) -> None:
            slow.wait(60)
            handle(*given)

        monkeypatch.setattr(Feeds, "handle", handle_late)
        await append(settings, record(settings, topics.CONTENT_PUBLISHED, user, ContentPublished(
            post_id=new_id(), creator_id=user, content_type="text", caption="words", access=PostAccess(visibility="public")
        )))
        asyncio.get_running_loop().call_later(3, slow.set)
        assert await drained(settings)
        await asyncio.to_thread(check_taken, settings, NAMES)
    finally:
        writer.stop()


def test_buckets_follow_the_number_of_partitions(servers: Settings) -> None:
    swipers = [new_id() for _ in range(40)]
    with open_rows(servers, "test") as conn:
        for swiper in swipers:
            for _ in range(2):
                conn.execute(SWIPE, (swiper, new_id(), partition_of(swiper, servers.log.partitions)))

        def agree(partitions: int) -> bool:
            stored = conn.execute(
                "SELECT swiper_id::text, bucket FROM swipes WHERE swiper_id = ANY(%s)", (swipers,)
            ).fetchall()
            return len(stored) == 80 and all(bucket == partition_of(swiper, partitions) for swiper, bucket in stored)

        assert not agree(64)
        seen: list[int] = []
        assert rewrite(at(servers, 64), seen.append) > 0
        assert agree(64)
        assert seen
        assert rewrite(at(servers, 64), seen.append) == 0
        assert rewrite(servers, seen.append) > 0
        assert agree(servers.log.partitions)


def test_an_epoch_is_above_those_of_every_shard_of_its_kind(servers: Settings) -> None:
    kind = f"test-{new_id()}"
    with open_rows(servers, "test") as conn:
        assert claim_epochs(conn, kind, [0, 1]) == {0: 1, 1: 1}
        often = [claim_epochs(conn, kind, [9])[9] for _ in range(3)]
        assert 1 < often[0] < often[1] < often[2], "a shard that died often"
        # With four partitions its conversations are shard 1's.
        (after,) = claim_epochs(conn, kind, [1]).values()
        assert after > often[2]
        both = claim_epochs(conn, kind, [0, 1])
        assert both[0] == both[1] > after


def test_an_epoch_is_above_those_that_a_restored_database_has_lost(servers: Settings) -> None:
    kind = f"test-{new_id()}"
    with open_rows(servers, "test") as conn:
        known = claim_epochs(conn, kind, [0])[0]
        for _ in range(3):
            lost = claim_epochs(conn, kind, [0])[0]
        time.sleep(4)  # a restore takes longer; three claims within a second count as three seconds
        conn.execute("UPDATE shard_epochs SET epoch = %s WHERE kind = %s", (known, kind))
        assert claim_epochs(conn, kind, [0])[0] > lost
