"""A cheap first stage before an expensive ranker: a linear guess of its score, fitted to what it has scored.

Two-stage ranking with a distilled first stage (Covington et al., 2016, section 3; distillation: Tang and Wang, 2018).
What is guessed from is recency, quality (like rates, price, vectors), distance and fit: known before anything is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.ranking import Features, Floats, Ids

Doubles = NDArray[np.float64]

INPUTS: Final = (
    "distance_km", "log_distance", "days_since_active", "log_days_since_active", "age_fit", "viewer_age_fit",
    "like_rate_received", "like_rate_sent", "log_swipes_received", "log_swipes_sent", "log_price", "affinity",
    "viewer_affinity", "age_years", "older_years", "younger_years", "is_verified", "reach_km",
)
"""Features of ``recommender.features`` that a first stage may read."""
LOGARITHMS: Final = ("like_rate_received", "like_rate_sent")
"""Also read as logarithms, in which rankers' scores are about linear."""
FITTED_SHARE: Final = 4
FITTED_LEAST: Final = 400
"""The fit looks at a viewer's best quarter, at least so many: who is near the top matters."""
NEGLIGIBLE: Final = 0.01
"""Inputs whose spread moves the guess by less than this share of all are left out."""
RIDGE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Weights (k,) of ``names`` (k,); a name in ``logged`` is read as its logarithm too, with a weight of its own."""

    weights: Mapping[str, float]
    logged: Mapping[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """The features it reads."""
        return tuple(dict.fromkeys((*self.weights, *self.logged)))

    def guess(self, features: Features, size: int) -> Floats:
        """(size,) float32; only the order of one viewer's candidates means anything."""
        total = np.zeros(size, dtype=np.float32)
        for name, weight in self.weights.items():
            if features[name].ndim:
                total += features[name] * np.float32(weight)
        for name, weight in self.logged.items():
            if features[name].ndim:
                total += np.log(np.maximum(features[name], np.float32(1e-6))) * np.float32(weight)
        return total

    def best(self, features: Features, size: int, count: int) -> Ids:
        """Ascending places of the ``count`` highest guesses."""
        if count >= size:
            return np.arange(size)
        return np.sort(np.argpartition(-self.guess(features, size), count)[:count])


@dataclass(frozen=True, slots=True)
class Sample:
    """One viewer's best candidates: inputs (n, inputs) and scores (n,), both without their mean."""

    inputs: Doubles
    scores: Doubles


def sample(features: Features, scores: Floats) -> Sample:
    """What is learned of one viewer whose candidates were all scored. ``features``: all ``INPUTS``, (n,) or ()."""
    top = np.argsort(-scores, kind="stable")[: max(FITTED_LEAST, scores.size // FITTED_SHARE)]
    columns = [np.broadcast_to(features[name], scores.shape)[top].astype(np.float64) for name in INPUTS]
    columns += [np.log(np.maximum(columns[INPUTS.index(name)], 1e-6)) for name in LOGARITHMS]
    inputs = np.stack(columns, axis=1)
    wanted = scores[top].astype(np.float64)
    return Sample(inputs - inputs.mean(axis=0), wanted - wanted.mean())


def fit(samples: Sequence[Sample]) -> FirstStage:
    """Ridge regression of scores on inputs over all samples; what hardly matters is left out and the rest fitted again.

    Raises ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("there is nothing to learn from")
    inputs = np.concatenate([one.inputs for one in samples])
    scores = np.concatenate([one.scores for one in samples])
    kept = np.flatnonzero(inputs.std(axis=0) > 0)
    weights = _ridge(inputs[:, kept], scores)
    spread = np.abs(weights) * inputs[:, kept].std(axis=0)
    kept = kept[spread > NEGLIGIBLE * spread.sum()]
    names = (*INPUTS, *LOGARITHMS)
    found = list(zip(kept.tolist(), _ridge(inputs[:, kept], scores).tolist(), strict=True))
    return FirstStage(
        {names[column]: weight for column, weight in found if column < len(INPUTS)},
        {names[column]: weight for column, weight in found if column >= len(INPUTS)},
    )


def _ridge(inputs: Doubles, scores: Doubles) -> Doubles:
    if not inputs.shape[1]:
        return np.zeros(0)
    scale = inputs.std(axis=0)
    scaled = inputs / scale
    gram = scaled.T @ scaled + RIDGE * len(scaled) * np.eye(scaled.shape[1])
    return np.asarray(np.linalg.solve(gram, scaled.T @ scores) / scale)
