"""What another policy would have earned, from what the serving one showed, with which propensity, and what came of it.

Rows are impressions (n,): the reward, the propensity with which the serving policy showed this card there, and the
probability with which the judged policy would have. The estimates are right on average only if the serving policy gave
everything that the judged one would show a chance (Horvitz and Thompson, 1952; Dudík, Langford and Li, 2011).
``groups`` (n,) names the unit that each row belongs to, e.g. the viewer: rows of one unit are alike, and standard errors
count units then, not rows (Liang and Zeger, 1986).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean reward an impression under the judged policy."""

    value: float
    standard_error: float
    effective_samples: float
    """(Σ w)² / Σ w²: how many impressions the weighted ones are worth (Kish, 1965); few mean: do not trust it."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, by the normal approximation."""
        return self.value - 1.96 * self.standard_error, self.value + 1.96 * self.standard_error


def inverse_propensity(rewards: NDArray[Any], logged: NDArray[Any], judged: NDArray[Any], *,
                       weight_most: float | None = None, groups: NDArray[Any] | None = None) -> Estimate:
    """Σ w · reward / n, w = judged / logged. Unbiased; ``weight_most`` caps w: less variance, some bias downwards."""
    reward, weight = np.asarray(rewards, np.float64), _weights(logged, judged, weight_most)
    return _estimate(weight * reward, weight, groups)


def self_normalised(rewards: NDArray[Any], logged: NDArray[Any], judged: NDArray[Any], *,
                    weight_most: float | None = None, groups: NDArray[Any] | None = None) -> Estimate:
    """Σ w · reward / Σ w (Swaminathan and Joachims, 2015): slightly biased, never outside the rewards, less variance."""
    reward, weight = np.asarray(rewards, np.float64), _weights(logged, judged, weight_most)
    total = weight.sum()
    if not total > 0:
        return Estimate(float("nan"), float("nan"), 0.0)
    value = float((weight * reward).sum() / total)
    error = _spread(weight * (reward - value), groups) / float(total)
    return Estimate(value, error, _effective(weight))


def doubly_robust(rewards: NDArray[Any], logged: NDArray[Any], judged: NDArray[Any], predicted: NDArray[Any],
                  predicted_value: NDArray[Any], *, weight_most: float | None = None,
                  groups: NDArray[Any] | None = None) -> Estimate:
    """Mean of predicted value + w · (reward - predicted): right if either propensities or predictions are.

    ``predicted`` (n,): a model's reward of the shown card; ``predicted_value`` (n,): its mean over what the judged policy
    would have shown there.
    """
    reward, weight = np.asarray(rewards, np.float64), _weights(logged, judged, weight_most)
    rest = reward - np.asarray(predicted, np.float64)
    return _estimate(np.asarray(predicted_value, np.float64) + weight * rest, weight, groups)


def _weights(logged: NDArray[Any], judged: NDArray[Any], most: float | None) -> Doubles:
    there, here = np.asarray(logged, np.float64), np.asarray(judged, np.float64)
    if there.shape != here.shape:
        raise ValueError("there must be two probabilities for each impression")
    if not (there > 0).all() or (there > 1).any() or not (here >= 0).all() or (here > 1).any():
        raise ValueError("logged propensities must be in (0, 1], judged ones in [0, 1]")
    weight = here / there
    return weight if most is None else np.minimum(weight, most)


def _estimate(each: Doubles, weight: Doubles, groups: NDArray[Any] | None) -> Estimate:
    if not each.size:
        return Estimate(float("nan"), float("nan"), 0.0)
    value = float(each.mean())
    return Estimate(value, _spread(each - value, groups) / each.size, _effective(weight))


def _spread(residuals: Doubles, groups: NDArray[Any] | None) -> float:
    """Standard deviation of the sum of residuals (n,) whose mean is about 0, by units; NaN of one unit."""
    if groups is not None:
        _, which = np.unique(groups, return_inverse=True)
        residuals = np.asarray(np.bincount(which, residuals), np.float64)
    count = residuals.size
    return float(np.sqrt((residuals**2).sum() * count / (count - 1))) if count > 1 else float("nan")


def _effective(weight: Doubles) -> float:
    squares = (weight**2).sum()
    return float(weight.sum() ** 2 / squares) if squares > 0 else 0.0
