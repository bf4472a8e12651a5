"""Changes that arrive before the log brings them, taken in at their place in the order of their partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from actors.cards.commands import NotedPayload

WAIT_S: Final = 0.4
"""Longest wait for the records between: a read of the log takes milliseconds, the embedded broker's up to 250 ms."""
WAITING: Final = 1_024
"""Changes of one partition that wait for those before them; past it the log brings them."""


class Early:
    """Knows up to where each partition has been taken in; what comes out of order waits for what is before it.

    ``take(offset, payload)`` takes in a change when its turn has come. What the log brings later is a repetition.
    """

    def __init__(self, next_offsets: Mapping[int, int], take: Callable[[int, NotedPayload], None]) -> None:
        self._next = dict(next_offsets)
        self._take = take
        self._waiting: dict[int, dict[int, tuple[NotedPayload, asyncio.Future[bool]]]] = {}
        self.taken = 0

    async def note(self, partition: int, offset: int, payload: NotedPayload) -> bool:
        """Whether the change is taken in, now or within ``WAIT_S``."""
        if offset < self._next.get(partition, 0):
            return True
        waiting = self._waiting.setdefault(partition, {})
        known = waiting.get(offset)
        if known is not None:
            future = known[1]
        elif len(waiting) >= WAITING:
            return False
        else:
            future = asyncio.get_running_loop().create_future()
            waiting[offset] = payload, future
            self._advance(partition)
        try:
            return await asyncio.wait_for(asyncio.shield(future), WAIT_S)
        except TimeoutError:
            return False

    def read(self, partition: int, next_offset: int) -> None:
        """The log has brought everything below ``next_offset``."""
        self._next[partition] = max(next_offset, self._next.get(partition, 0))
        waiting = self._waiting.get(partition)
        if waiting:
            for offset in [offset for offset in waiting if offset < next_offset]:
                self._done(waiting.pop(offset)[1])
            self._advance(partition)

    def _advance(self, partition: int) -> None:
        waiting = self._waiting[partition]
        while (found := waiting.pop(self._next.get(partition, 0), None)) is not None:
            self._take(self._next.get(partition, 0), found[0])
            self._next[partition] = self._next.get(partition, 0) + 1
            self.taken += 1
            self._done(found[1])

    @staticmethod
    def _done(future: asyncio.Future[bool]) -> None:
        if not future.done():
            future.set_result(True)
