"""From what operations cost here to what a number of people online needs: cores, processes, memory, and what is full first.

Pure. Costs are CPU seconds for 1,000 operations by component (``accounting``), at the highest rate that was sustained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DESIGN_ONLINE: Final = 100_000
DESIGN_RATES: Final[Mapping[str, float]] = {"swipe": 10_000, "cards": 5_000, "messages": 8_000, "feed": 4_000, "login": 2.3}
"""Operations a second with ``DESIGN_ONLINE`` people online: the design's plan; sign-in: everybody once in twelve hours."""
DESIGN_CORES: Final = 26
"""What the design's plan gives the API."""
COLD_CARDS: Final = 0.2
"""Share of card requests that make a deck."""
REGISTERED: Final = 20
"""People who are registered for each who is online."""
SWIPES_A_PERSON: Final = 300
BUSY: Final = 0.6
"""Of one core, a process that works on one thread is given this much."""
NODE_CORES: Final = 16
NODE_MEMORY_GIB: Final = 64
PARTITIONS: Final = 64
POSTGRES_CORES: Final = 8
MOST: Final[Mapping[str, int]] = {
    "swipes": PARTITIONS, "identity": PARTITIONS, "messages": PARTITIONS, "commerce": PARTITIONS, "writer": PARTITIONS, "gateway": 64,
    "valkey": 3, "postgres": POSTGRES_CORES,
}
"""How many processes of a kind (of PostgreSQL: cores) can share the work at most; what is missing here has no such limit.

Shards cannot be more than partitions; of the design's six Redis nodes three are primaries.
"""
PER_NODE: Final = ("ray system", "supervision")
"""Components whose memory each node takes once, however much of their work there is."""


@dataclass(frozen=True, slots=True)
class Need:
    """Of one component: cores, processes that share them, and how much of what it can have at most that is."""

    component: str
    cores: float
    processes: int
    full: float | None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What ``online`` people need. ``full_first``: the component that has least room, and how many online fill it.

    ``memory_gib``: of ``processes_gib`` (before anybody comes, each node's own too), people, their swipes and sockets.
    """

    online: int
    needs: tuple[Need, ...]
    cores: float
    memory_gib: float
    processes_gib: float
    nodes: int
    full_first: str
    full_at: int


def rates(online: int) -> dict[str, float]:
    """Operations a second by name."""
    return {name: rate * online / DESIGN_ONLINE for name, rate in DESIGN_RATES.items()}


def of_cards(warm: Mapping[str, float], cold: Mapping[str, float]) -> dict[str, float]:
    """One cost for the mix of requests that find their deck and those that do not."""
    return {name: (1 - COLD_CARDS) * warm[name] + COLD_CARDS * cold[name] for name in warm}


def population_for(registered: int, measured: Mapping[str, int]) -> str:
    """Of the measured populations (name -> people) the one whose costs a plan takes: the nearest with as many people or more, else
    the largest. Costs grow with people, so a smaller one would promise too much."""
    enough = [name for name, people in measured.items() if people >= registered]
    return min(enough, key=measured.__getitem__) if enough else max(measured, key=measured.__getitem__)


def capacity(
    costs: Mapping[str, Mapping[str, float]], online: int, *, bytes_a_person: float, bytes_a_swipe: float, bytes_a_socket: float,
    mib_a_process: Mapping[str, float],
) -> Capacity:
    """``costs``: operation -> component -> CPU seconds for 1,000. Operations that were not measured count nothing.

    ``mib_a_process``: component -> memory of one process (``PER_NODE``: of a node) while there are few people.
    """
    wanted = rates(online)
    cores: dict[str, float] = {}
    for operation, by_component in costs.items():
        for component, cost in by_component.items():
            cores[component] = cores.get(component, 0.0) + wanted[operation] * cost / 1_000
    needs = []
    for component, needed in sorted(cores.items(), key=lambda item: -item[1]):
        share = 1.0 if component == "postgres" else BUSY
        most = MOST.get(component)
        needs.append(Need(component, needed, math.ceil(needed / share), None if most is None else needed / (most * share)))
    people = online * REGISTERED
    memory = people * (bytes_a_person + SWIPES_A_PERSON * bytes_a_swipe) + online * bytes_a_socket
    processes_gib = sum(need.processes * mib_a_process.get(need.component, 0.0) for need in needs if need.component not in PER_NODE) / 2**10
    node_gib = sum(mib_a_process.get(component, 0.0) for component in PER_NODE) / 2**10
    total, gib = sum(cores.values()), memory / 2**30 + processes_gib
    nodes = max(math.ceil(total / BUSY / NODE_CORES), math.ceil(gib / (BUSY * NODE_MEMORY_GIB - node_gib)))
    limited = [need for need in needs if need.full]
    first = max(limited, key=lambda need: need.full or 0.0, default=None)
    return Capacity(
        online=online, needs=tuple(needs), cores=total, memory_gib=gib + nodes * node_gib,
        processes_gib=processes_gib + nodes * node_gib, nodes=nodes,
        full_first="" if first is None else first.component,
        full_at=0 if first is None or not first.full else round(online / first.full),
    )
