"""Any ranker with the baseline's recency: who was long away is lowered, whatever the inner ranker has learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from recommender.baseline import LN2, RECENCY_FLOOR, RECENCY_HALF_LIFE_DAYS
from recommender.features import cleaned
from recommender.log_score import fingerprint
from recommender.ranking import Features, Floats, Ranker, Scored

IDLE: Final = "days_since_active"
TERM: Final = "recency"
SLOPE_MOST: Final = 1e30


@dataclass(frozen=True)
class Recent(Scored):
    """score = inner score + ln max(2 ** (-days since active / half life), floor).

    The natural logarithm of a factor in [floor, 1], as in ``baseline``: with the defaults someone a week away counts half,
    and nobody is put lower than six weeks put them. An export knows only the last activity, so no model can learn this
    from one. It is added after exposure prices, which would otherwise make up for it: a price gives everybody their share.
    Raises ValueError: a half life that is not positive or not finite, a floor outside of (0, 1].
    """

    kind: ClassVar[str] = "recent"

    inner: Ranker
    half_life_days: float = RECENCY_HALF_LIFE_DAYS
    floor: float = RECENCY_FLOOR

    def __post_init__(self) -> None:
        if not (np.isfinite(self.half_life_days) and self.half_life_days > 0):
            raise ValueError(f"the half life must be positive, not {self.half_life_days!r}")
        if not 0 < self.floor <= 1:
            raise ValueError(f"the floor is above 0 and at most 1, not {self.floor!r}")

    @cached_property
    def version(self) -> str:
        return f"recent:{fingerprint({'inner': self.inner.version} | self.parameters(), {})}"

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.inner.features, IDLE)))

    def score(self, features: Features) -> Floats:
        """(n,) float32."""
        return np.asarray(self.inner.score(features) + self._recency(features), np.float32)

    def explain(self, features: Features) -> Mapping[str, Floats]:
        """The inner terms and ``"recency"``. Raises ValueError: the inner ranker has this term already."""
        terms = self.inner.explain(features)
        if TERM in terms:
            raise ValueError("recency would be counted twice")
        return {**terms, TERM: self._recency(features)}

    def _recency(self, features: Features) -> Floats:
        slope = np.float32(-min(LN2 / self.half_life_days, SLOPE_MOST))
        with np.errstate(over="ignore"):
            recency = cleaned((IDLE,), features)[IDLE] * slope
        return np.asarray(np.clip(recency, np.float32(np.log(self.floor)), np.float32(0)), np.float32)

    def parameters(self) -> dict[str, Any]:
        """See ``artifacts.Storable``."""
        return {"half_life_days": float(self.half_life_days), "floor": float(self.floor)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def parts(self) -> dict[str, Ranker]:
        return {"inner": self.inner}

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                parts: Mapping[str, Ranker]) -> Recent:
        return cls(parts["inner"], float(parameters["half_life_days"]), float(parameters["floor"]))


def without_recency(ranker: Ranker) -> Ranker:
    """What the ranker says of a pair apart from how recently the candidate was active."""
    return ranker.inner if isinstance(ranker, Recent) else ranker
