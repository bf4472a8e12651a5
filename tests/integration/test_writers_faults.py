"""Writers lose and double nothing while servers are killed, frozen and restarted and rivals appear."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.connections.kafka import LogAppender, Record
from cluster.connections.redis import sync_client
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers
from configs.contracts import events, topics
from configs.contracts.events import Event, encode
from configs.contracts.ids import derived_id, match_id, new_id, pair, partition_of
from configs.contracts.loading import ACTION_CODES
from configs.contracts.read_model import GENERATION, listing_keys
from configs.contracts.topics import Topic
from configs.settings import Settings
from writers.catching_up import catch_up
from writers.connections import open_rows
from writers.dead_letters import count_waiting
from writers.rebuild import clear
from writers.worker import Writer

pytestmark = pytest.mark.servers

SLOTS = 2
PATIENCE_S = 120.0
BEHIND = """
SELECT 1 FROM writer_positions AS derive JOIN writer_positions AS stored USING (topic, partition)
WHERE derive.consumer = 'derive' AND stored.consumer = 'rows' AND topic = 'user.updated' AND derive.next_offset < stored.next_offset
"""


async def eventually(holds: Callable[[], Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await asyncio.to_thread(holds)):
            await asyncio.sleep(0.05)
        return found


def slot_of(key: str, settings: Settings) -> int:
    return partition_of(key, settings.log.partitions) % SLOTS


@dataclass
class World:
    """Servers of one's own, their writers, and what the log has acknowledged."""

    servers: EmbeddedServers
    settings: Settings
    writers: dict[int, Writer] = field(default_factory=dict)
    fenced: list[str] = field(default_factory=list)
    swipes: dict[tuple[str, str], str] = field(default_factory=dict)
    matches: set[tuple[str, str]] = field(default_factory=set)
    stopping: bool = False

    def start(self, slot: int) -> Writer:
        writer = Writer(self.settings, slot, fenced=self.fenced.append)
        writer.start()
        self.writers[slot] = writer
        return writer

    def record(self, topic: Topic, key: str, payload: events.Payload, ident: str | None = None) -> Record:
        event = Event(ident or new_id(), datetime.now(UTC), key, payload)
        return Record(topic.name, partition_of(key, self.settings.log.partitions), key, encode(event))

    async def load(self) -> None:
        """Swipes with changed minds and matches, until told to stop; remembers only what was acknowledged."""
        appender = LogAppender(self.settings, "load")
        people = [new_id() for _ in range(40)]
        number = 0
        try:
            while not self.stopping:
                batch, chosen = [], {}
                for _ in range(20):
                    number += 1
                    one, other = people[number % 40], people[(number * 7 + number // 40 + 1) % 40]
                    if one != other:
                        action = ("like", "pass", "super_like")[number % 3]
                        chosen[(one, other)] = action
                        batch.append(self.record(
                            topics.MATCHING_SWIPE, one,
                            events.Swiped(swiper_id=one, swiped_id=other, action=action, idempotency_key=str(number)),
                        ))
                low, high = pair(new_id(), new_id())
                match = match_id(low, high)
                batch += [
                    self.record(
                        topics.USER_CREATED, user,
                        events.UserCreated(user_id=user, role="sugar_baby", display_name="A", birth_date="1990-01-01"),
                    )
                    for user in (low, high)
                ]
                batch.append(self.record(
                    topics.MATCHING_MATCHED, match,
                    events.Matched(match_id=match, low_id=low, high_id=high, generation=1),
                    derived_id(match, "matched:1"),
                ))
                await appender.submit(batch)
                self.swipes |= chosen
                self.matches.add((low, high))
                await asyncio.sleep(0.01)
        finally:
            await asyncio.to_thread(appender.close)

    def stored(self) -> bool:
        with open_rows(self.settings, "test") as conn:
            rows = conn.execute("SELECT swiper_id::text, swiped_id::text, action FROM swipes").fetchall()
            sent = conn.execute("SELECT count(*) FROM notifications WHERE kind = 'match'").fetchone()
        assert sent is not None
        return (
            {(one, other): action for one, other, action in rows}
            == {names: ACTION_CODES[action] for names, action in self.swipes.items()}
            and sent[0] == 2 * len(self.matches)
        )

    def shown(self) -> bool:
        with sync_client(self.settings) as client:
            if client.get(GENERATION) is None:
                return False
            pipeline = client.pipeline(transaction=False)
            for low, high in self.matches:
                for mine in (low, high):
                    pipeline.zcard(listing_keys("match", mine)[0])
                    pipeline.hvals(listing_keys("note", mine)[1])
            replies = pipeline.execute()
            told = [sum(b'"kind":"match"' in entry for entry in entries) for entries in replies[1::2]]
            return set(replies[::2]) <= {1} and set(told) <= {1}


@pytest.fixture
def world(fresh_servers: Callable[[], EmbeddedServers]) -> Iterator[World]:
    servers = fresh_servers()
    settings = prepare(servers.settings())
    plan = settings.plan.model_copy(update={"writer_actors": SLOTS})
    writing = settings.writing.model_copy(update={"dead_letter_limit": 5})
    made = World(servers, settings.model_copy(update={"plan": plan, "writing": writing}))
    for slot in range(SLOTS):
        made.start(slot)
    yield made
    made.stopping = True
    for writer in made.writers.values():
        writer.stop()


async def test_kills_and_freezes_of_every_server_and_writer_lose_and_double_nothing(world: World) -> None:
    assert world.servers.postgres is not None
    assert world.servers.valkey is not None
    assert world.servers.broker is not None
    await eventually(world.shown)
    load = asyncio.create_task(world.load())
    for fault in ("postgres", "valkey", "broker", "restart", "rival", "postgres"):
        before = len(world.matches)
        if fault == "postgres":
            await asyncio.to_thread(world.servers.postgres.kill)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(world.servers.postgres.start)
        elif fault == "valkey":
            await asyncio.to_thread(world.servers.valkey.kill)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(world.servers.valkey.start)
        elif fault == "broker":
            world.servers.broker.send(signal.SIGSTOP)
            await asyncio.sleep(3.0)
            world.servers.broker.send(signal.SIGCONT)
        elif fault == "restart":
            await asyncio.to_thread(world.writers[1].stop)
            world.start(1)
        else:
            first = world.writers[0]
            world.start(0)
            await eventually(lambda: len(world.fenced) >= 2)
            await asyncio.to_thread(first.stop)
        await eventually(lambda before=before: len(world.matches) > before + 5)  # type: ignore[misc]
        assert not load.done()
    world.stopping = True
    await load
    await eventually(world.stored)
    await eventually(world.shown)
    assert all(
        any(name in reason for name in ("rows", "derive", "likes", "feeds", "mail", "payments", "media", "push")) for reason in world.fenced
    ), world.fenced
    assert {reason.split("-")[1] for reason in world.fenced} == {"0"}
    assert count_waiting(world.settings) == {}


async def test_too_much_poison_stops_its_topic_and_no_other_and_nothing_is_skipped(world: World) -> None:
    await eventually(world.shown)
    user, blocked = new_id(), new_id()
    appender = LogAppender(world.settings, "test")
    try:
        await appender.append([
            world.record(topics.USER_UPDATED, user, events.UserBlocked(user_id=user, blocked_id=f"bad {number}"))
            for number in range(6)
        ])
        slot = slot_of(user, world.settings)
        await eventually(lambda: world.writers[slot].describe()["rows"]["stopped"] == ["user.updated"])
        # A match that the same writer derives from.
        low, high = next(
            both for both in iter(lambda: pair(new_id(), new_id()), None) if slot_of(match_id(*both), world.settings) == slot
        )
        match = match_id(low, high)
        await appender.append([
            world.record(
                topics.MATCHING_MATCHED, match, events.Matched(match_id=match, low_id=low, high_id=high, generation=1),
                derived_id(match, "matched:1"),
            ),
            world.record(topics.USER_UPDATED, user, events.UserBlocked(user_id=user, blocked_id=blocked)),
            world.record(topics.MATCHING_SWIPE, user, events.Swiped(swiper_id=user, swiped_id=blocked, action="like")),
        ])
    finally:
        await asyncio.to_thread(appender.close)

    def answer(statement: str, *values: Any) -> list[Any]:
        with open_rows(world.settings, "test") as conn:
            return conn.execute(statement, values).fetchall()

    await eventually(lambda: answer("SELECT 1 FROM swipes WHERE swiper_id = %s", user))
    with sync_client(world.settings) as client:
        await eventually(lambda: client.zcard(listing_keys("like", blocked)[0]) == 1)
    # What follows from the other topics follows, although the same thread derives from the one that stopped.
    await eventually(lambda: len(answer("SELECT 1 FROM notifications WHERE kind = 'match' AND user_id = ANY(%s)", [low, high])) == 2)
    # Redis, when it is lost meanwhile, is made anew without what cannot be stored; who ends everything is told that it is not.
    await asyncio.to_thread(clear, world.settings)
    await eventually(world.shown)
    ending = threading.Event()
    asyncio.get_running_loop().call_later(1.0, ending.set)
    assert not await asyncio.to_thread(catch_up, world.settings, ending)
    assert answer("SELECT 1 FROM blocks WHERE user_id = %s", user) == []
    assert count_waiting(world.settings) == {}, "past the limit not one is put aside"
    # The limit was a deploy's fault; the next one takes up where this one stopped.
    await asyncio.to_thread(world.writers[slot].stop)
    lenient = world.settings.writing.model_copy(update={"dead_letter_limit": 100})
    world.settings = world.settings.model_copy(update={"writing": lenient})
    world.start(slot)
    await eventually(lambda: answer("SELECT 1 FROM blocks WHERE user_id = %s", user))
    assert count_waiting(world.settings) == {"user.updated": 6}
    await eventually(lambda: not answer(BEHIND))
    assert await asyncio.to_thread(catch_up, world.settings, threading.Event())
