"""The other swipe actors, as a swiper's shard calls them to deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ray.exceptions import RayError

from actors.sharding.lines import LineError
from actors.sharding.wire import Actor, find_actor
from actors.swipes.commands import Delivery, Verdict
from configs.contracts.errors import EpochFenced, PlatformError, ShardUnavailable

DEADLINE_S = 2.0
"""Longest wait for one call; twice the append deadline's usual case, after which the actor is looked up again."""


class Peers(Protocol):
    """Calls to the actors of other slots."""

    async def deliver(self, slot: int, deliveries: Sequence[Delivery]) -> Sequence[Verdict | PlatformError]:
        """Hands deliveries to the authority of their pairs. Raises ShardUnavailable: they may have been taken."""
        ...

    def met(self, slot: int, epoch: int) -> None:
        """The actor of that slot has begun this epoch: answers of older ones do not count any more."""
        ...


class RayPeers:
    """``Peers`` over the named Ray actors; a lost one is found again by its name."""

    def __init__(self, *, deadline_s: float = DEADLINE_S, resolve: Callable[[str], Actor] = find_actor) -> None:
        self._deadline_s = deadline_s
        self._resolve = resolve
        self._handles: dict[int, Actor] = {}
        self._epochs: dict[int, int] = {}

    async def deliver(self, slot: int, deliveries: Sequence[Delivery]) -> Sequence[Verdict | PlatformError]:
        answers: Sequence[Verdict | PlatformError] = await self._call(slot, "deliver", list(deliveries))
        return answers

    def met(self, slot: int, epoch: int) -> None:
        if epoch > self._epochs.get(slot, 0):
            self._epochs[slot] = epoch
            self._handles.pop(slot, None)

    async def _call(self, slot: int, method: str, commands: list[Any]) -> Any:
        name = f"swipes-{slot}"
        try:
            handle = self._handles.get(slot)
            if handle is None:
                found = await asyncio.to_thread(self._resolve, name)
                handle = self._handles.setdefault(slot, found)
            async with asyncio.timeout(self._deadline_s):
                epoch, answers = await handle.call("swipes", method, commands)
        except (RayError, LineError, ValueError, TimeoutError) as error:
            self._handles.pop(slot, None)
            raise ShardUnavailable("swipe actor does not answer", actor=name, kind=type(error).__name__) from error
        if epoch == 0:
            raise ShardUnavailable("swipe actor is restoring", actor=name)
        known = self._epochs.get(slot, 0)
        if epoch < known:
            self._handles.pop(slot, None)
            raise EpochFenced("answer of a swipe actor that was replaced", actor=name, epoch=epoch, known=known)
        self._epochs[slot] = epoch
        return answers
