"""The read model's share of an acknowledged change, so that a client reads its own write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from cluster.connections.redis import apply_async
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.read_model import REVOKED, Operation

log = structlog.get_logger(__name__)

OPERATIONS_A_TRIP: Final = 1_000
WAITING: Final = 4_096


class WriteThrough:
    """Applies operations after their event was acknowledged; concurrent requests share a round trip.

    A failure is counted, never reported: the fact is in the log, and the projections apply the same operations.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._waiting: list[tuple[Sequence[Operation], asyncio.Future[None]]] = []
        self._pump: asyncio.Task[None] | None = None
        self.applied = 0
        self.left_to_projections = 0

    async def apply(self, *operations: Operation) -> None:
        """Returns once the operations are applied, or left to the projections. A client that leaves stops nothing."""
        if not operations:
            return
        if len(self._waiting) >= WAITING:
            self.left_to_projections += len(operations)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((operations, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name="write-through")
        await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, size = [], 0
                while self._waiting and size < OPERATIONS_A_TRIP:
                    batch.append(self._waiting.pop(0))
                    size += len(batch[-1][0])
                try:
                    await apply_async(self._client, [operation for operations, _ in batch for operation in operations])
                    self.applied += size
                except DependencyUnavailable as error:
                    self.left_to_projections += size
                    log.warning("write_through_failed", operations=size, reason=error.message)
                finally:
                    for _, future in batch:
                        if not future.done():
                            future.set_result(None)
        finally:
            self._pump = None

    async def revoke(self, member: str, at_ms: int) -> None:
        """Lets every replica's poll see a revoked family, or the end of all (``read_model.ended_member``)."""
        try:
            await self._client.zadd(REVOKED, {member: at_ms}, nx=True)
        except (TimeoutError, RedisError, OSError) as error:
            self.left_to_projections += 1
            log.warning("write_through_failed", operations=1, reason=type(error).__name__)

    async def close(self) -> None:
        if self._pump is not None:
            await asyncio.gather(self._pump, return_exceptions=True)
