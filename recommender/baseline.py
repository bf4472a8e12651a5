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
from dataclasses import dataclass
from typing import Final

import numpy as np

from recommender.ranking import Features, Floats, Ids, best

LN2: Final = 0.6931472


@dataclass(frozen=True, slots=True)
class Baseline:
    """The baseline with its parameters."""

    distance_scale_km: float = 40.0
    recency_half_life_days: float = 7.0
    recency_floor: float = 1 / 64

    @property
    def version(self) -> str:
        return f"baseline-1:{self.distance_scale_km:g}:{self.recency_half_life_days:g}:{self.recency_floor:g}"

    def explain(self, features: Features) -> Mapping[str, Floats]:
        """Term -> its logarithm, (n,) or () float32, none above 0; their sum is the score."""
        viewer_fit = _fit(features["age_years"], features["viewer_age_min"], features["viewer_age_max"])
        candidate_fit = _fit(features["viewer_age_years"], features["age_min"], features["age_max"])
        recency = features["days_since_active"] * np.float32(-LN2 / self.recency_half_life_days)
        return {
            "distance": features["distance_km"] * np.float32(-1 / self.distance_scale_km),
            "recency": np.maximum(recency, np.float32(np.log(self.recency_floor))),
            "viewer_fit": viewer_fit,
            "candidate_fit": candidate_fit,
        }

    def score(self, features: Features) -> Floats:
        """(n,) float32: natural logarithm of a number in (0, 1]."""
        terms = self.explain(features)
        return np.asarray(
            terms["distance"] + terms["recency"] + terms["viewer_fit"] + terms["candidate_fit"], dtype=np.float32
        )

    def rank(self, ids: Ids, features: Features, size: int) -> tuple[Ids, Floats]:
        """See ``Ranker.rank``."""
        return best(ids, self.score(features), size)


def _fit(age: Floats, least: Floats, most: Floats) -> Floats:
    half_width = (most + np.float32(1) - least) * np.float32(0.5)
    x = (age - least) / half_width - np.float32(1)
    return np.asarray(x * x * np.float32(-0.5), dtype=np.float32)
