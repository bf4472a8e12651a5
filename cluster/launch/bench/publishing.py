"""Swipes at a steady rate while nothing else happens and while posts go to the feeds of many followers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from cluster.connections.redis import sync_client
from cluster.launch.bench import feeds, measure
from cluster.launch.bench.generator import Outcome
from configs.contracts.topics import MATCHING_SWIPE
from configs.settings import Settings
from writers.lag import lag
from writers.loads.log import ROWS

ARRIVAL_S: Final = 120.0
LOOK_S: Final = 0.25
CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Swiped:
    """Swipes of one run. ``behind``: the most that were acknowledged and not yet in rows, looked at a few times a second."""

    outcome: Outcome
    behind: int

    def as_json(self) -> dict[str, Any]:
        out = self.outcome
        return {
            "rate": out.rate, "p50_ms": out.p50_ms, "p99_ms": out.p99_ms, "max_ms": out.max_ms, "errors": out.errors,
            "behind": self.behind,
        }


def publish(settings: Settings, creator_id: str, followers: Sequence[str]) -> tuple[float, int]:
    """Publishes a post: (seconds until it is in the last follower's feed, in how many feeds it is then).

    ``followers`` in order of id, which is the order of the feeds. Infinite: not within ``ARRIVAL_S``.
    """
    member, began = feeds.publish(settings, creator_id)
    took = float("inf")
    with sync_client(settings) as client:
        while time.monotonic() - began < ARRIVAL_S:
            if feeds.arrived(client, followers[-1:], member):
                took = time.monotonic() - began
                break
            time.sleep(0.02)
        return took, feeds.arrived(client, followers, member)


def swiped(
    settings: Settings, requests: Sequence[bytes], *, rate: float, seconds: float, meanwhile: Callable[[], object] | None = None
) -> Swiped:
    """Offers swipes at a rate; does ``meanwhile`` again and again until the last is answered."""
    ended = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        load = pool.submit(measure.generate, settings.port, requests, rate=rate, seconds=seconds, connections=CONNECTIONS)
        load.add_done_callback(lambda _: ended.set())
        most = pool.submit(_most_behind, settings, ended)
        while meanwhile is not None and not ended.is_set():
            meanwhile()
        return Swiped(load.result(), most.result())


def _most_behind(settings: Settings, ended: threading.Event) -> int:
    most = 0
    while not ended.wait(LOOK_S):
        most = max(most, sum(
            one.records for one in lag(settings) if (one.consumer, one.topic) == (ROWS, MATCHING_SWIPE.name)
        ))
    return most
