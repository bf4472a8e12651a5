"""Any ranker with the price of crowding: the score of whom many compete for is lowered by their logarithmic price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from recommender.features import cleaned
from recommender.log_score import fingerprint
from recommender.ranking import Features, Floats, Ranker, Scored

PRICE: Final = "log_price"
LOG_PRICE_MOST: Final = np.float32(1e6)
STRENGTH_MOST: Final = 1e6
ATTRACTION_MOST: Final = 1e6


@dataclass(frozen=True)
class Exposed(Scored):
    """score = attraction + strength · log price of the candidate; prices come with the people table.

    In transferable-utility matching the expected matches of a pair grow with its attraction times one multiplier a person
    (Choo and Siow, 2006; Tomita et al., 2022): the viewer's is the same for all of their candidates, the candidate's is
    the price. Strength 1 applies it, 0 ignores it, between is a compromise.
    The attraction is the inner score when no temperature is given. With one it is exp(inner score) / temperature, as
    ``congestion.prices`` solves it with the same temperature: the inner score must be the logarithm of a probability then.
    Raises ValueError: a strength that is negative or not finite, a temperature that is not positive or not finite.
    """

    kind: ClassVar[str] = "exposed"

    inner: Ranker
    strength: float = 1.0
    temperature: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.strength) and self.strength >= 0):
            raise ValueError(f"the strength must not be negative, nor {self.strength!r}")
        if self.temperature is not None and not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"the temperature must be positive, not {self.temperature!r}")

    @cached_property
    def version(self) -> str:
        return f"exposed:{fingerprint({'inner': self.inner.version} | self.parameters(), {})}"

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.inner.features, PRICE)))

    def score(self, features: Features) -> Floats:
        """(n,) float32."""
        inner = self.inner.score(features)
        return np.asarray(inner + self._sharpening(inner) + self._price(features), np.float32)

    def explain(self, features: Features) -> Mapping[str, Floats]:
        """The inner terms, ``"exposure"``, and with a temperature ``"sharpening"``: exp(inner score) / temperature less
        the inner score. Raises ValueError: the inner ranker has these terms already."""
        terms = self.inner.explain(features)
        if "exposure" in terms:
            raise ValueError("the exposure price would be counted twice")
        if self.temperature is not None:
            terms = {**terms, "sharpening": self._sharpening(self.inner.score(features))}
        return {**terms, "exposure": self._price(features)}

    def _sharpening(self, inner: Floats) -> Floats:
        if self.temperature is None:
            return np.zeros((), np.float32)
        joint = np.exp(np.minimum(inner, np.float32(0)).astype(np.float64))
        return np.asarray(np.minimum(joint / self.temperature, ATTRACTION_MOST) - inner, np.float32)

    def _price(self, features: Features) -> Floats:
        price = np.clip(cleaned((PRICE,), features)[PRICE], -LOG_PRICE_MOST, LOG_PRICE_MOST)
        return np.asarray(price * np.float32(min(self.strength, STRENGTH_MOST)), np.float32)

    def parameters(self) -> dict[str, Any]:
        """See ``artifacts.Storable``."""
        stored: dict[str, Any] = {"strength": float(self.strength)}
        return stored if self.temperature is None else {**stored, "temperature": float(self.temperature)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def parts(self) -> dict[str, Ranker]:
        return {"inner": self.inner}

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                parts: Mapping[str, Ranker]) -> Exposed:
        temperature = parameters.get("temperature")
        return cls(parts["inner"], float(parameters["strength"]), None if temperature is None else float(temperature))
