"""How far the writers are behind the log, and waiting until they are not."""

from __future__ import annotations

import asyncio
import threading

import structlog

from configs.contracts.errors import PlatformError
from configs.settings import Settings
from writers.catching_up import catch_up, taken_in
from writers.lag import followed, lag

log = structlog.get_logger(__name__)

DRAIN_TIMEOUT_S = 30.0
OTHERS_TIMEOUT_S = 10.0
"""For those who tell others, by push or mail, or make renditions: what they wait for may be away or take long."""


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
    """Whether everything that was appended before the call, and what follows from it, got into rows in time.

    Waits a little for every other consumer too: what they have not taken in lasts only with a log that does.
    """
    stopping, leaving, loop = threading.Event(), threading.Event(), asyncio.get_running_loop()
    loop.call_later(DRAIN_TIMEOUT_S, stopping.set)
    try:
        complete = await asyncio.to_thread(catch_up, settings, stopping, likes=True)
        if complete:
            loop.call_later(OTHERS_TIMEOUT_S, leaving.set)
            if not await asyncio.to_thread(taken_in, settings, followed(settings), leaving):
                log.warning("drained_before_every_consumer", waited_s=OTHERS_TIMEOUT_S)
        return complete
    except PlatformError as error:
        log.warning("drain_failed", kind=type(error).__name__)
        return False
