"""Ridge regressions of which every leave-some-waves-out fit costs one small solve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

SPREAD_LEAST = 0.1
"""The least deviation by which a column is divided; columns are answers of deviation 1, or shares of members."""


@dataclass(frozen=True)
class Moments:
    """Sums of products a wave, from which any set of waves can be regressed on."""

    x: Doubles
    """(n, k), missing values 0."""
    wave: NDArray[np.int64]
    targets: int
    by_wave: dict[int, tuple[Doubles, Doubles]]
    """wave -> (k + 1, k + 1) products with a column of ones, (k + 1, targets) products with the targets."""

    @classmethod
    def of(cls, x: Doubles, targets: Doubles, wave: NDArray[np.int64]) -> Moments:
        """``x`` (n, k), ``targets`` (n, t)."""
        ones = np.concatenate((np.ones((len(x), 1)), x), axis=1)
        parts = {
            number: (ones[wave == number].T @ ones[wave == number], ones[wave == number].T @ targets[wave == number])
            for number in np.unique(wave).tolist()
        }
        return cls(x, wave, targets.shape[1], parts)

    def predict(self, training: Sequence[int], wanted: Mask, penalty: float) -> Doubles:
        """(wanted rows, t): ridge on standardised columns of the training waves; 0 without any."""
        if not training:
            return np.zeros((int(wanted.sum()), self.targets))
        products = sum((self.by_wave[wave][0] for wave in training), np.zeros((self.x.shape[1] + 1,) * 2))
        answers = np.sum([self.by_wave[wave][1] for wave in training], axis=0)
        count = products[0, 0]
        mean, level = products[0, 1:] / count, answers[0] / count
        covered = products[1:, 1:] - count * np.outer(mean, mean)
        variance = np.diag(covered) / count
        # A category that hardly occurs in training is not blown up, or its next member would get an extreme prediction.
        scale = np.sqrt(np.maximum(variance, SPREAD_LEAST**2))
        left = covered / scale[:, None] / scale + np.eye(scale.size) * penalty
        weights = np.linalg.solve(left, (answers[1:] - np.outer(mean, answers[0])) / scale[:, None]) / scale[:, None]
        return np.asarray(level + (self.x[wanted] - mean) @ weights)


def logistic(x: Doubles, labels: NDArray[np.bool_], penalty: float, steps: int = 25) -> Doubles:
    """(k + 1,) intercept and weights of a logistic regression with an L2 penalty on weights, by Newton's method."""
    ones = np.concatenate((np.ones((len(x), 1)), x), axis=1)
    ridge = np.full(ones.shape[1], penalty)
    ridge[0] = 1e-6
    weights = np.zeros(ones.shape[1])
    rate = (labels.sum() + 1) / (labels.size + 2)
    weights[0] = np.log(rate / (1 - rate))
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(ones @ weights, -30, 30)))
        slope = ones.T @ (labels - p) - ridge * weights
        bend = (ones * np.maximum(p * (1 - p), 1e-6)[:, None]).T @ ones + np.diag(ridge)
        change = np.clip(np.linalg.solve(bend, slope), -2, 2)
        weights = weights + change
        if np.abs(change).max() < 1e-8:
            break
    return weights


def probability(x: Doubles, weights: Doubles) -> Doubles:
    """(n,) of ``logistic``'s weights."""
    return np.asarray(1 / (1 + np.exp(-np.clip(weights[0] + x @ weights[1:], -30, 30))))
