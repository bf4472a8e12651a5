"""The one place where features of an ordered pair (viewer, candidate) are computed, in training and in serving alike.

A feature is computed from *columns* of both people (``COLUMNS``), the distance between them and the time. Everything is
elementwise: a column is (n,) for the people of n pairs, or () when all pairs share the person, as a viewer's candidates
do; a vector column has one more, last axis. What is missing becomes the feature's neutral value.

Every feature has a mirror: the feature that holds the same value when viewer and candidate change places. So a model of
"the viewer likes the candidate" answers "the candidate likes the viewer" too: see ``mirrored``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from configs.contracts.errors import FeaturesDiffer
from configs.contracts.people import GENDER_CODES, ROLE_CODES
from recommender.ranking import Features, Floats

Columns = Mapping[str, NDArray[Any]]
"""Column name (of ``COLUMNS``) -> values, (n,) or (), vectors (n, k) or (k,). Only columns that are read are asked for."""

DAYS_A_YEAR: Final = 365.2425
DAY_S: Final = 86_400
UNFIT: Final = np.float32(-50.0)
"""The least fit of an age: nobody within 10 half widths of the accepted ages comes near it."""

COLUMNS: Final[Mapping[str, str]] = {
    "birth_day": "birth date, days since 1970-01-01",
    "active_s": "last known activity, Unix seconds; 0: never",
    "age_min": "youngest age the person accepts, completed years",
    "age_max": "oldest age the person accepts, completed years",
    "reach_km": "largest distance the person accepts, km",
    "role": "configs.contracts.people.ROLE_CODES",
    "gender": "configs.contracts.people.GENDER_CODES",
    "verified": "0 or 1",
    "likes_sent": "likes and super-likes among the swipes the person made",
    "swipes_sent": "swipes the person made",
    "likes_received": "likes and super-likes among the swipes made on the person",
    "swipes_received": "swipes made on the person",
    "log_price": "natural logarithm of the multiplier that spreads attention; 0: none",
    "taste": "what the person likes, (k,): a factor model's user vector",
    "appeal": "who likes the person, (k,): a factor model's item vector",
}
"""Every column of a person that features are computed from. The last seven travel in a people table."""


@dataclass(frozen=True, slots=True)
class Priors:
    """What is assumed of somebody without history, and how many swipes outweigh it (empirical Bayes shrinkage)."""

    like_rate_sent: float = 0.3
    like_rate_received: float = 0.3
    strength: float = 20.0
    """Swipes worth as much as the prior: a guess, near the value fitted on speed dating."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """n ordered pairs: columns of both sides, the distance (n,) or () km, and the time."""

    viewer: Columns
    candidate: Columns
    distance_km: NDArray[Any]
    now_s: float
    priors: Priors = Priors()

    def reversed(self) -> Pairs:
        """The same pairs seen from the other side."""
        return Pairs(self.candidate, self.viewer, self.distance_km, self.now_s, self.priors)


@dataclass(frozen=True, slots=True)
class Feature:
    """One named input of rankers."""

    name: str
    unit: str
    meaning: str
    neutral: float
    """Stands for a value that is missing, NaN or infinite: that of a typical adult (guesses) or of no history."""
    mirror: str
    compute: Callable[[Pairs], NDArray[Any]]
    """Values of pairs, (n,) or (); KeyError when a column is not there."""
    of_viewer: bool = False
    """Whether nothing but the viewer's columns and the time is read."""
    revision: int = 1
    """Raised when the same name is computed in another way, so that older models are refused."""

    @property
    def digest(self) -> str:
        """Changes with anything that a stored model relies on."""
        facts = [self.name, self.unit, self.neutral, self.mirror, self.revision]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _age(person: Columns, now_s: float) -> NDArray[Any]:
    return np.asarray((now_s / DAY_S - person["birth_day"]) * (1 / DAYS_A_YEAR))


def _idle(person: Columns, now_s: float) -> NDArray[Any]:
    return np.asarray(np.maximum(now_s / DAY_S - person["active_s"] * (1 / DAY_S), 0))


def _fit(age: NDArray[Any], person: Columns) -> NDArray[Any]:
    """How well an age fits what a person accepts: 0 in the middle, -1/2 at the edges, falling with the square."""
    least, most = person["age_min"], person["age_max"]
    half_width = np.maximum((np.float32(1) + most - least) * np.float32(0.5), np.float32(0.5))
    x = (age - least) / half_width - 1
    return np.asarray(np.maximum(x * x * -0.5, UNFIT))


