"""The documented baseline: near, recently active, and each within what the other looks for.

score = distance + recency + viewer's fit + candidate's fit, each the natural logarithm of a term in (0, 1], so a score
can be explained exactly by adding its parts. With d in km, t in days, a the age and [lo, hi] the accepted ages:

- distance: exp(-d / 40). Half of the weight is gone after 28 km; gravity-like decay of contacts with distance.
- recency: 2 ** (-t / 7), at least 1/64: someone a week away counts half, someone gone for six weeks is not buried deeper.
- fit, both ways: exp(-x² / 2), x = (a - middle) / half width of [lo, hi + 1): 1 in the middle, 0.61 at the edges.

The constants are guesses that later models replace by what they learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from recommender.features import cleaned
from recommender.ranking import Features, Floats, Ranker, Scored

LN2: Final = 0.6931472
RECENCY_HALF_LIFE_DAYS: Final = 7.0
RECENCY_FLOOR: Final = 1 / 64
LEAST: Final = np.float32(-1e6)
"""The least logarithm of a term, whatever the parameters: scores stay finite."""


@dataclass(frozen=True, slots=True)
class Baseline(Scored):
    """The baseline with its parameters, all positive."""

    kind: ClassVar[str] = "baseline"

    distance_scale_km: float = 40.0
    recency_half_life_days: float = RECENCY_HALF_LIFE_DAYS
    recency_floor: float = RECENCY_FLOOR

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, not {value!r}")

    @property
    def version(self) -> str:
        return f"baseline-1:{self.distance_scale_km:g}:{self.recency_half_life_days:g}:{self.recency_floor:g}"

    @property
    def features(self) -> tuple[str, ...]:
        return (
            "distance_km", "days_since_active", "age_years", "age_min", "age_max", "viewer_age_years", "viewer_age_min",
            "viewer_age_max",
        )

    def explain(self, features: Features) -> Mapping[str, Floats]:
        """Term -> its logarithm, (n,) or () float32, none above 0; their sum is the score."""
        return self._sound(features)[0]

    def score(self, features: Features) -> Floats:
        """(n,) float32: natural logarithm of a number in (0, 1]."""
        return self._sound(features)[1]

    def _sound(self, features: Features) -> tuple[dict[str, Floats], Floats]:
        """(terms, score), all finite."""
        terms = self._terms(cleaned(self.features, features))
        total = _total(terms)
        if not np.isfinite(total).all():
            terms = {
                name: np.clip(np.where(np.isnan(term), LEAST, term), LEAST, np.float32(0)) for name, term in terms.items()
            }
            total = _total(terms)
        return terms, total

    def _terms(self, features: Features) -> dict[str, Floats]:
        with np.errstate(all="ignore"):
            recency = features["days_since_active"] * np.float32(-LN2 / self.recency_half_life_days)
            return {
                "distance": features["distance_km"] * np.float32(-1 / self.distance_scale_km),
                "recency": np.maximum(recency, np.float32(np.log(self.recency_floor))),
                "viewer_fit": _fit(features["age_years"], features["viewer_age_min"], features["viewer_age_max"]),
                "candidate_fit": _fit(features["viewer_age_years"], features["age_min"], features["age_max"]),
            }

    def parameters(self) -> dict[str, Any]:
        """See ``artifacts.Storable``."""
        return asdict(self)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def parts(self) -> dict[str, Ranker]:
        return {}

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                parts: Mapping[str, Ranker]) -> Baseline:
        return cls(**parameters)


def _total(terms: Mapping[str, Floats]) -> Floats:
    with np.errstate(all="ignore"):
        total = terms["distance"] + terms["recency"] + terms["viewer_fit"] + terms["candidate_fit"]
    return np.asarray(total, dtype=np.float32)


def _fit(age: Floats, least: Floats, most: Floats) -> Floats:
    half_width = (most + np.float32(1) - least) * np.float32(0.5)
    x = (age - least) / half_width - np.float32(1)
    return np.asarray(x * x * np.float32(-0.5), dtype=np.float32)
