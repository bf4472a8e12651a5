"""What one replica has served, told to the viewers' shards a few times a second.

A card request does not wait for it: nothing was promised to anybody. A replica that is killed loses what it has
gathered, at most ``FLUSH_S`` and one call's time; past ``WAITING`` responses, and when the shards do not answer, facts
are dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Final

import structlog

from actors.impressions.client import ImpressionsClient
from actors.impressions.commands import Shown
from configs.contracts.errors import PlatformError

log = structlog.get_logger(__name__)

FLUSH_S: Final = 0.25
"""So that a replica makes at most 4 calls a second to an actor, and batches of the log are not of one response each."""
WAITING: Final = 4_096
"""Responses that wait: some 8 MB, and what a replica serves in about 3 s at its most."""
FACTS_A_FLUSH: Final = 1_024


class ServedCards:
    """Gathers facts about served cards and appends them in the background."""

    def __init__(self, impressions: ImpressionsClient) -> None:
        self._impressions = impressions
        self._waiting: deque[Shown] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.recorded = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def note(self, fact: Shown) -> None:
        """Takes one fact; drops it when too many wait."""
        if len(self._waiting) >= WAITING:
            self.dropped += 1
            return
        self._waiting.append(fact)
        if self._task is None and not self._closing:
            self._task = asyncio.create_task(self._follow(), name="served-cards")

    async def _follow(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(FLUSH_S)
                await self.flush()
        finally:
            self._task = None

    async def flush(self) -> None:
        """Appends what waits now."""
        facts = list(islice(self._waiting, FACTS_A_FLUSH))
        for _ in facts:
            self._waiting.popleft()
        if not facts:
            return
        taken = 0
        try:
            taken = await self._impressions.record(facts)
        except PlatformError as error:
            log.warning("served_cards_dropped", reason=error.message)
        self.recorded += taken
        if taken < len(facts):
            self.dropped += len(facts) - taken
            log.warning("served_cards_dropped", responses=len(facts) - taken)

    async def close(self) -> None:
        """Appends what waits, then ends."""
        self._closing = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()
