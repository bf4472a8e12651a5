"""How well scores put the liked before the others, within groups that were really compared with each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Doubles = NDArray[np.float64]

DRAWN_AT_ONCE: Final = 4_000_000
"""Units drawn at once by a bootstrap: some 100 MB; of a million units four draws."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the interval that holds 95 % of its bootstrap repetitions."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class GroupedAuc:
    """AUC a group. A group in which all answers are alike has none and is left out."""

    by_group: Mapping[Any, float]

    @property
    def mean(self) -> float:
        """Every group counts once; NaN without groups."""
        return float(np.mean(list(self.by_group.values()))) if self.by_group else float("nan")

    def interval(self, draws: int = 2_000, seed: int = 0) -> Interval:
        """The mean with its interval, groups drawn with replacement."""
        return bootstrap(np.array(list(self.by_group.values())), draws=draws, seed=seed)

    def gain_over(self, other: GroupedAuc, draws: int = 2_000, seed: int = 0) -> Interval:
        """Mean difference in the groups that both have, drawn together. Raises ValueError: they share none."""
        shared = [group for group in self.by_group if group in other.by_group]
        if not shared:
            raise ValueError("the two share no group")
        return bootstrap(np.array([self.by_group[g] - other.by_group[g] for g in shared]), draws=draws, seed=seed)


def auc(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Probability that a positive one scores above a negative one, ties half; NaN when either is missing.

    (n,) labels of 0 and 1, (n,) scores. Raises ValueError: a score is NaN, or lengths differ.
    """
    positive, scores = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    if positive.shape != scores.shape:
        raise ValueError("there must be one score for each label")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    hits = int(positive.sum())
    misses = positive.size - hits
    if not hits or not misses:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def grouped_auc(labels: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any]) -> GroupedAuc:
    """AUC within each group of rows, all (n,): waves, viewers, regions or days."""
    labels, scores, groups = np.asarray(labels), np.asarray(scores), np.asarray(groups)
    found = {}
    for group in np.unique(groups):
        inside = groups == group
        value = auc(labels[inside], scores[inside])
        if not np.isnan(value):
            found[group.item()] = value
    return GroupedAuc(found)


def bootstrap(values: NDArray[Any], weights: NDArray[Any] | None = None, *, draws: int = 2_000, seed: int = 0) -> Interval:
    """The (weighted) mean of independent units (g,) with the interval of resampled units (Efron, 1979).

    NaN for none; with one unit the interval is that unit, which says nothing of its spread.
    """
    values = np.asarray(values, np.float64)
    weight = np.ones(values.size) if weights is None else np.asarray(weights, np.float64)
    if not values.size or not weight.sum() > 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng, weighted = np.random.default_rng(seed), values * weight
    totals, sums = np.empty(draws), np.empty(draws)
    step = max(1, DRAWN_AT_ONCE // values.size)
    for first in range(0, draws, step):
        part = slice(first, min(first + step, draws))
        drawn = rng.integers(0, values.size, (part.stop - first, values.size))
        totals[part], sums[part] = weight[drawn].sum(axis=1), weighted[drawn].sum(axis=1)
    means = sums[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(np.average(values, weights=weight)), float(low), float(high))
