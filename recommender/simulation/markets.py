"""Synthetic two-sided markets with known preferences. The same seed, the same market."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LEAST: Final = np.float32(1e-4)
"""Probabilities stay this far from 0 and 1 where their log-odds are taken."""


@dataclass(frozen=True, slots=True)
class Market:
    """Two sides and what each person would do: the probability of a like once a card was looked at.

    left (n, m) float32: row i likes column j. right (m, n) float32: row j likes column i.
    """

    left: Floats
    right: Floats

    @property
    def people(self) -> tuple[int, int]:
        """How many are on the left and on the right."""
        return self.left.shape[0], self.left.shape[1]


def standard(people: int, seed: int) -> Market:
    """Preference = 0.5 · uniform + 0.5 · a common linear popularity (0 … 1 in the order of the ids)."""
    rng = np.random.default_rng(seed)
    popularity = np.linspace(0, 1, people, dtype=np.float32)
    return Market(*(
        np.float32(0.5) * rng.random((people, people), dtype=np.float32) + np.float32(0.5) * popularity
        for _ in range(2)
    ))


def low_rank(people: int, seed: int, rank: int = 8) -> Market:
    """Tastes of few dimensions: log-odds = taste · traits + popularity - 1, normal, mean like rate about 0.33.

    People of like taste want the same few, beyond what one common popularity tells.
    """
    rng = np.random.default_rng(seed)

    def side() -> Floats:
        taste = rng.standard_normal((people, rank), dtype=np.float32)
        traits = rng.standard_normal((people, rank), dtype=np.float32)
        popularity = rng.standard_normal(people, dtype=np.float32)
        return _sigmoid(np.float32(1.5 / rank**0.5) * (taste @ traits.T) + popularity - np.float32(1))

    return Market(side(), side())


def multiplicative(people: int, seed: int) -> Market:
    """Preference = uniform · popularity^1.5: a person of no popularity is liked by nobody, whatever the taste."""
    rng = np.random.default_rng(seed)
    popularity = np.linspace(0.02, 1, people, dtype=np.float32) ** np.float32(1.5)
    return Market(*(rng.random((people, people), dtype=np.float32) * popularity for _ in range(2)))


MARKETS: Final[Mapping[str, Callable[[int, int], Market]]] = {
    "standard": standard, "low_rank": low_rank, "multiplicative": multiplicative,
}
"""Name -> (people a side, seed) -> market."""


def estimated(market: Market, deviation: float, seed: int) -> Market:
    """What a platform believes: the truth with normal noise of this standard deviation on the log-odds of each pair."""
    if deviation == 0:
        return market
    rng = np.random.default_rng(seed)

    def noisy(truth: Floats) -> Floats:
        certain = np.clip(truth, LEAST, 1 - LEAST)
        odds = np.log(certain / (1 - certain))
        return _sigmoid(odds + np.float32(deviation) * rng.standard_normal(truth.shape, dtype=np.float32))

    return Market(noisy(market.left), noisy(market.right))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float32)
