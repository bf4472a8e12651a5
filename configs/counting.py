"""Plain counters that the processes of the platform keep of themselves; others read and export them."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

COMMIT_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds for commits: usually tens of milliseconds; a second is a topic's whole second under load."""


class Durations:
    """A histogram of seconds. Written by one thread, read by any: what is read may be one value old."""

    def __init__(self, bounds_s: tuple[float, ...] = COMMIT_BOUNDS_S) -> None:
        self._bounds = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def describe(self) -> dict[str, Any]:
        """``sum`` in seconds, and ``buckets``: upper bound, as Prometheus writes it -> how many took at most that."""
        return {"sum": self._sum, "buckets": cumulative(self._bounds, self._counts)}


def cumulative(bounds_s: tuple[float, ...], counts: list[int]) -> dict[str, int]:
    """Upper bound -> how many up to it, the last one ``+Inf``."""
    found, running = {}, 0
    for bound, count in zip((*map(str, bounds_s), "+Inf"), counts, strict=True):
        running += count
        found[bound] = running
    return found
