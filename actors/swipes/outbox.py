"""A queue of deliveries to one actor: in order, batched, one call at a time, repeated until they are taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from actors.swipes.commands import Delivery, Verdict
from configs.contracts.errors import DependencyUnavailable, PlatformError

log = structlog.get_logger(__name__)

DELIVERIES_A_CALL = 512
CAPACITY = 100_000
"""Deliveries that may wait for one actor (some 50 MB); past it its pairs' swipes answer 503."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0

Send = Callable[[Sequence[Delivery]], Awaitable[Sequence[Verdict | PlatformError]]]
"""One call: an answer a delivery, in order. A PlatformError as an answer: that one was not taken. Raises
DependencyUnavailable: any of them may have been taken."""


class Outbox:
    """Deliveries to one actor. ``taken`` is called for each once that actor knows it."""

    def __init__(self, send: Send, taken: Callable[[Delivery], None]) -> None:
        self._send = send
        self._taken = taken
        self._queue: deque[tuple[Delivery, asyncio.Future[Verdict]]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        return len(self._queue) >= CAPACITY

    def put(self, delivery: Delivery) -> asyncio.Future[Verdict]:
        """The verdict once the delivery is taken, however long that lasts; cancelled when the outbox is closed."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._queue.append((delivery, future))
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    async def close(self) -> None:
        """Stops sending; what is not taken is delivered again from the log by the next life."""
        self._closed = True  # asyncio.wait_for (Python 3.11) may swallow a cancellation that meets its result
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for _, future in self._queue:
            future.cancel()

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._closed:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            batch = [self._queue[index] for index in range(min(len(self._queue), DELIVERIES_A_CALL))]
            try:
                answers = await self._send([delivery for delivery, _ in batch])
            except DependencyUnavailable as error:
                log.warning("delivery_waits", deliveries=len(self._queue), reason=str(error))
                answers = []
            left = []
            for index, entry in enumerate(batch):
                answer = answers[index] if index < len(answers) else None
                if not isinstance(answer, Verdict):
                    left.append(entry)
                    continue
                self._taken(entry[0])
                if not entry[1].done():
                    entry[1].set_result(answer)
            for _ in batch:
                self._queue.popleft()
            self._queue.extendleft(reversed(left))
            if left:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                pause = FIRST_PAUSE_S
