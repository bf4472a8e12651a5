"""What weights do in the served path of a market whose truth is known: expected matches beside fairness.

A card's score has the form of ``exposure.Exposed`` over ``Reciprocal``: with a = ln p(viewer likes) and b = ln p(is liked),
exp(w · a + (2 - w) · b) / temperature + strength · log price, prices being one period old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.congestion.prices import Prices, solve_lists
from recommender.simulation.markets import MARKETS
from recommender.simulation.served import Decks, ServedOutcome, judged_decks, two_periods

LEAST: Final = np.float32(1e-4)
"""Least probability whose logarithm is taken."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What is tuned. ``own``: w in [0, 2], 1 the product of both; ``exposure``: strength of the price, 0 none."""

    own: float = 1.0
    exposure: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.own <= 2 and np.isfinite(self.exposure) and self.exposure >= 0):
            raise ValueError(f"own is in 0 … 2 and exposure not negative, not {self.own} and {self.exposure}")


@dataclass(frozen=True, slots=True)
class Situation:
    """Where weights are tried; all weights of one situation meet the same people and estimates."""

    market: str = "standard"
    people: int = 1000
    """A side."""
    candidates: int = 200
    noise: float = 0.5
    seed: int = 0


def worth(decks: Decks, own: float) -> NDArray[np.float32]:
    """(p, k) float32: both probabilities, the viewer's counted ``own`` times and the other's 2 - ``own`` times."""
    likes, liked = np.maximum(decks.likes, LEAST), np.maximum(decks.liked, LEAST)
    return np.asarray(likes ** np.float32(own) * liked ** np.float32(2 - own), np.float32)


def tried(situation: Situation, wanted: tuple[Weights, ...]) -> list[ServedOutcome]:
    """Expected matches and exposure Gini of each of the weights, in order. Raises KeyError: no such market."""
    market = MARKETS[situation.market](situation.people, situation.seed)
    before, now = two_periods(market, situation.noise, situation.seed, situation.candidates)
    starts = np.arange(0, before.candidates.size + 1, before.candidates.shape[1])
    solved: dict[float, Prices] = {}
    found = []
    for weights in wanted:
        if weights.own not in solved:
            solved[weights.own] = solve_lists(starts, before.candidates.ravel(), worth(before, weights.own).ravel())
        prices = solved[weights.own]
        scores = worth(now, weights.own) / np.float32(prices.temperature)
        scores += np.float32(weights.exposure) * prices.log_prices[now.candidates]
        found.append(judged_decks(now, scores))
    return found
