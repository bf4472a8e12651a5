"""What is done to a platform, and when: the same from the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

QUIET_S: Final = (3.0, 6.0)
"""Between the end of one fault and the next, so that each meets a platform that serves."""


@dataclass(frozen=True, slots=True)
class Nemesis:
    """One kind of fault on one component. ``longest_s`` 0: it is over at once."""

    fault: str
    component: str
    longest_s: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.fault} {self.component}"


NEMESES: Final[tuple[Nemesis, ...]] = (
    *(Nemesis("kill", name) for name in ("swipes", "identity", "cards", "writer", "loader", "gateway", "replica", "haproxy")),
    *(Nemesis("pause", name, 8.0) for name in ("swipes", "identity", "writer", "broker", "valkey", "postgres", "standby", "payments")),
    Nemesis("kill", "payments"),
    *(Nemesis("restart", name, 3.0) for name in ("valkey", "postgres", "standby")),
    *(Nemesis("delay", name, 8.0) for name in ("valkey", "postgres")),
    *(Nemesis("loss", name, 8.0) for name in ("valkey", "postgres")),
    *(Nemesis("partition", name, 8.0) for name in ("valkey", "postgres")),
)
"""payments: the processor. restart: killed, and started again after the time. The embedded broker is only paused: killed, it loses its log by design."""
CLOCKS: Final[tuple[Nemesis, ...]] = tuple(Nemesis("clock", name, 15.0) for name in ("swipes", "identity", "writer", "replica", "payments"))
"""Where clocks can be moved: by ``CLOCK_S``, forward or back."""
CLOCK_S: Final = 60.0
"""More than any deadline, and less than tokens and signatures of webhooks live."""
ON_KAFKA: Final[tuple[Nemesis, ...]] = (Nemesis("kill", "broker"),)
"""Of three brokers with their logs on disk one dies and is started again."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: ``wait_s`` after the one before was over, for ``lasts_s``."""

    wait_s: float
    nemesis: Nemesis
    lasts_s: float

    @property
    def clock_s(self) -> float:
        """By how much a clock is wrong; the seed says whether fast or slow."""
        return CLOCK_S if round(self.lasts_s * 1_000) % 2 else -CLOCK_S

    def one_of(self, pids: Sequence[int]) -> list[int]:
        """Of several processes alike the one that the seed says, as a list; empty: there is none."""
        return [pids[round(self.wait_s * 1_000) % len(pids)]] if pids else []


def schedule(seed: int, length_s: float, nemeses: Sequence[Nemesis] = NEMESES) -> list[Step]:
    """Faults one after another for about ``length_s``; each of the nemeses once before any comes again."""
    chooser = random.Random(seed)  # noqa: S311  # repeatable, no secret
    steps: list[Step] = []
    waiting: list[Nemesis] = []
    spent = 0.0
    while True:
        if not waiting:
            waiting = list(nemeses)
            chooser.shuffle(waiting)
        nemesis = waiting.pop()
        wait_s = chooser.uniform(*QUIET_S)
        lasts_s = chooser.uniform(nemesis.longest_s / 4, nemesis.longest_s)
        spent += wait_s + lasts_s
        if spent > length_s:
            return steps
        steps.append(Step(round(wait_s, 3), nemesis, round(lasts_s, 3)))
