"""Swipe actors on the real broker: nothing is forgotten over restarts, and pairs match once from both sides."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from running import MakeBroker

from actors.sharding.client import ActorPool
from actors.sharding.host import ShardHost
from actors.sharding.wire import RemoteActor
from actors.swipes.client import SwipesClient
from actors.swipes.commands import EndPair, Swipe, Undo, Undone
from actors.swipes.peers import RayPeers
from actors.swipes.service import TOPICS as READ_TOPICS
from actors.swipes.service import SwipeService, swipe_service
from cluster.connections.kafka import LogAppender, assign, barrier, consume, reader
from cluster.connections.topics import ensure_topics
from cluster.launch.secrets import with_keys
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Barrier, Event, Matched, decode
from configs.contracts.ids import key64, match_id, new_id, packed_keys, pair
from configs.contracts.loading import SwipeRows
from configs.contracts.ranking import INITIAL, RankingConfiguration
from configs.contracts.topics import MATCHING_MATCHED, TOPICS
from configs.settings import Settings, load_settings
from writers.appending import ThreadAppender

pytestmark = pytest.mark.servers

EPOCHS: Counter[str] = Counter()


class NothingCommitted:
    """The loader of a database in which no writer has committed anything yet: shards live by the log alone."""

    async def positions(self, topics: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        assert set(topics) == set(READ_TOPICS)
        return {topic: {} for topic in topics}

    async def ranking(self) -> RankingConfiguration:
        return INITIAL

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        EPOCHS[kind] += 1
        return dict.fromkeys(shards, EPOCHS[kind])

    async def epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        return {}  # nobody replaces a shard of this process

    async def swipes(self, user_ids: Sequence[str]) -> Mapping[str, SwipeRows]:
        return {}


class Handle:
    """Stands for a Ray actor handle of a host in this process."""

    def __init__(self, hosts: Mapping[str, ShardHost], name: str) -> None:
        self.carry = self
        self._hosts, self._name, self._host = hosts, name, hosts[name]

    def remote(self, request: bytes) -> Awaitable[bytes]:
        if self._hosts.get(self._name) is not self._host:
            raise ValueError("the actor is dead")
        return self._host.carry(request)


class Actors:
    """All swipe actors of a platform in this process, and their client."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.died: list[str] = []
        self.hosts: dict[str, ShardHost] = {}
        self.services: dict[str, SwipeService] = {}
        self._appenders: dict[str, LogAppender] = {}
        self.client = SwipesClient(ActorPool(settings, resolve=self._handle))

    def _handle(self, name: str) -> RemoteActor:
        if name not in self.hosts:
            raise ValueError("no such actor")
        return RemoteActor(Handle(self.hosts, name))

    async def start(self, slot: int) -> None:
        """Begins a life of the slot and returns when it has restored."""
        name = f"swipes-{slot}"
        appender = self._appenders[name] = LogAppender(self.settings, name)
        service = self.services[name] = swipe_service(
            self.settings, slot, appender=appender, loader=NothingCommitted(),  # type: ignore[arg-type]  # what swipes use
            die=self.died.append, peers=RayPeers(deadline_s=30.0, resolve=self._handle),
        )
        host = self.hosts[name] = ShardHost(name, {"swipes": service})
        while not (await host.ping())["ready"]:
            await asyncio.sleep(0.05)

    async def stop(self, slot: int) -> None:
        name = f"swipes-{slot}"
        await self.hosts.pop(name).close()
        assert self._appenders.pop(name).close() == 0

    def slot_of(self, user_id: str) -> int:
        return int(self.client._pool.actor_of("swipes", self.client._pool.shard_of(user_id)).rpartition("-")[2])


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, make_broker: MakeBroker) -> Iterator[Settings]:
    """A broker of their own: actors of the same name elsewhere in the suite would be told that they are replaced."""
    folder = tmp_path_factory.mktemp("swipes")
    broker = make_broker(folder)
    found = with_keys(load_settings("test", data_dir=folder, kafka_brokers=broker.start()))
    ensure_topics(found, TOPICS)
    yield found
    broker.stop()


@asynccontextmanager
async def actors(settings: Settings) -> AsyncIterator[Actors]:
    made = Actors(settings)
    slots = range(settings.plan.swipe_actors)
    try:
        await asyncio.gather(*(made.start(slot) for slot in slots))
        yield made
    finally:
        for slot in slots:
            if f"swipes-{slot}" in made.hosts:
                await made.stop(slot)
    assert made.died == []


async def until_answered(ask: Any, command: Any) -> Any:
    """Repeats the request with its key until it is answered, as a client does."""
    while True:
        try:
            return await ask(command)
        except DependencyUnavailable:
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what happens sooner or later; the test's own limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0.02)


