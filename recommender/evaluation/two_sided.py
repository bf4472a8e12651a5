"""What lists are worth when both sides must agree, and to whom attention goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """How attention (impressions, likes) is spread over n receivers."""

    mean: float
    median: float
    p99: float
    most: float
    gini: float
    coverage: float
    """Share of receivers who got any."""
    top_decile_share: float
    """Share that goes to the tenth of receivers who get most."""


def yield_at_k(viewers: NDArray[Any], scores: NDArray[Any], outcomes: NDArray[Any], k: int) -> float:
    """Mean sum of outcomes (likes, matches) among each viewer's ``k`` highest scores; all (n,), equal ones in order.

    A viewer with fewer candidates contributes what there is; NaN without viewers. Raises ValueError: k below 1.
    """
    if k < 1:
        raise ValueError("k must be at least 1")
    viewers, outcomes = np.asarray(viewers), np.asarray(outcomes, np.float64)
    if not viewers.size:
        return float("nan")
    ranks = positions(viewers, scores)
    return float(outcomes[ranks <= k].sum() / np.unique(viewers).size)


def positions(viewers: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.int64]:
    """The place (n,) of each row in its viewer's list, 1 for the highest score; equal ones in the order given."""
    viewers, scores = np.asarray(viewers), np.asarray(scores, np.float64)
    order = np.lexsort((np.arange(scores.size), -scores, viewers))
    begins = np.flatnonzero(np.r_[True, viewers[order][1:] != viewers[order][:-1]]) if viewers.size else np.zeros(0, int)
    lengths = np.diff(np.r_[begins, viewers.size])
    ranks = np.empty(viewers.size, dtype=np.int64)
    ranks[order] = np.arange(viewers.size) - np.repeat(begins, lengths) + 1
    return ranks


def position_bias(places: NDArray[Any]) -> Doubles:
    """Probability that the card at each place (from 1) is looked at: 1 / place (Joachims et al., 2017); 0 for place 0."""
    places = np.asarray(places, np.float64)
    return np.asarray(np.divide(1.0, places, out=np.zeros_like(places), where=places >= 1))


def expected_matches(likes: NDArray[Any], liked_back: NDArray[Any], place: NDArray[Any],
                     place_back: NDArray[Any]) -> float:
    """Σ P(i likes j) · P(j likes i) · attention(i sees j) · attention(j sees i) over pairs, all of one shape.

    ``place`` is j's in the list of i, ``place_back`` i's in the list of j; 0 means not shown.
    """
    attention = position_bias(place) * position_bias(place_back)
    return float((np.asarray(likes, np.float64) * np.asarray(liked_back, np.float64) * attention).sum())


def gini(amounts: NDArray[Any]) -> float:
    """Gini coefficient of amounts (n,) that are not negative: 0 all alike, towards 1 one has all; 0 of nothing.

    Raises ValueError: a negative amount.
    """
    ordered = np.sort(np.asarray(amounts, np.float64))
    if ordered.size and ordered[0] < 0:
        raise ValueError("an amount is negative")
    total = ordered.sum()
    if not total > 0:
        return 0.0
    return float((2 * np.arange(1, ordered.size + 1) - ordered.size - 1) @ ordered / (ordered.size * total))


def load(amounts: NDArray[Any]) -> Load:
    """How n receivers' amounts are spread; of nobody everything is 0."""
    given = np.asarray(amounts, np.float64)
    if not given.size:
        return Load(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    median, p99 = np.quantile(given, (0.5, 0.99))
    return Load(
        float(given.mean()), float(median), float(p99), float(given.max()), gini(given), float((given > 0).mean()),
        top_decile_share(given),
    )


def received(receivers: NDArray[Any], population: int, weights: NDArray[Any] | None = None) -> Doubles:
    """Amount a receiver, (population,): rows (n,) of receivers numbered from 0, each counting 1 or its weight."""
    return np.bincount(np.asarray(receivers, np.int64), weights=weights, minlength=population).astype(np.float64)


def top_decile_share(amounts: NDArray[Any]) -> float:
    """Share of all that goes to the tenth (at least one) of receivers who get most; 0 of nothing, 0.1 if all alike."""
    ordered = np.sort(np.asarray(amounts, np.float64))[::-1]
    total = ordered.sum()
    return float(ordered[: max(1, round(ordered.size / 10))].sum() / total) if total > 0 else 0.0


def envy(preferences: NDArray[Any], exposures: NDArray[Any]) -> Doubles:
    """By how much each person would gain from another's exposure instead of their own, (n,), 0 for who envies nobody.

    ``preferences`` (n, m): the worth to each of n people of being seen by each of m (say the probability of a match once
    seen); ``exposures`` (n, m): the attention that each of m gives to each of n. A person's utility of somebody's
    exposure is Σ preference · exposure (Tomita and Yokoyama, 2024). O(n² m).
    """
    utility = np.asarray(preferences, np.float64) @ np.asarray(exposures, np.float64).T
    if not utility.size:
        return np.zeros(utility.shape[0])
    return np.asarray(utility.max(axis=1) - np.diag(utility))
