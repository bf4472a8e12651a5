"""Prices for the served path: one log multiplier a person, solved on everybody's candidate lists, applied in O(1).

The population is one set of people, so that roles may overlap; a person's load is what their own candidates, at their
multipliers, would give them. In the order of one viewer the viewer's own multiplier is the same for all and drops out:
score = joint / temperature + log multiplier of the candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recommender.congestion.equilibrium import (
    ALONE,
    ITERATIONS,
    TOLERANCE,
    attractions,
    checked_temperature,
    cleaned,
    logarithms,
    share_alone,
    suitable_temperature,
    typical_best,
)

Floats = NDArray[np.float32]

TEMPERATURE: Final = 0.08
"""Of the typical best joint value: prices of yesterday on estimates want a blunter choice than a market solved at once."""
CHUNK: Final = 2_000_000
"""Values worked on at once, so that temporary arrays stay small beside the lists."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Log multipliers (n,) float32 in the order of the people, finite, not above 0; 0 for whom nobody competes."""

    log_multipliers: Floats
    temperature: float
    iterations: int
    error: float
    """Largest relative change of a multiplier's root in the last iteration."""

    @property
    def log_prices(self) -> Floats:
        """(n,) float32: log multipliers less their mean: what a people table holds.

        A list's order is the same, and whoever has no row, and so 0, is as crowded as the average person.
        """
        mean = self.log_multipliers.mean(dtype=np.float64) if self.log_multipliers.size else 0.0
        return np.asarray(self.log_multipliers - np.float32(mean))

    def scores(self, candidates: NDArray[np.int32], joint: Floats) -> Floats:
        """joint / temperature + the candidates' log multipliers, float32, of the shape of both."""
        scores = cleaned(joint)
        scores /= np.float32(self.temperature)
        scores += self.log_multipliers[candidates]
        return scores


def solve_lists(starts: NDArray[np.int64], candidates: NDArray[np.int32], joint: Floats,
                temperature: float | None = None, alone: float = ALONE,
                iterations: int = ITERATIONS, tolerance: float = TOLERANCE) -> Prices:
    """Prices of n people from their lists in CSR form, memory: joint once more, 4 bytes a candidate.

    starts (n + 1,) int64; candidates (e,) int32 places in the population; joint (e,) float32 in [0, 1], p(owner likes) ·
    p(candidate likes); NaN counts as 0. ``alone`` is in shares of the typical best joint value. Multipliers move half of
    their way each iteration, since both sides move at once. Empty lists and worthless candidates are allowed.
    Raises ValueError: the arrays do not fit one another, or a temperature that is not positive or not finite.
    """
    checked_lists(starts, candidates, joint)
    people = starts.size - 1
    if not candidates.size:
        return Prices(np.zeros(people, np.float32), temperature or 1.0, 0, 0.0)
    attraction = cleaned(joint.ravel())
    best = best_of(attraction, starts)
    heat = checked_temperature(temperature) if temperature is not None else suitable_temperature(best, TEMPERATURE)
    return solve_values(starts, candidates.ravel(), attraction, heat, alone * typical_best(best), iterations, tolerance)


def checked_lists(starts: NDArray[np.int64], candidates: NDArray[np.int32], values: Floats) -> None:
    """Raises ValueError: the arrays of lists in CSR form do not fit one another."""
    people = starts.size - 1
    if people < 0 or starts[0] != 0 or starts[-1] != candidates.size or candidates.size != values.size:
        raise ValueError("starts, candidates and joint values do not fit one another")
    if (np.diff(starts) < 0).any():
        raise ValueError("starts must not fall")
    if candidates.size and not (candidates.min() >= 0 and candidates.max() < people):
        raise ValueError("a candidate is not in the population")


def solve_values(starts: NDArray[np.int64], candidates: NDArray[np.int32], attraction: Floats, heat: float, level: float,
                 iterations: int, tolerance: float) -> Prices:
    """Prices of lists that were checked and are not all empty. ``attraction`` (e,) holds finite values of any sign and is
    overwritten; ``level`` is what being alone is worth, in their unit as ``heat``, the temperature."""
    people = starts.size - 1
    for first in range(0, attraction.size, CHUNK):
        attractions(attraction[first:first + CHUNK], heat, level)
    lists = scipy.sparse.csr_matrix((attraction, candidates, starts), shape=(people, people), copy=False)
    shares = _start(lists, people)
    error, done = np.inf, 0
    while done < iterations and error > tolerance:
        fitted = share_alone(lists @ shares)
        moved = np.sqrt(fitted * shares)
        error = float(np.max(np.abs(moved / shares - 1)))
        shares = moved
        done += 1
    return Prices(logarithms(shares), heat, done, error)


def best_of(joint: Floats, starts: NDArray[np.int64]) -> Floats:
    """Each list's highest value, without the empty lists."""
    filled = starts[:-1][np.diff(starts) > 0]
    return np.asarray(np.maximum.reduceat(joint, filled))


def _start(lists: scipy.sparse.csr_matrix, people: int) -> Floats:
    """Roots of the shares alone if all of a person's candidates had their own share."""
    load = np.asarray(lists @ np.ones(people, dtype=np.float32))
    return np.asarray(1 / np.sqrt(1 + load), dtype=np.float32)