def _rate(likes: NDArray[Any], swipes: NDArray[Any], prior: float, strength: float) -> NDArray[Any]:
    return np.asarray((likes + prior * strength) / (np.maximum(swipes, likes) + strength))


def _sent(person: Columns, priors: Priors) -> NDArray[Any]:
    return _rate(person["likes_sent"], person["swipes_sent"], priors.like_rate_sent, priors.strength)


def _received(person: Columns, priors: Priors) -> NDArray[Any]:
    return _rate(person["likes_received"], person["swipes_received"], priors.like_rate_received, priors.strength)


def _affinity(who: Columns, whom: Columns) -> NDArray[Any]:
    return np.asarray(np.einsum("...k,...k->...", who["taste"], whom["appeal"]))


def _is(code: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda codes: np.asarray(codes == code)


def _person(name: str, unit: str, meaning: str, neutral: float,
            compute: Callable[[Columns, Pairs], NDArray[Any]]) -> tuple[Feature, Feature]:
    """The feature of a candidate and, with ``viewer_`` before its name, that of the viewer."""
    other = f"viewer_{name}"
    return (
        Feature(name, unit, f"the candidate's {meaning}", neutral, other, lambda p: compute(p.candidate, p)),
        Feature(other, unit, f"the viewer's {meaning}", neutral, name, lambda p: compute(p.viewer, p), of_viewer=True),
    )


def _both_ways(name: str, other: str, unit: str, meanings: tuple[str, str], neutral: float,
               compute: Callable[[Pairs], NDArray[Any]]) -> tuple[Feature, Feature]:
    return (
        Feature(name, unit, meanings[0], neutral, other, compute),
        Feature(other, unit, meanings[1], neutral, name, lambda p: compute(p.reversed())),
    )


_daddy, _woman, _man = _is(ROLE_CODES["sugar_daddy"]), _is(GENDER_CODES["woman"]), _is(GENDER_CODES["man"])

_ALL: Final = (
    Feature("distance_km", "km", "between the centres of both grid cells", 20.0, "distance_km",
            lambda p: p.distance_km),
    Feature("log_distance", "ln(1 + km)", "the same, near people told apart", 3.0, "log_distance",
            lambda p: np.asarray(np.log1p(np.maximum(p.distance_km, 0)))),
    *_person("days_since_active", "days", "time since their last known activity, not negative", 3.0,
             lambda who, p: _idle(who, p.now_s)),
    *_person("log_days_since_active", "ln(1 + days)", "the same, recent activity told apart", 1.4,
             lambda who, p: np.asarray(np.log1p(_idle(who, p.now_s)))),
    *_person("age_years", "years", "age with fraction", 32.0, lambda who, p: _age(who, p.now_s)),
    *_person("age_min", "years", "youngest accepted age, completed", 24.0, lambda who, _: who["age_min"]),
    *_person("age_max", "years", "oldest accepted age, completed", 45.0, lambda who, _: who["age_max"]),
    *_person("reach_km", "km", "largest accepted distance", 50.0, lambda who, _: who["reach_km"]),
    *_person("is_sugar_daddy", "0 or 1", "role", 0.5, lambda who, _: _daddy(who["role"])),
    *_person("is_woman", "0 or 1", "stated gender", 0.4, lambda who, _: _woman(who["gender"])),
    *_person("is_man", "0 or 1", "stated gender", 0.5, lambda who, _: _man(who["gender"])),
    *_person("is_verified", "0 or 1", "verification", 0.0, lambda who, _: who["verified"]),
    *_both_ways("older_years", "younger_years", "years",
                ("by how much the candidate is older than the viewer, else 0",
                 "by how much the candidate is younger than the viewer, else 0"), 0.0,
                lambda p: np.maximum(_age(p.candidate, p.now_s) - _age(p.viewer, p.now_s), 0)),
    *_both_ways("age_fit", "viewer_age_fit", "-x²/2, x in half widths of the accepted ages, at least -50",
                ("how well the candidate's age fits what the viewer accepts",
                 "how well the viewer's age fits what the candidate accepts"), -0.2,
                lambda p: _fit(_age(p.candidate, p.now_s), p.viewer)),
    *_person("like_rate_sent", "share", "likes among the swipes they made, shrunken to the population's", 0.3,
             lambda who, p: _sent(who, p.priors)),
    *_person("like_rate_received", "share", "likes among the swipes made on them, shrunken to the population's", 0.3,
             lambda who, p: _received(who, p.priors)),
    *_person("log_swipes_sent", "ln(1 + swipes)", "swipes made", 0.0,
             lambda who, _: np.asarray(np.log1p(np.maximum(who["swipes_sent"], 0)))),
    *_person("log_swipes_received", "ln(1 + swipes)", "swipes received", 0.0,
             lambda who, _: np.asarray(np.log1p(np.maximum(who["swipes_received"], 0)))),
    *_both_ways("affinity", "viewer_affinity", "factor model's preference, about 0 to 1",
                ("how much the viewer's taste agrees with the candidate's appeal",
                 "how much the candidate's taste agrees with the viewer's appeal"), 0.0,
                lambda p: _affinity(p.viewer, p.candidate)),
    *_person("log_price", "ln(multiplier)", "exposure price: negative for whom many would crowd around", 0.0,
             lambda who, _: who["log_price"]),
)

FEATURES: Final[Mapping[str, Feature]] = {feature.name: feature for feature in _ALL}
"""Every feature by name."""


class Computed(dict[str, Floats]):
    """Features that ``compute`` made: float32 and finite, so that nobody has to look again."""


def compute(names: Iterable[str], pairs: Pairs) -> Computed:
    """The named features of pairs, each (n,) or () float32 and finite.

    A column that is not there, NaN and infinity give the neutral value. Raises KeyError: a name is no feature.
    """
    computed = Computed()
    with np.errstate(all="ignore"):
        for name in names:
            feature = FEATURES[name]
            try:
                values = np.asarray(feature.compute(pairs), dtype=np.float32)
            except KeyError:
                values = np.asarray(feature.neutral, dtype=np.float32)
            computed[name] = _finite(values, feature.neutral)
    return computed


def cleaned(names: Iterable[str], features: Features) -> dict[str, Floats]:
    """The named features, missing and not finite values replaced by the neutral ones.

    Raises KeyError: a name is no feature.
    """
    got: dict[str, Floats] = {}
    finite = isinstance(features.inner if isinstance(features, Mirrored) else features, Computed)
    with np.errstate(all="ignore"):
        for name in names:
            neutral = FEATURES[name].neutral
            if finite and name in features:
                got[name] = features[name]
                continue
            values = np.asarray(features.get(name, neutral), np.float32)
            got[name] = _finite(values, neutral)
    return got


def _finite(values: Floats, neutral: float) -> Floats:
    # The sum of squares is not finite when a value is not: one pass instead of two; it may overflow, then look closer.
    if math.isfinite(values.ravel() @ values.ravel()) or np.isfinite(values).all():
        return values
    return np.where(np.isfinite(values), values, np.float32(neutral))


class Mirrored(Mapping[str, Floats]):
    """Features of the same pairs seen from the other side, without copying any."""

    def __init__(self, features: Features) -> None:
        self.inner = features

    def __getitem__(self, name: str) -> Floats:
        return self.inner[FEATURES[name].mirror]

    def __iter__(self) -> Iterator[str]:
        return (FEATURES[name].mirror for name in self.inner)

    def __len__(self) -> int:
        return len(self.inner)


def mirror_names(names: Iterable[str]) -> tuple[str, ...]:
    """What must be computed so that ``Mirrored`` holds ``names``."""
    return tuple(FEATURES[name].mirror for name in names)


def described(names: Iterable[str]) -> dict[str, str]:
    """Name -> digest, as an artifact stores them. Raises KeyError: a name is no feature."""
    return {name: FEATURES[name].digest for name in names}


def require_same(stored: Mapping[str, str]) -> None:
    """Refuses features that this code does not compute as they were when the model was trained.

    Raises FeaturesDiffer: ``unknown`` and ``changed`` name them.
    """
    unknown = sorted(name for name in stored if name not in FEATURES)
    changed = sorted(name for name, digest in stored.items() if name in FEATURES and FEATURES[name].digest != digest)
    if unknown or changed:
        raise FeaturesDiffer("the model's features are not those of this code", unknown=unknown, changed=changed)
