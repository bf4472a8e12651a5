"""When people were last active, without a write per request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from time import time
from typing import Any, Final, Protocol

import structlog

from configs.contracts.errors import PlatformError
from configs.contracts.events import WasActive
from configs.contracts.read_model import Operation

log = structlog.get_logger(__name__)

EVERY_S: Final = 900.0
"""At most one event a person in 15 minutes from one replica; the finest bucket that cards show is as wide."""
FLUSH_S: Final = 5.0
PEOPLE: Final = 200_000
WAITING: Final = 10_000
AT_ONCE: Final = 500


class Records(Protocol):
    """What activity needs of ``UsersClient``."""

    async def record(
        self, user_id: str, payload: WasActive, *, scope: str, idempotency_key: str | None, body_digest: str | None,
    ) -> Any: ...


class Applies(Protocol):
    """What activity needs of ``WriteThrough``."""

    async def apply(self, *operations: Operation) -> None: ...


class Activity:
    """Notices who is active and records it in the background; a replica that dies loses a few seconds of it."""

    def __init__(
        self, users: Records, write_through: Applies,
        operations: Callable[[WasActive, int], tuple[Operation, ...]], *, clock: Callable[[], float] = time,
    ) -> None:
        self._users = users
        self._write_through = write_through
        self._operations = operations
        self._clock = clock
        self._noticed: OrderedDict[str, float] = OrderedDict()
        self._waiting: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self.recorded = 0

    def touch(self, user_id: str) -> None:
        """Notes that the person is active now."""
        noticed = self._noticed
        now = self._clock()
        last = noticed.get(user_id)
        if (last is not None and now - last < EVERY_S) or len(self._waiting) >= WAITING:
            return
        noticed[user_id] = now
        noticed.move_to_end(user_id)
        if len(noticed) > PEOPLE:
            noticed.popitem(last=False)
        self._waiting[user_id] = now

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="activity")

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Records everybody noticed since the last flush; those that fail are noticed again at their next request."""
        waiting, self._waiting = list(self._waiting.items()), {}
        for start in range(0, len(waiting), AT_ONCE):
            await asyncio.gather(*(self._record(user_id, at) for user_id, at in waiting[start:start + AT_ONCE]))

    async def _record(self, user_id: str, at: float) -> None:
        payload = WasActive(user_id=user_id, active_at=datetime.fromtimestamp(int(at), UTC))
        try:
            recorded = await self._users.record(user_id, payload, scope="active", idempotency_key=None, body_digest=None)
        except PlatformError as error:
            self._noticed.pop(user_id, None)
            log.warning("activity_not_recorded", reason=error.message)
            return
        self.recorded += 1
        await self._write_through.apply(*self._operations(payload, recorded.version))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
