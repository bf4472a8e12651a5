"""Prices for a blend of both wishes: what a pair is worth when what is believed of it may be wrong.

The product of two estimates is high where both err upwards, and its order among the many who are hardly liked is noise.
A part of the plain mean of both keeps one wish from being lost in the error of the other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.congestion.equilibrium import (
    ALONE,
    ITERATIONS,
    TOLERANCE,
    checked_temperature,
    cleaned,
    suitable_temperature,
    typical_best,
)
from recommender.congestion.prices import Prices, best_of, checked_lists, solve_values

Floats = NDArray[np.float32]

SHARE: Final = 0.55
"""Of the mean in the blend. Chosen on 1,000 a side, seed 0 of the served markets: less loses without noise, more with it."""
TEMPERATURE: Final = 0.12
"""Of the typical best blend above its people's means. Less loses with noise, more without (0.10 … 0.15 differ by 0.01)."""


def blended(likes: Floats, liked: Floats) -> Floats:
    """(1 - SHARE) · likes · liked + SHARE · (likes + liked) / 2: a new float32 array of their shape, in [0, 1].

    likes, liked (…) float32 probabilities; NaN counts as 0.
    """
    first, second = cleaned(likes), cleaned(liked)
    both = first * second
    both *= np.float32(1 - SHARE)
    first += second
    first *= np.float32(SHARE / 2)
    both += first
    return both


def solve_blend(starts: NDArray[np.int64], candidates: NDArray[np.int32], likes: Floats, liked: Floats,
                temperature: float | None = None, alone: float = ALONE,
                iterations: int = ITERATIONS, tolerance: float = TOLERANCE) -> Prices:
    """Prices as of ``prices.solve_lists``, of the blend of both probabilities, (e,) float32 each.

    A receiver who is liked by all is worth more to everybody, which says nothing of a pair: half of SHARE of each one's
    mean is taken off both sides before solving, and is part of the price. ``Prices.scores`` and ``Exposed`` are therefore
    given the blend as it is. Whoever is on no list counts as the average there.
    Raises ValueError: as ``solve_lists``.
    """
    checked_lists(starts, candidates, likes)
    if liked.size != likes.size:
        raise ValueError("starts, candidates and probabilities do not fit one another")
    people = starts.size - 1
    if temperature is not None:
        checked_temperature(temperature)
    if not candidates.size:
        return Prices(np.zeros(people, np.float32), temperature or 1.0, 0, 0.0)
    places = candidates.ravel()
    means = _received(places, cleaned(likes.ravel()), people)
    means *= np.float32(SHARE / 2)
    values = blended(likes.ravel(), liked.ravel())
    values -= means[places]
    values -= np.repeat(means, np.diff(starts))
    best = np.maximum(best_of(values, starts), np.float32(0))
    heat = temperature if temperature is not None else suitable_temperature(best, TEMPERATURE)
    solved = solve_values(starts, places, values, heat, alone * typical_best(best), iterations, tolerance)
    return Prices(solved.log_multipliers - means / np.float32(heat), heat, solved.iterations, solved.error)


def _received(candidates: NDArray[np.int32], likes: Floats, people: int) -> Floats:
    """(people,) float32: mean of the likes that each receives, that of all for who is on no list."""
    counts = np.bincount(candidates, minlength=people)
    sums = np.bincount(candidates, likes, people)
    return np.where(counts > 0, sums / np.maximum(counts, 1), sums.sum() / candidates.size).astype(np.float32)