def matched_events(settings: Settings, match_ids: set[str]) -> list[Event]:
    """Every ``matched`` of these pairs that was acknowledged before the call, from the log itself."""
    consumer, appender = reader(settings, "test-matches", follows=False), ThreadAppender(settings, "test-barrier")
    found: list[Event] = []
    try:
        partitions = range(settings.log.partitions)
        ends = appender.append([barrier(MATCHING_MATCHED.name, partition) for partition in partitions])
        left = dict(zip(partitions, ends, strict=True))
        assign(settings, consumer, {MATCHING_MATCHED.name: dict.fromkeys(partitions, 0)})
        while left:
            for message in consume(consumer, 5_000, 0.2, lambda error: None):
                event = decode(message.value())
                if not isinstance(event.payload, Barrier) and event.payload.match_id in match_ids:
                    found.append(event)
                if message.offset() == left.get(message.partition()):
                    del left[message.partition()]
    finally:
        consumer.close()
        appender.close()
    return [event for event in found if isinstance(event.payload, Matched)]


def couple(made: Actors, *, apart: bool) -> tuple[str, str]:
    """(low, high) ids of new people whose actors differ, or not."""
    while True:
        low, high = pair(new_id(), new_id())
        if (made.slot_of(low) != made.slot_of(high)) == apart:
            return low, high


async def test_five_hundred_pairs_liking_at_once_with_retries_match_once_each(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two thousand answers at once on one loop: on a busy machine the last come after what a person would be let wait.
    monkeypatch.setattr("actors.swipes.shard.MATCH_WAIT_S", 60.0)
    pairs = [(new_id(), new_id()) for _ in range(500)]
    async with actors(settings) as made:
        commands = [
            Swipe(one, other, "like", f"k {other}") for a, b in pairs for one, other in ((a, b), (b, a)) for _ in range(2)
        ]
        answers = await asyncio.gather(*(until_answered(made.client.swipe, command) for command in commands))
        assert len({answer.match_id for answer in answers if answer.matched}) == 500
        again = await asyncio.gather(*(until_answered(made.client.swipe, command) for command in commands))
        assert all(answer.matched and not answer.recorded for answer in again), "now both sides know"
    names = {match_id(*both) for both in pairs}
    events = await asyncio.to_thread(matched_events, settings, set(names))
    assert Counter(event.payload.match_id for event in events) == Counter(names)


@pytest.mark.parametrize("apart", [True, False], ids=["two actors", "one actor"])
async def test_nothing_is_forgotten_over_a_restart_of_everything(settings: Settings, apart: bool) -> None:
    async with actors(settings) as made:
        low, high = couple(made, apart=apart)
        other, blocked = new_id(), new_id()
        await made.client.swipe(Swipe(low, high, "like", "1"))
        told = await until_answered(made.client.swipe, Swipe(high, low, "super_like", "2"))
        await made.client.swipe(Swipe(high, other, "pass", "3"))
        ended = await made.client.end(EndPair(high, blocked, "blocked"))
    async with actors(settings) as made:
        again = await until_answered(made.client.swipe, Swipe(low, high, "like", "1"))
        assert again.matched
        assert again.match_version == told.match_version
        assert not again.recorded
        await until_answered(made.client.end, EndPair(high, blocked, "blocked"))
        assert (await made.client.end(EndPair(high, blocked, "blocked"))).version == ended.version
        assert await made.client.seen(high, packed_keys((low, other, blocked, new_id()))) == bytes([1, 1, 1, 0])
        undone = await made.client.undo(Undo(high, "u"))
        assert isinstance(undone, Undone)
        assert (undone.target_id, undone.ended_match) == (other, False)


async def test_a_like_whose_authority_was_away_matches_when_it_returns(settings: Settings) -> None:
    async with actors(settings) as made:
        low, high = couple(made, apart=True)
        await made.client.swipe(Swipe(low, high, "like", "1"))
        await made.stop(made.slot_of(low))
        answer = await made.client.swipe(Swipe(high, low, "like", "2"))
        assert (answer.recorded, answer.matched) == (True, False)
        await made.stop(made.slot_of(high))  # not even its own actor remembers that it was not delivered
        await made.start(made.slot_of(low))
        await made.start(made.slot_of(high))
        again = Swipe(low, high, "like", "1")
        await until(lambda: made.services[f"swipes-{made.slot_of(low)}"].people.used(low).pair(key64(high)) is not None)
        assert (await until_answered(made.client.swipe, again)).matched
    assert len(await asyncio.to_thread(matched_events, settings, {match_id(low, high)})) == 1


async def test_the_delivery_position_moves_and_survives(settings: Settings) -> None:
    async with actors(settings) as made:
        low, high = couple(made, apart=True)
        await made.client.swipe(Swipe(high, low, "like", "1"))
        service = made.services[f"swipes-{made.slot_of(high)}"]
        await until(lambda: not len(service.outgoing))
        shard = made.client._pool.shard_of(high)
        await until(lambda: service.outgoing.positions()[shard] > 0)
        position = service.outgoing.positions()[shard]
    async with actors(settings) as made:
        again = made.services[f"swipes-{made.slot_of(high)}"]
        # It starts there, repeats what its authority may not have kept, and passes its own barrier.
        await until(lambda: again.outgoing.positions()[shard] > position and not len(again.outgoing))
