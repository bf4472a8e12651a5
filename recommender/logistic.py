"""Logistic regression of a like (or a match) on features: P = σ(intercept + Σ weight · feature)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from recommender.features import FEATURES, cleaned
from recommender.log_score import Doubles, divided, fingerprint, log_sigmoid
from recommender.ranking import Features, Floats, Ranker, Scored

WEIGHT_MOST: Final = 1e12
"""Weights are moved within ± this: with features of float32 the log-odds cannot overflow float64."""


@dataclass(frozen=True)
class Logistic(Scored):
    """Weights (k,) float64 of raw features, in the order of ``features``; ``centre`` (k,) is what explanations start from.

    The score is ln P. Raises ValueError: lengths differ, a number is not finite, a name is no feature.
    """

    kind: ClassVar[str] = "logistic"

    features: tuple[str, ...]
    weights: Doubles
    centre: Doubles
    intercept: float
    """Log-odds where every feature is at its centre."""
    label: str = "like"
    """What the probability is of: a like, or a match."""

    def __post_init__(self) -> None:
        weights, centre = np.asarray(self.weights, np.float64), np.asarray(self.centre, np.float64)
        if not weights.shape == centre.shape == (len(self.features),):
            raise ValueError("weights and centre must be one number a feature")
        if not (np.isfinite(weights).all() and np.isfinite(centre).all() and np.isfinite(self.intercept)):
            raise ValueError("weights, centre and intercept must be finite")
        if unknown := [name for name in self.features if name not in FEATURES]:
            raise ValueError(f"no such features: {', '.join(unknown)}")
        object.__setattr__(self, "weights", np.clip(weights, -WEIGHT_MOST, WEIGHT_MOST))
        object.__setattr__(self, "centre", centre)
        object.__setattr__(self, "features", tuple(self.features))

    @cached_property
    def version(self) -> str:
        return f"logistic-{self.label}:{fingerprint(self.parameters(), self.arrays())}"

    def log_odds(self, features: Features) -> Doubles:
        """(n,) or () float64."""
        return self._log_odds(cleaned(self.features, features))

    def _log_odds(self, features: Features) -> Doubles:
        shared = float(self.intercept) - float(self.weights @ self.centre)
        each: list[tuple[float, Floats]] = []
        for name, weight in zip(self.features, self.weights.tolist(), strict=True):
            values = features[name]
            if values.ndim:
                each.append((weight, values))
            else:
                shared += weight * float(values)
        if not each:
            return np.asarray(shared)
        return np.asarray(np.array([weight for weight, _ in each]) @ np.array([values for _, values in each], np.float64) + shared)

    def score(self, features: Features) -> Floats:
        """(n,) float32: ln P."""
        return np.asarray(log_sigmoid(self.log_odds(features)), np.float32)

    def explain(self, features: Features) -> Mapping[str, Floats]:
        """``"base"`` (everything at its centre) and one term a feature, float32."""
        values = cleaned(self.features, features)
        parts = {
            name: weight * (values[name].astype(np.float64) - centre)
            for name, weight, centre in zip(self.features, self.weights.tolist(), self.centre.tolist(), strict=True)
        }
        return divided(float(self.intercept), parts)

    def parameters(self) -> dict[str, Any]:
        """See ``artifacts.Storable``."""
        return {"features": list(self.features), "intercept": float(self.intercept), "label": self.label}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"weights": self.weights, "centre": self.centre}

    def parts(self) -> dict[str, Ranker]:
        return {}

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                parts: Mapping[str, Ranker]) -> Logistic:
        return cls(
            tuple(parameters["features"]), arrays["weights"], arrays["centre"], float(parameters["intercept"]),
            str(parameters["label"]),
        )


def fit(features: Features, labels: NDArray[Any], names: Sequence[str], *, l2: float = 1.0,
        sample_weight: NDArray[Any] | None = None, label: str = "like") -> Logistic:
    """Maximum likelihood with an L2 penalty on standardised weights; ``labels`` (n,) of 0 and 1.

    ``l2`` is the penalty's strength against the sum over samples (scikit-learn's 1 / C). With only one kind of label
    the weights are 0 and the intercept is the smoothed rate (n·y + 1) / (n + 2).
    Raises ValueError: no samples, or lengths that differ.
    """
    # Shards score without scikit-learn: importing it takes two seconds and a hundred megabytes.
    from sklearn.linear_model import LogisticRegression

    labels = np.asarray(labels).astype(bool)
    if not labels.size:
        raise ValueError("there is nothing to learn from")
    given = cleaned(names, features)
    x = np.stack([np.broadcast_to(given[name], labels.shape).astype(np.float64) for name in names], axis=1) if names else (
        np.zeros((labels.size, 0))
    )
    weight = np.ones(labels.size) if sample_weight is None else np.asarray(sample_weight, np.float64)
    centre = np.average(x, axis=0, weights=weight)
    spread = np.sqrt(np.average((x - centre) ** 2, axis=0, weights=weight))
    spread = np.where(spread > 1e-9 * (1 + np.abs(centre)), spread, np.inf)
    if labels.all() or not labels.any() or not x.shape[1]:
        rate = (float(weight[labels].sum()) + 1) / (float(weight.sum()) + 2)
        return Logistic(tuple(names), np.zeros(len(names)), centre, float(np.log(rate / (1 - rate))), label)
    model = LogisticRegression(C=1 / l2, max_iter=1000).fit((x - centre) / spread, labels, sample_weight=weight)
    return Logistic(tuple(names), model.coef_[0] / spread, centre, float(model.intercept_[0]), label)
