"""Logarithms of probabilities, and how one is divided exactly among what it was computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recommender.ranking import Floats

Doubles = NDArray[np.float64]

LOG_ODDS_MOST: Final = 1e30
"""Log-odds are moved within ± this, so that scores stay finite in float32."""
_STRAIGHT: Final = 1e-7


def log_sigmoid(log_odds: Any) -> Doubles:
    """ln of the probability with these log-odds, float64, without overflow."""
    z = np.clip(np.asarray(log_odds, np.float64), -LOG_ODDS_MOST, LOG_ODDS_MOST)
    # A fifth of the time of logaddexp; what 1 + e rounds away is below 1e-16.
    return np.asarray(np.minimum(z, 0.0) - np.log(1.0 + np.exp(-np.abs(z))))


def divided(base: float, parts: Mapping[str, Doubles]) -> dict[str, Floats]:
    """Terms whose sum is ln σ(base + sum of parts), float32: ``"base"`` = ln σ(base), and each part's share.

    A part in log-odds counts for the mean slope of ln σ between base and total: the integrated gradient along the
    straight path (Sundararajan, Taly and Yan, 2017), which for a function of a sum is exact and in proportion.
    """
    total = base + sum(parts.values(), np.zeros(()))
    way = np.asarray(total - base)
    slope = np.exp(log_sigmoid(-(base + way / 2)))
    far = np.abs(way) > _STRAIGHT
    slope = np.where(far, (log_sigmoid(total) - log_sigmoid(base)) / np.where(far, way, 1.0), slope)
    terms = {name: np.asarray(slope * part, np.float32) for name, part in parts.items()}
    return {"base": np.asarray(log_sigmoid(base), np.float32)} | terms


def fingerprint(parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """A short name of exactly these numbers, for a model's version."""
    digest = hashlib.sha256(repr(sorted(parameters.items())).encode())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:12]
