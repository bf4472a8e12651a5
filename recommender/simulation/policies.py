"""Rankings that every better one is compared with. Market in, (left (n, m), right (m, n)) float32 scores out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.simulation.markets import Market

Floats = NDArray[np.float32]
Scores = tuple[Floats, Floats]


def random_order(market: Market, seed: int) -> Scores:
    """One uniform score a pair, the same for both people, so that who is high on a list has the other high too."""
    rng = np.random.default_rng([seed, 2])  # its own stream: the market of this seed must not be drawn again
    return _mutual(rng.random(market.left.shape, dtype=np.float32))


def circulant(market: Market, seed: int = 0) -> Scores:
    """Person i's list begins with i and goes round; both of a pair have the same rank. Knows no preference."""
    n, m = market.people
    lists = max(n, m)
    steps = np.subtract.outer(-np.arange(n), -np.arange(m)) % max(lists, 1)
    return _mutual(-steps.astype(np.float32))


def product(market: Market, seed: int = 0) -> Scores:
    """p(i likes j) · p(j likes i)."""
    return _mutual(market.left * market.right.T)


def harmonic(market: Market, seed: int = 0) -> Scores:
    """Harmonic mean of both probabilities (Pizzato et al., 2010, "RECON")."""
    both = market.left + market.right.T
    return _mutual(np.divide(2 * market.left * market.right.T, both, out=np.zeros_like(both), where=both > 0))


def demeaned_sum(market: Market, seed: int = 0) -> Scores:
    """Both probabilities, each less the mean of who receives it, added."""
    return _mutual(market.left - _received(market.left) + (market.right - _received(market.right)).T)


def popularity(market: Market, seed: int = 0) -> Scores:
    """Everybody sees the most liked first."""
    n, m = market.people
    return (
        np.broadcast_to(_received(market.left), (n, m)).astype(np.float32),
        np.broadcast_to(_received(market.right), (m, n)).astype(np.float32),
    )


BASELINES: Final[Mapping[str, Callable[[Market, int], Scores]]] = {
    "random order": random_order, "circulant": circulant, "popularity": popularity,
    "product": product, "harmonic": harmonic, "de-meaned sum": demeaned_sum,
}
"""Name -> (market as estimated, seed) -> scores."""


def _mutual(scores: Floats) -> Scores:
    return scores, scores.T


def _received(likes: Floats) -> Floats:
    """Mean of each column, (m,) float32; 0 where nobody is there to like."""
    return np.asarray(likes.mean(axis=0) if likes.shape[0] else np.zeros(likes.shape[1]), dtype=np.float32)
