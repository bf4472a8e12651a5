"""The path that requests take: few candidates, near the viewer, scored with what was known a period ago.

Both sides of a market live around cities of unequal size and see the people of the other side who are nearest. From one
period to the next some move, and a part of what is believed of every pair is renewed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from recommender.evaluation.two_sided import gini
from recommender.simulation.attention import attention
from recommender.simulation.markets import LEAST, Market

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]

CANDIDATES: Final = 200
CITIES: Final = 12
SIDE_KM: Final = 100.0
CITY_KM: Final = 4.0
MOVED: Final = 0.1
"""Share of the people who live elsewhere in the next period."""
RENEWED: Final = 0.2
"""Share of the estimates' error variance that is drawn anew each period."""


@dataclass(frozen=True, slots=True)
class Decks:
    """One population of p people (the left side first), each with a list of k candidates of the other side.

    candidates (p, k) int32 places in the population, ascending in each row. likes, liked (p, k) float32: estimated
    probability that the owner of the list likes the candidate, and the reverse. true_likes (p, k): as it is.
    """

    candidates: Indices
    likes: Floats
    liked: Floats
    true_likes: Floats

    @property
    def people(self) -> int:
        return len(self.candidates)

    @property
    def joint(self) -> Floats:
        """(p, k) float32: estimated probability that both like."""
        return self.likes * self.liked


@dataclass(frozen=True, slots=True)
class ServedOutcome:
    """What ranking every list by one score gives."""

    matches: float
    """Σ p_ij · p_ji · a_ij · a_ji over pairs that are on each other's list."""
    gini: float
    """Gini coefficient of the attention received, all people."""


def judged_decks(decks: Decks, scores: Floats) -> ServedOutcome:
    """The outcome of ranking each list by ``scores`` (p, k) float32, looks being 1 / rank."""
    looks = attention(scores)
    people, k = decks.candidates.shape
    starts = np.arange(0, people * k + 1, k)
    agreed = scipy.sparse.csr_matrix(
        ((looks * decks.true_likes).ravel(), decks.candidates.ravel(), starts), shape=(people, people)
    )
    received = np.bincount(decks.candidates.ravel(), looks.ravel(), people).astype(np.float64)
    return ServedOutcome(float(agreed.multiply(agreed.T.tocsr()).sum(dtype=np.float64)) / 2, gini(received))


def homes(people: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(people, 2) km: normal around cities whose sizes fall as 1 / rank; the cities are the same for all."""
    centres = np.random.default_rng(7).uniform(0, SIDE_KM, (CITIES, 2))
    sizes = 1 / np.arange(1, CITIES + 1)
    return np.asarray(centres[rng.choice(CITIES, people, p=sizes / sizes.sum())] + rng.normal(0, CITY_KM, (people, 2)))


def nearest(left: NDArray[np.float64], right: NDArray[np.float64], candidates: int = CANDIDATES) -> Indices:
    """(n + m, k) int32: for each of the left (n, 2), then of the right (m, 2), the nearest of the other side, as places
    in left followed by right, ascending. k is at most what both sides have. Raises ValueError: a side is empty."""
    k = min(candidates, len(left), len(right))
    if k == 0:
        raise ValueError("nobody on one side")
    rows = []
    for here, there, shift in ((left, right, len(left)), (right, left, 0)):
        found = cKDTree(there).query(here, k, workers=1)[1].reshape(len(here), k)
        rows.append(np.sort(found, axis=1).astype(np.int32) + np.int32(shift))
    return np.concatenate(rows)


def decks_of(market: Market, believed: Market, candidates: Indices) -> Decks:
    """Lists whose values are those of a dense market."""
    n, _ = market.people
    own = np.arange(n)[:, None], np.arange(len(candidates) - n)[:, None]
    other = candidates[:n] - n, candidates[n:]

    def values(of: Market) -> tuple[Floats, Floats]:
        likes = np.concatenate((of.left[own[0], other[0]], of.right[own[1], other[1]]))
        liked = np.concatenate((of.right[other[0], own[0]], of.left[other[1], own[1]]))
        return likes, liked

    return Decks(candidates, *values(believed), values(market)[0])


def two_periods(market: Market, noise: float, seed: int, candidates: int = CANDIDATES) -> tuple[Decks, Decks]:
    """The lists of a period and of the next, with estimates of the same noise, most of which stays."""
    rng = np.random.default_rng([seed, 3])
    places = [homes(people, rng) for people in market.people]
    lasting = [rng.standard_normal(side.shape, dtype=np.float32) for side in (market.left, market.right)]
    periods = []
    for _ in range(2):
        believed = Market(*(
            _disturbed(side, noise, kept, rng) for side, kept in zip((market.left, market.right), lasting, strict=True)
        ))
        periods.append(decks_of(market, believed, nearest(places[0], places[1], candidates)))
        places = [np.where(rng.random((len(at), 1)) < MOVED, homes(len(at), rng), at) for at in places]
    return periods[0], periods[1]


def _disturbed(truth: Floats, noise: float, lasting: Floats, rng: np.random.Generator) -> Floats:
    fresh = rng.standard_normal(truth.shape, dtype=np.float32)
    if noise == 0:
        return truth
    certain = np.clip(truth, LEAST, 1 - LEAST)
    error = np.float32(noise * (1 - RENEWED) ** 0.5) * lasting + np.float32(noise * RENEWED**0.5) * fresh
    return np.asarray(1 / (1 + (1 - certain) / certain * np.exp(-error)), dtype=np.float32)


def random_decks(before: Decks, now: Decks, seed: int) -> Floats:
    """One uniform score a pair, the same for both people; (p, k) float32."""
    own = np.broadcast_to(np.arange(now.people)[:, None], now.candidates.shape).astype(np.uint64)
    other = now.candidates.astype(np.uint64)
    return pair_uniform(np.minimum(own, other), np.maximum(own, other), seed)


def product_decks(before: Decks, now: Decks, seed: int) -> Floats:
    """p(owner likes) · p(is liked); (p, k) float32."""
    return now.joint


def demeaned_decks(before: Decks, now: Decks, seed: int) -> Floats:
    """Both probabilities, the candidate's popularity of the period before taken off; (p, k) float32."""
    counts = np.bincount(before.candidates.ravel(), minlength=before.people)
    sums = np.bincount(before.candidates.ravel(), before.likes.ravel(), before.people)
    overall = float(before.likes.mean(dtype=np.float64)) if before.likes.size else 0.0
    popularity = np.where(counts > 0, sums / np.maximum(counts, 1), overall).astype(np.float32)
    return now.likes - popularity[now.candidates] + now.liked


def pair_uniform(first: NDArray[np.uint64], second: NDArray[np.uint64], seed: int) -> Floats:
    """Uniform numbers that belong to ordered pairs, float32 in [0, 1) (SplitMix64; Steele, Lea and Flood, 2014)."""
    mixed = first * np.uint64(0x9E3779B97F4A7C15) + second * np.uint64(0xD1B54A32D192ED03) + np.uint64(seed * 2 + 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))


BASELINES: Final[Mapping[str, Callable[[Decks, Decks, int], Floats]]] = {
    "random order": random_decks, "product": product_decks, "de-meaned sum": demeaned_decks,
}
"""Name -> (lists of the period before, of now, seed) -> scores of now."""
