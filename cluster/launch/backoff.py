"""When something that keeps ending may be started again."""

from __future__ import annotations

FIRST_S = 0.5
LONGEST_S = 30.0
FORGIVEN_AFTER_S = 120.0


class Backoff:
    """At once at first, then after 0.5 s, 1 s, 2 s … 30 s; after two quiet minutes at once again."""

    def __init__(self) -> None:
        self._last_s = float("-inf")
        self._wait_s = 0.0

    def due(self, now_s: float) -> bool:
        """Whether a restart may happen at ``now_s`` (monotonic); True counts as one."""
        if now_s - self._last_s < self._wait_s:
            return False
        if now_s - self._last_s > FORGIVEN_AFTER_S:
            self._wait_s = FIRST_S
        else:
            self._wait_s = min(LONGEST_S, max(FIRST_S, self._wait_s * 2))
        self._last_s = now_s
        return True
