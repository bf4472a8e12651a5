"""How far the writers are behind the log, and waiting until they are not."""

from __future__ import annotations

import asyncio
import threading

import structlog

from configs.contracts.errors import PlatformError
from configs.settings import Settings
from writers.catching_up import catch_up
from writers.lag import lag

log = structlog.get_logger(__name__)

DRAIN_TIMEOUT_S = 30.0


def lag_by_consumer(settings: Settings) -> dict[str, dict[str, int]]:
    """Consumer -> topic -> records behind. The embedded broker may report an end that is a batch old.

    Raises LogUnavailable, DependencyUnavailable: a server does not answer.
    """
    found: dict[str, dict[str, int]] = {}
    for place in lag(settings):
        behind = found.setdefault(place.consumer, {})
        behind[place.topic] = behind.get(place.topic, 0) + place.records
    return found


async def drained(settings: Settings) -> bool:
    """Whether everything that was appended before the call, and what follows from it, got into rows in time."""
    stopping = threading.Event()
    asyncio.get_running_loop().call_later(DRAIN_TIMEOUT_S, stopping.set)
    try:
        return await asyncio.to_thread(catch_up, settings, stopping, likes=True)
    except PlatformError as error:
        log.warning("drain_failed", kind=type(error).__name__)
        return False
