"""Whether stated probabilities come true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

LEAST: Final = 1e-7
"""Probabilities are moved this far from 0 and 1, so that one sure mistake does not cost infinitely much."""


@dataclass(frozen=True)
class Curve:
    """Probabilities in bins of about equal size, ascending; each (bins,)."""

    stated: Doubles
    """Mean probability."""
    observed: Doubles
    """Share of positives."""
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of stated and observed, weighted by counts; 0 of nothing."""
        if not self.counts.sum():
            return 0.0
        return float(np.average(np.abs(self.stated - self.observed), weights=self.counts))


def log_loss(labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Mean of -ln(probability of what happened), natural units; NaN of nothing."""
    positive, p = np.asarray(labels).astype(bool), np.clip(np.asarray(probabilities, np.float64), LEAST, 1 - LEAST)
    if not p.size:
        return float("nan")
    return float(np.average(-np.where(positive, np.log(p), np.log1p(-p)), weights=weights))


def curve(labels: NDArray[Any], probabilities: NDArray[Any], bins: int = 10) -> Curve:
    """Calibration in ``bins`` quantiles of the probability (fewer rows than bins: a bin a row)."""
    positive, p = np.asarray(labels).astype(np.float64), np.asarray(probabilities, np.float64)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return Curve(
        np.array([p[part].mean() for part in parts]), np.array([positive[part].mean() for part in parts]),
        np.array([part.size for part in parts], np.int64),
    )
