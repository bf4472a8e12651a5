"""Both sides' wishes in one score: RECON and its successors (Pizzato et al., 2010; Neve and Palomares, 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from recommender.congestion.blend import SHARE
from recommender.features import Mirrored, mirror_names
from recommender.log_score import fingerprint
from recommender.ranking import Features, Floats, Ranker, Scored

PRODUCT: Final = "product"
HARMONIC: Final = "harmonic"
BLEND: Final = "blend"
RULES: Final = (PRODUCT, HARMONIC, BLEND)
LN2: Final = float(np.log(2))


@dataclass(frozen=True)
class Reciprocal(Scored):
    """Combines ln P(viewer likes candidate) with ln P(candidate likes viewer).

    ``product``: their sum, the logarithm of a match's probability when both decide independently. ``harmonic``: the
    logarithm of the harmonic mean, which one lukewarm side pulls down more. ``blend``: that of the product and the mean
    of both in fixed shares (``congestion.blend``), for estimates that err; made for ``Exposed`` with its prices. A joint model needs no combination: a
    ``Logistic`` or ``Boosted`` whose label is the match reads features of both directions by itself.
    Raises ValueError: an unknown rule.
    """

    kind: ClassVar[str] = "reciprocal"

    likes: Ranker
    """Scores ln P of the ordered pair (viewer, candidate)."""
    liked: Ranker
    """Scores ln P of an ordered pair too; it is given (candidate, viewer)."""
    rule: str = PRODUCT

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"the rule is one of {', '.join(RULES)}, not {self.rule!r}")

    @cached_property
    def version(self) -> str:
        return f"reciprocal-{self.rule}:{fingerprint({'likes': self.likes.version, 'liked': self.liked.version}, {})}"

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.likes.features, *mirror_names(self.liked.features))))

    def score(self, features: Features) -> Floats:
        """(n,) float32."""
        likes, liked = self.likes.score(features), self.liked.score(Mirrored(features))
        if self.rule == PRODUCT:
            return np.asarray(likes + liked, np.float32)
        beyond = _imbalance(likes, liked) if self.rule == HARMONIC else _sympathy(likes, liked)
        return np.asarray((likes + liked) * np.float32(0.5) + beyond, np.float32)

    def explain(self, features: Features) -> Mapping[str, Floats]:
        """The terms of both sides under ``likes.`` and ``liked.``; harmonic: halves of them and ``"imbalance"``;
        blend: halves and ``"sympathy"``, what one wish keeps of a pair whose other is small.

        The harmonic mean of e^a and e^b is e^((a + b) / 2) / cosh((a - b) / 2).
        """
        part = np.float32(1 if self.rule == PRODUCT else 0.5)
        terms = {f"likes.{name}": term * part for name, term in self.likes.explain(features).items()}
        terms |= {f"liked.{name}": term * part for name, term in self.liked.explain(Mirrored(features)).items()}
        if self.rule == HARMONIC:
            terms["imbalance"] = _imbalance(self.likes.score(features), self.liked.score(Mirrored(features)))
        elif self.rule == BLEND:
            terms["sympathy"] = _sympathy(self.likes.score(features), self.liked.score(Mirrored(features)))
        return terms

    def parameters(self) -> dict[str, Any]:
        """See ``artifacts.Storable``."""
        return {"rule": self.rule}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def parts(self) -> dict[str, Ranker]:
        return {"likes": self.likes, "liked": self.liked}

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                parts: Mapping[str, Ranker]) -> Reciprocal:
        return cls(parts["likes"], parts["liked"], str(parameters["rule"]))


def _imbalance(a: Floats, b: Floats) -> Floats:
    """-ln cosh((a - b) / 2), never above 0, without overflow."""
    apart = np.abs(a - b)
    return np.asarray(np.float32(LN2) - apart / 2 - np.log1p(np.exp(-apart)), np.float32)


def _sympathy(a: Floats, b: Floats) -> Floats:
    """ln of the blend of e^a and e^b, less (a + b) / 2, without overflow."""
    product = np.float32(np.log1p(-SHARE)) + (a + b) * np.float32(0.5)
    return np.asarray(np.logaddexp(product, np.float32(np.log(SHARE)) - _imbalance(a, b)), np.float32)
