"""Bounded exploration: a few places of a list sometimes show somebody from below it, with a known probability.

Counterfactual estimates (inverse propensity, doubly robust) need the probability with which each card was at its place.
Here it is exact, because places decide independently: each explored place has people of its own from below the list.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]

LIST: Final = 20
"""Places of one page: the pattern of explored places repeats after it."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """How much is tried. Raises ValueError: a number outside of its range."""

    rate: float = 0.1
    """Probability, 0 … 0.5, that one explored place shows somebody else."""
    places: tuple[int, ...] = (5, 10, 15, 20)
    """Explored places of each 20, counted from 1; the others never change."""
    pool: int = 20
    """People from below the list that one place chooses among, at most."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 0.5:
            raise ValueError(f"the rate must be within 0 and 0.5, not {self.rate!r}")
        if len(set(self.places)) != len(self.places) or not all(1 <= place <= LIST for place in self.places):
            raise ValueError(f"places are different numbers from 1 to {LIST}, not {self.places!r}")
        if self.pool < 1:
            raise ValueError(f"a pool of {self.pool!r} people")


@dataclass(frozen=True, slots=True)
class Shown:
    """k cards in the order shown. ids (k,) int64; ranks (k,) int64: the ranker's place of each, from 0.

    propensities (k,) float64 in (0, 1]: probability of this card at this place; explored (k,) bool.
    """

    ids: Ids
    scores: Floats
    ranks: NDArray[np.int64]
    propensities: Doubles
    explored: NDArray[np.bool_]


def explored(ids: Ids, scores: Floats, size: int, exploration: Exploration, seed: int,
             weights: Floats | None = None) -> Shown:
    """The first ``size`` of a ranking (n,), best first, some of their places given to people from below.

    ``weights`` (n,) float32, not negative: how much is to be learned of each, for the choice within a pool (a newcomer's
    is high); without them all alike; NaN and negative count as 0. Who gives way leaves the list. The same seed shows the
    same; see ``seed_of``. Nothing is explored where nobody is below the list.
    """
    n = ids.size
    size = max(min(size, n), 0)
    ranks = np.arange(size)
    propensities = np.ones(size)
    instead = np.zeros(size, dtype=np.bool_)
    places = [place for place in range(size) if place % LIST + 1 in exploration.places]
    rng = np.random.default_rng(seed)
    # Drawn for every place, used or not: adding a candidate below the list changes no other place.
    draws = rng.random((len(places), 2))
    for number, place in enumerate(places if exploration.rate > 0 else []):
        pool = np.arange(size + number, n, len(places))[: exploration.pool]
        chances = _chances(weights, pool)
        if not chances.size:
            continue
        if draws[number, 0] < exploration.rate:
            chosen = min(int(np.searchsorted(np.cumsum(chances), draws[number, 1], side="right")), pool.size - 1)
            ranks[place], propensities[place], instead[place] = pool[chosen], exploration.rate * chances[chosen], True
        else:
            propensities[place] = 1 - exploration.rate
    return Shown(ids[ranks], scores[ranks], ranks, propensities, instead)


def propensity(n: int, size: int, exploration: Exploration, rank: int, place: int, weights: Floats | None = None) -> float:
    """Probability that ``explored`` shows the ranker's ``rank`` at ``place`` (both from 0) when n are ranked."""
    size = max(min(size, n), 0)
    if not (0 <= place < size and 0 <= rank < n):
        return 0.0
    places = [number for number in range(size) if number % LIST + 1 in exploration.places]
    if place not in places or exploration.rate == 0:
        return float(rank == place)
    pool = np.arange(size + places.index(place), n, len(places))[: exploration.pool]
    chances = _chances(weights, pool)
    if not chances.size:
        return float(rank == place)
    if rank == place:
        return 1 - exploration.rate
    at = np.flatnonzero(pool == rank)
    return float(exploration.rate * chances[at[0]]) if at.size else 0.0


def seed_of(viewer: bytes, deck: bytes) -> int:
    """A seed below 2**64 that belongs to one viewer's deck, the same on every machine."""
    digest = hashlib.blake2b(len(viewer).to_bytes(4, "big") + viewer + deck, digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _chances(weights: Floats | None, pool: NDArray[np.int64]) -> Doubles:
    """Probability of each of a pool, (p,); empty when nobody of it may be chosen."""
    if weights is None:
        return np.full(pool.size, 1 / max(pool.size, 1))
    given = np.clip(np.nan_to_num(weights[pool].astype(np.float64), nan=0.0, posinf=1e30), 0, 1e30)
    total = given.sum()
    if total <= 0:
        return np.zeros(0)
    # A chance of 0 could never be weighed against: such people keep a small one.
    floored = np.maximum(given / total, 1e-3 / pool.size)
    return np.asarray(floored / floored.sum())
