"""What calling shards promises: few calls, bounded queues, no stale answers, no hang."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.sharding.client import ActorPool
from configs.contracts.errors import EpochFenced, PlatformError, ShardUnavailable
from configs.settings import load_settings


class Remote:
    """An actor whose ``call`` runs a coroutine in this process."""

    def __init__(self, answer: Any) -> None:
        self.batches: list[list[Any]] = []
        self._answer = answer

    async def call(self, service: str, method: str, commands: list[Any], traces: Any) -> tuple[int, list[Any]]:
        self.batches.append(commands)
        return await self._answer(commands)


def pool(remote: Remote, **plan: int) -> ActorPool:
    return ActorPool(load_settings("test", plan={"swipe_actors": 1, **plan}), resolve=lambda name: remote)


async def echo(commands: list[Any]) -> tuple[int, list[Any]]:
    await asyncio.sleep(0.001)
    return 1, [command * 2 for command in commands]


async def test_concurrent_commands_share_calls_and_get_their_own_answers() -> None:
    remote = Remote(echo)
    actors = pool(remote)
    answers = await asyncio.gather(*(actors.ask("swipes", 0, "swipe", number) for number in range(200)))
    assert answers == [number * 2 for number in range(200)]
    assert len(remote.batches) <= 3


async def test_an_error_belongs_to_its_command() -> None:
    async def answer(commands: list[Any]) -> tuple[int, list[Any]]:
        return 1, [PlatformError("no") if command == 1 else command for command in commands]

    actors = pool(Remote(answer))
    good, bad = await asyncio.gather(
        actors.ask("swipes", 0, "swipe", 0), actors.ask("swipes", 0, "swipe", 1), return_exceptions=True
    )
    assert good == 0
    assert isinstance(bad, PlatformError)


async def test_a_restoring_shard_is_asked_again_until_it_answers() -> None:
    epochs = iter([0, 0, 3])

    async def answer(commands: list[Any]) -> tuple[int, list[Any]]:
        return next(epochs), list(commands)

    assert await pool(Remote(answer)).ask("swipes", 0, "swipe", "x") == "x"


async def test_an_answer_of_a_replaced_shard_is_refused() -> None:
    epochs = iter([5, 4])

    async def answer(commands: list[Any]) -> tuple[int, list[Any]]:
        return next(epochs), list(commands)

    actors = pool(Remote(answer))
    await actors.ask("swipes", 0, "swipe", "x")
    with pytest.raises(EpochFenced):
        await actors.ask("swipes", 0, "swipe", "x")


async def test_a_shard_that_never_answers_ends_at_the_deadline() -> None:
    async def never(commands: list[Any]) -> tuple[int, list[Any]]:
        await asyncio.sleep(60)
        return 1, []

    with pytest.raises(ShardUnavailable):
        await pool(Remote(never)).ask("swipes", 0, "swipe", "x", deadline_s=0.05)


async def test_a_full_queue_refuses_at_once() -> None:
    async def slow(commands: list[Any]) -> tuple[int, list[Any]]:
        await asyncio.sleep(0.2)
        return 1, list(commands)

    actors = pool(Remote(slow), actor_max_pending=10)
    answers = await asyncio.gather(
        *(actors.ask("swipes", 0, "swipe", number) for number in range(50)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, ShardUnavailable)]
    assert len(refused) == 40
