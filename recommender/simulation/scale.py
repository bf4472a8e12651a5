"""A city's worth of people at once: what solving the served path's prices costs."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import numpy as np

from recommender.congestion.blend import blended, solve_blend
from recommender.simulation.served import (
    CANDIDATES,
    Decks,
    demeaned_decks,
    homes,
    judged_decks,
    nearest,
    pair_uniform,
    product_decks,
    random_decks,
)


def city(people: int, candidates: int, seed: int) -> Decks:
    """The standard market's preferences for both sides of ``people`` in all, only for the pairs that are on a list."""
    half = people // 2
    rng = np.random.default_rng([seed, 9])
    lists = nearest(homes(half, rng), homes(people - half, rng), candidates)
    popularity = np.concatenate((rng.permutation(half) / half, rng.permutation(people - half) / (people - half)))
    likes, liked = np.empty(lists.shape, np.float32), np.empty(lists.shape, np.float32)
    for first in range(0, people, 10_000):
        rows = slice(first, min(first + 10_000, people))
        other = lists[rows].astype(np.uint64)
        own = np.broadcast_to(np.arange(rows.start, rows.stop, dtype=np.uint64)[:, None], other.shape)
        likes[rows] = 0.5 * pair_uniform(own, other, seed) + 0.5 * popularity[lists[rows]]
        liked[rows] = 0.5 * pair_uniform(other, own, seed) + 0.5 * popularity[rows][:, None]
    return Decks(lists, likes, liked, likes)


def scale(people: int = 100_000, candidates: int = CANDIDATES, seed: int = 0) -> dict[str, Any]:
    """Solve prices for ``people`` and compare the rankings they give; seconds, and the process's peak memory in GiB.

    The peak includes the market itself, made in the same process.
    """
    began = time.perf_counter()
    decks = city(people, candidates, seed)
    made = time.perf_counter()
    starts = np.arange(0, decks.candidates.size + 1, decks.candidates.shape[1])
    prices = solve_blend(starts, decks.candidates.ravel(), decks.likes.ravel(), decks.liked.ravel())
    solved = time.perf_counter()
    scores = prices.scores(decks.candidates, blended(decks.likes, decks.liked))
    scored = time.perf_counter()
    peak = _peak_gib()
    outcomes = {
        "random order": judged_decks(decks, random_decks(decks, decks, seed)),
        "product": judged_decks(decks, product_decks(decks, decks, seed)),
        "de-meaned sum": judged_decks(decks, demeaned_decks(decks, decks, seed)),
        "priced": judged_decks(decks, scores),
    }
    return {
        "people": people, "candidates": decks.candidates.shape[1], "seed": seed,
        "market_s": made - began, "solve_s": solved - made, "score_s": scored - solved, "peak_gib": peak,
        "iterations": prices.iterations, "error": prices.error, "temperature": prices.temperature,
        "policies": {name: {"matches": found.matches, "gini": found.gini} for name, found in outcomes.items()},
    }


def _peak_gib() -> float:
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
