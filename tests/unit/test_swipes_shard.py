"""What swipe shards promise a client, on a simulated log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from simulated_log import VirtualTimeLoop
from swipe_world import World, settings

from actors.swipes.commands import SwipeAnswer

A, B = "00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b"


def run(scenario: Callable[[World], Awaitable[None]], **limits: int) -> World:
    loop = VirtualTimeLoop()
    world = World(settings(**limits))

    async def whole() -> None:
        await world.revive()
        await scenario(world)
        await world.settle()
        await world.close()

    try:
        loop.run_until_complete(whole())
    finally:
        loop.close()
    return world


def test_two_likes_make_one_match_that_both_are_told() -> None:
    async def scenario(world: World) -> None:
        assert await world.swipe(A, B, "like") == SwipeAnswer(recorded=True)
        told = await world.swipe(B, A, "super_like")
        assert (told.matched, told.generation, told.recorded) == (True, 1, True)
        again = await world.swipe(A, B, "like")
        assert (again.matched, again.match_id, again.match_version, again.recorded) == (True, told.match_id, told.match_version, False)

    assert len(run(scenario).matches()) == 1
