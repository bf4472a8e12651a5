"""A host that stood still answers nothing before it knows that it was not replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from actors.sharding.host import SLEPT_S, ShardHost
from actors.sharding.tenure import Tenure
from configs.contracts.errors import DependencyUnavailable, ShardUnavailable


class Loader:
    def __init__(self) -> None:
        self.newest = 0
        self.asked = 0
        self.answers = True

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        self.newest += 1
        return dict.fromkeys(shards, self.newest)

    async def epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        self.asked += 1
        if not self.answers:
            raise DependencyUnavailable("away")
        return dict.fromkeys(shards, self.newest)


class Echo:
    METHODS = ("say",)

    def __init__(self, world: World) -> None:
        self.tenure = Tenure(world.loader, "echo", (0, 1))
        self.epoch = 0
        self.sleeps_s = 0.0
        self._world = world

    async def start(self) -> None:
        self.epoch = await self.tenure.claim()

    async def close(self) -> None: ...

    def describe(self) -> dict[str, Any]:
        return {}

    async def say(self, commands: Sequence[str]) -> list[str]:
        self._world.now += self.sleeps_s
        return list(commands)


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.loader = Loader()
        self.service = Echo(self)
        self.ended: list[str] = []
        self.host = ShardHost("echo-0", {"echo": self.service}, clock=lambda: self.now, end=self.ended.append)

    async def say(self) -> Any:
        epoch, [answer] = await self.host.call("echo", "say", ["word"])
        while not epoch:
            await asyncio.sleep(0)
            epoch, [answer] = await self.host.call("echo", "say", ["word"])
        return answer


async def test_nobody_is_asked_while_it_runs() -> None:
    world = World()
    for _ in range(5):
        world.now += SLEPT_S / 2
        assert await world.say() == "word"
    assert not world.loader.asked
    await world.host.close()


async def test_one_that_stood_still_answers_when_it_was_not_replaced() -> None:
    world = World()
    await world.say()
    world.now += 60
    assert await world.say() == "word"
    assert world.loader.asked == 1
    assert await world.say() == "word"
    assert world.loader.asked == 1, "it asks once a silence"
    await world.host.close()


async def test_what_was_decided_before_it_stood_still_is_not_answered_after_it_was_replaced() -> None:
    world = World()
    await world.say()
    world.service.sleeps_s = 60
    await world.loader.claim_epochs("echo", (0, 1))
    assert isinstance(await world.say(), ShardUnavailable)
    assert world.ended == ["replaced while it stood still"]
    await world.host.close()


async def test_without_the_loader_it_answers_nothing_until_it_is_back() -> None:
    world = World()
    await world.say()
    world.now += 60
    world.loader.answers = False
    assert isinstance(await world.say(), ShardUnavailable)
    assert isinstance(await world.say(), ShardUnavailable)
    world.loader.answers = True
    assert await world.say() == "word"
    assert not world.ended
    await world.host.close()
