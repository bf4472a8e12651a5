"""Calling impression shards: the facts of one actor's viewers ride in one command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from actors.impressions.commands import SERVICE, Append, Shown
from actors.sharding.client import ActorPool
from configs.contracts.errors import PlatformError

FACTS_A_COMMAND: Final = 64
"""At most some 100 KB a command."""


class ImpressionsClient:
    """Impression shards by viewer."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def record(self, facts: Sequence[Shown]) -> int:
        """Appends the facts; how many were certainly taken. Appending one again changes nothing."""
        by_slot: dict[str, list[Shown]] = {}
        for fact in facts:
            shard = self._pool.shard_of(fact.viewer_id)
            by_slot.setdefault(self._pool.actor_of(SERVICE, shard), []).append(fact)
        answers = await asyncio.gather(
            *(
                self._append(group[start : start + FACTS_A_COMMAND])
                for group in by_slot.values() for start in range(0, len(group), FACTS_A_COMMAND)
            ),
            return_exceptions=True,
        )
        taken = 0
        for answer in answers:
            if isinstance(answer, int):
                taken += answer
            elif not isinstance(answer, PlatformError):
                raise answer
        return taken

    async def one(self, fact: Shown) -> None:
        """Appends one fact, durable when this returns. Raises DependencyUnavailable: it may be taken or not."""
        await self._append([fact])

    async def _append(self, facts: Sequence[Shown]) -> int:
        shard = self._pool.shard_of(facts[0].viewer_id)
        taken: int = await self._pool.ask(SERVICE, shard, "record", Append(tuple(facts)))
        return taken
