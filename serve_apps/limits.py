"""Request limits: per address and account across replicas (Redis), per person within a replica (memory)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

from configs.contracts.errors import DependencyUnavailable
from configs.contracts.rates import TAKE_LUA, limit_key
from serve_apps.problems import Refused

_SHA: Final = hashlib.sha1(TAKE_LUA.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` in ``per_s`` seconds for each key, all at once or spread."""

    name: str
    count: int
    per_s: int


class SharedLimits:
    """Limits that hold over all replicas. A Redis that lost them forgets what was used, never who exists."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def take(self, *uses: tuple[Rate, str]) -> None:
        """Takes one from each (rate, key).

        Raises Refused (``too_many_requests`` with the seconds to wait): one of them is used up; the others count.
        DependencyUnavailable: Redis does not answer.
        """
        waits = await self._waits(uses)
        longest_ms = max(waits)
        if longest_ms > 0:
            raise Refused("too_many_requests", retry_after_s=-(-longest_ms // 1_000))

    async def _waits(self, uses: tuple[tuple[Rate, str], ...]) -> list[int]:
        try:
            for whole in (False, True):
                pipeline = self._client.pipeline(transaction=False)
                for rate, key in uses:
                    name = limit_key(rate.name, key)
                    every_ms = rate.per_s * 1_000 / rate.count
                    if whole:
                        pipeline.eval(TAKE_LUA, 1, name, every_ms, rate.count, 1)
                    else:
                        pipeline.evalsha(_SHA, 1, name, every_ms, rate.count, 1)
                try:
                    return [int(wait) for _, wait in await pipeline.execute()]
                except NoScriptError:
                    if whole:
                        raise
        except (TimeoutError, RedisError, OSError) as error:
            raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error
        raise AssertionError("unreachable")


class PersonLimit:
    """At most ``per_second`` requests of one person in each clock second, in this replica only."""

    def __init__(self, per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._second = 0
        self._counts: dict[str, int] = {}

    def take(self, user_id: str) -> None:
        """Raises Refused: this second is used up."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._counts = {}
        count = self._counts.get(user_id, 0)
        if count >= self._per_second:
            raise Refused("too_many_requests", retry_after_s=1)
        self._counts[user_id] = count + 1
