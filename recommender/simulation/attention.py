"""What everybody's list is worth when the card at rank r is looked at with probability 1 / r."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.two_sided import gini
from recommender.simulation.markets import Market

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What two sides' rankings give in one market."""

    matches: float
    """Σ p_ij · p_ji · a_ij · a_ji, both looking independently."""
    gini_left: float
    """Gini coefficient of the attention that each person of the left receives."""
    gini_right: float


def attention(scores: Floats) -> Floats:
    """(n, m) float32: 1 / rank of each column in its row, the highest score first, equal ones in column order."""
    order = np.argsort(-scores, axis=1, kind="stable")
    seen = np.empty(scores.shape, dtype=np.float32)
    by_rank = np.float32(1) / np.arange(1, scores.shape[1] + 1, dtype=np.float32)
    np.put_along_axis(seen, order, by_rank[None, :], axis=1)
    return seen


def judged(market: Market, left: Floats, right: Floats) -> Outcome:
    """The outcome of ranking each left person's candidates by ``left`` (n, m) and each right one's by ``right`` (m, n)."""
    given, returned = attention(left), attention(right)
    each = np.einsum("ij,ij,ij,ij->i", market.left, given, market.right.T, returned.T, dtype=np.float64)
    return Outcome(
        matches=float(each.sum()),
        gini_left=gini(returned.sum(axis=0, dtype=np.float64)),
        gini_right=gini(given.sum(axis=0, dtype=np.float64)),
    )
