"""What every ranker offers, the features it may read, and how the best of many scores are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Features = Mapping[str, Floats]
"""Feature name -> values, (n,) float32 in the order of the candidates, or () for what all of them share."""

FEATURES: Final[Mapping[str, str]] = {
    "distance_km": "between the centres of both grid cells, kilometres",
    "days_since_active": "days since the candidate's last known activity, not negative",
    "age_years": "the candidate's age with fraction",
    "age_min": "youngest age the candidate accepts, completed years",
    "age_max": "oldest age the candidate accepts, completed years",
    "viewer_age_years": "the viewer's age with fraction",
    "viewer_age_min": "youngest age the viewer accepts, completed years",
    "viewer_age_max": "oldest age the viewer accepts, completed years",
}
"""Every feature a card shard hands to a ranker, with its meaning and unit."""


class Ranker(Protocol):
    """Orders candidates for one viewer. Pure: the same features give the same answer."""

    @property
    def version(self) -> str:
        """Names the model and its parameters; written into every impression."""
        ...

    def rank(self, ids: Ids, features: Features, size: int) -> tuple[Ids, Floats]:
        """The ``size`` best of ``ids`` (n,) int64 with their scores, best first.

        Equal scores keep the order of ``ids``. Scores are comparable between calls of one version only.
        """
        ...


def best(ids: Ids, scores: Floats, size: int) -> tuple[Ids, Floats]:
    """The ``size`` highest scores (n,) float32 with their ids, highest first; equal ones in the order given.

    Takes O(n + size log size); fewer than ``size`` when there are no more.
    """
    if size <= 0:
        return ids[:0], scores[:0]
    if scores.size > size:
        least = np.partition(scores, scores.size - size)[scores.size - size]
        above = np.flatnonzero(scores > least)
        level = np.flatnonzero(scores == least)[: size - above.size]
        chosen = np.sort(np.concatenate((above, level)))
        ids, scores = ids[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return ids[order], scores[order]
