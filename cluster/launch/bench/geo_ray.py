"""The card shard's index behind Ray, and Redis behind the platform's own reader, with as many requests in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Final

import ray
from pydantic import SecretStr

from actors.cards.commands import Nearest, NearestQuery
from actors.sharding.client import ActorPool
from actors.sharding.host import Build, Service, remote_host
from actors.sharding.wire import RemoteActor
from cluster.connections.reading import Reads
from cluster.connections.spans import Spans
from cluster.launch.bench.geo_sides import COUNT, Index, Place, Redis, search
from cluster.launch.bench.geo_world import GeoWorld
from configs.settings import Plan, Settings, load_settings

ACTOR: Final = "cards-0"
MOVE_EVERY_S: Final = 0.005
READY_WAIT_S: Final = 300.0


class IndexService:
    """A host's service: the index of a whole world, in which people move at a steady rate."""

    METHODS = ("nearest", "settled")

    def __init__(self, people: int, seed: int, rate: float) -> None:
        self._people, self._seed, self._rate = people, seed, rate
        self.tenure = None
        self.epoch = 0

    async def start(self) -> None:
        self._index = Index(GeoWorld.make(self._people, self._seed))
        self._moving = asyncio.create_task(self._move())
        self.epoch = 1

    async def close(self) -> None:
        self._moving.cancel()

    def describe(self) -> dict[str, Any]:
        return {"moves": self._index.moves}

    async def nearest(self, queries: Sequence[NearestQuery]) -> list[Nearest]:
        return [self._index.cards.nearest(query) for query in queries]

    async def settled(self, commands: Sequence[None]) -> list[int]:
        """How many moves were taken in."""
        return [self._index.moves for _ in commands]

    async def _move(self) -> None:
        began, done = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * self._rate) - done
            self._index.move(due)
            done += due
            await asyncio.sleep(MOVE_EVERY_S)


def services(people: int, seed: int, rate: float, settings: Settings, name: str, spans: Spans | None) -> Mapping[str, Service]:
    return {"cards": IndexService(people, seed, rate)}


class RaySide:
    """One card actor with the world in it."""

    def __init__(self, people: int, seed: int, rate: float) -> None:
        build: Build = partial(services, people, seed, rate)
        self._handle: Any = remote_host().options(num_cpus=0).remote(ACTOR, build)
        end = time.monotonic() + READY_WAIT_S
        while not ray.get(self._handle.ping.remote())["ready"]:
            if time.monotonic() > end:
                raise TimeoutError("the index was not ready in time")
            time.sleep(0.2)
        self._settings = load_settings("test").model_copy(update={"plan": Plan(card_actors=1)})

    def rate(self, places: Sequence[Place], radius_km: float, seconds: float, in_flight: int) -> Rate:
        """Answers a second, and moves a second meanwhile."""
        return asyncio.run(self._rate(places, radius_km, seconds, in_flight))

    async def _rate(self, places: Sequence[Place], radius_km: float, seconds: float, in_flight: int) -> Rate:
        pool = ActorPool(self._settings, resolve=lambda name: RemoteActor(self._handle))
        before = await pool.ask("cards", 0, "settled", None)

        async def ask(place: Place) -> None:
            await pool.ask("cards", 0, "nearest", NearestQuery(*place, radius_km, COUNT), deadline_s=60)

        answers, elapsed, waits = await _loaded(ask, places, seconds, in_flight)
        moves = await pool.ask("cards", 0, "settled", None) - before
        return Rate(answers / elapsed, moves / elapsed, waits)

    def close(self) -> None:
        ray.kill(self._handle)


class Rate:
    """Answers and moves a second; sorted waits in seconds."""

    def __init__(self, answers: float, moves: float, waits: Sequence[float]) -> None:
        self.answers, self.moves = answers, moves
        self.p99_ms = 1_000 * waits[int(0.99 * (len(waits) - 1))]


def redis_rate(
    redis: Redis, places: Sequence[Place], radius_km: float, seconds: float, in_flight: int, moves: float
) -> Rate:
    """The same of Redis, read as API replicas read it: requests that wait share the next round trip."""
    before = redis.moves
    with redis.moving(moves):
        answers, elapsed, waits = asyncio.run(_reads(redis.server.url, places, radius_km, seconds, in_flight))
    return Rate(answers / elapsed, (redis.moves - before) / elapsed, waits)


async def _reads(
    url: str, places: Sequence[Place], radius_km: float, seconds: float, in_flight: int
) -> tuple[int, float, list[float]]:
    reads = Reads(load_settings("test").model_copy(update={"redis_url": SecretStr(url)}), timeout_s=120.0)

    async def ask(place: Place) -> None:
        await reads.raw(search(place, radius_km))

    try:
        return await _loaded(ask, places, seconds, in_flight)
    finally:
        await reads.close()


async def _loaded(
    ask: Callable[[Place], Awaitable[None]], places: Sequence[Place], seconds: float, in_flight: int
) -> tuple[int, float, list[float]]:
    """(answers, seconds, sorted waits): ``in_flight`` askers, each with its next question once it has an answer."""
    following = cycle(places)
    waits: list[float] = []
    began = time.monotonic()

    async def asker() -> None:
        while time.monotonic() - began < seconds:
            asked = time.monotonic()
            await ask(next(following))
            waits.append(time.monotonic() - asked)

    await asyncio.gather(*(asker() for _ in range(in_flight)))
    return len(waits), time.monotonic() - began, sorted(waits)
