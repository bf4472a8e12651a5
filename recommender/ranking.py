"""What every ranker offers, and how the best of many scores are taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Features = Mapping[str, Floats]
"""Feature name -> values, (n,) float32 in the order of the candidates, or () for what all of them share."""


class Ranker(Protocol):
    """Orders candidates for one viewer. Pure: the same features give the same answer."""

    @property
    def version(self) -> str:
        """Names the model and its parameters; written into every impression."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """The features it reads, all of them in ``recommender.features.FEATURES``."""
        ...

    def score(self, features: Features) -> Floats:
        """(n,) float32, natural logarithm of a positive number, always finite.

        A feature that is missing, NaN or infinite counts as its neutral value (``Feature.neutral``). The shape is that
        which all features have together: () when each is ().
        """
        ...

    def explain(self, features: Features) -> Mapping[str, Floats]:
        """Term -> its part of the score, (n,) or () float32; the sum of all is the score up to rounding.

        The price of a crowded candidate, where there is one, is the term ``"exposure"``.
        """
        ...

    def rank(self, ids: Ids, features: Features, size: int) -> tuple[Ids, Floats]:
        """The ``size`` best of ``ids`` (n,) int64 with their scores, best first.

        Equal scores keep the order of ``ids``. Scores are comparable between calls of one version only.
        """
        ...


class Scored(ABC):
    """Ranks by ``score``: the base of the rankers in this package."""

    @abstractmethod
    def score(self, features: Features) -> Floats:
        """See ``Ranker.score``."""

    def rank(self, ids: Ids, features: Features, size: int) -> tuple[Ids, Floats]:
        """See ``Ranker.rank``."""
        scores = self.score(features)
        return best(ids, scores if scores.shape == ids.shape else np.broadcast_to(scores, ids.shape), size)


def best(ids: Ids, scores: Floats, size: int) -> tuple[Ids, Floats]:
    """The ``size`` highest scores (n,) float32 with their ids, highest first; equal ones in the order given.

    Takes O(n + size log size); fewer than ``size`` when there are no more.
    """
    if size <= 0:
        return ids[:0], scores[:0]
    if scores.size > size:
        least = np.partition(scores, scores.size - size)[scores.size - size]
        above = (scores > least).nonzero()[0]
        level = (scores == least).nonzero()[0][: size - above.size]
        chosen = np.sort(np.concatenate((above, level)))
        ids, scores = ids[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return ids[order], scores[order]
