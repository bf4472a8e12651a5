"""A made-up market in the form of an export, with swipes whose probabilities are known: what to learn on without data.

People are ``population.generate``'s. Each swipes on some of the nearest whom both sides accept, popular people more often,
as rankers by liking deal them. The log-odds of a like: a common popularity, the fit of the candidate's age, nearness,
and how easily the swiper likes. The same seed, the same market.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any, Final

import h3
import numpy as np
from numpy.typing import NDArray

from configs.contracts.people import GENDER_CODES, ROLE_CODES, gender_mask, role_mask
from recommender import population
from recommender.candidates import day_number
from recommender.datasets.exported import Exported, Impressions, Swipes
from recommender.datasets.neighbours import Lists, mutual_lists
from recommender.features import DAY_S, Pairs, compute

CELL_RESOLUTION: Final = 5
"""As coarse as an export's cells."""
DAYS: Final = 30
VERIFIED: Final = 0.4
# Log-odds; chosen so that about a third of swipes are likes and popularity tells most, as on real sites (guesses).
EASE, POPULARITY, AGE_FIT, KM, VERIFICATION, LEVEL = 0.7, 1.0, 1.2, -0.01, 0.6, -0.9
CROWDING: Final = 0.8
"""Weight of popularity in who is dealt: log-odds a standard deviation."""


def generated(people: int, swipes_each: int = 40, *, near: str | None = None, seed: int = 0, until: date) -> Exported:
    """``people`` around one city or several, and up to ``swipes_each`` swipes of each in the 30 days before ``until``.

    No cards are logged, and nobody's activity is later than ``until``. Raises LookupError: no such city.
    """
    rng = np.random.default_rng([seed, 21])
    until_s = datetime.combine(until, time(), UTC).timestamp()
    crowd = population.generate(people, near, seed, today=until)
    empty = _swipes(*(np.zeros(0, np.int64),) * 2, np.zeros(0, np.bool_), np.zeros(0), np.zeros(0))
    data = _exported(crowd, rng, until_s, {}, empty, np.zeros((0, 2), np.int32))
    popularity = rng.standard_normal(people)
    lists = mutual_lists(data)
    chosen = _dealt(lists, popularity, swipes_each, rng)
    owners, others, km = lists.owners[chosen], lists.candidates[chosen], lists.distances[chosen]
    odds = _log_odds(data, owners, others, km, popularity, rng.normal(0, EASE, people))
    liked = rng.random(owners.size) < 1 / (1 + np.exp(-odds))
    at_s = np.sort(rng.uniform(until_s - DAYS * DAY_S, until_s, owners.size))
    order = rng.permutation(owners.size)
    swipes = _swipes(owners[order], others[order], liked[order], at_s, km[order])
    counts = {
        "likes_sent": np.bincount(owners, liked, people), "swipes_sent": np.bincount(owners, minlength=people),
        "likes_received": np.bincount(others, liked, people), "swipes_received": np.bincount(others, minlength=people),
    }
    pairs = np.stack([owners[liked], others[liked]], axis=1).astype(np.int64)
    keys, returned = pairs[:, 0] * people + pairs[:, 1], pairs[:, 1] * people + pairs[:, 0]
    mutual = pairs[np.isin(keys, returned) & (pairs[:, 0] < pairs[:, 1])]
    people_columns = dict(data.people) | {name: column.astype(np.float32) for name, column in counts.items()}
    return Exported(
        until_s - DAYS * DAY_S, until_s, True, data.ids, people_columns, data.cells, data.latitudes, data.longitudes,
        data.accepts_roles, data.accepts_genders, data.discoverable, swipes, data.impressions, mutual.astype(np.int32),
    )


def _dealt(lists: Lists, popularity: NDArray[np.float64], each: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Places in the lists of whom everybody is dealt: without replacement, popular ones more often (Gumbel's trick)."""
    keys = CROWDING * popularity[lists.candidates] + rng.gumbel(size=lists.candidates.size)
    order = np.lexsort((-keys, lists.owners))
    rank = np.arange(order.size) - lists.starts[lists.owners[order]]
    return order[rank < each]


def _log_odds(data: Exported, owners: NDArray[Any], others: NDArray[Any], km: NDArray[Any],
              popularity: NDArray[np.float64], ease: NDArray[np.float64]) -> NDArray[np.float64]:
    viewer = {name: column[owners] for name, column in data.people.items()}
    candidate = {name: column[others] for name, column in data.people.items()}
    features = compute(("age_fit", "is_verified"), Pairs(viewer, candidate, km, data.until_s))
    return np.asarray(
        LEVEL + POPULARITY * popularity[others] + ease[owners] + AGE_FIT * np.maximum(features["age_fit"], -2)
        + KM * km + VERIFICATION * features["is_verified"], np.float64,
    )


def _exported(crowd: population.Population, rng: np.random.Generator, until_s: float, counts: dict[str, Any],
              swipes: Swipes, matches: NDArray[np.int32]) -> Exported:
    people = len(crowd)
    genders = np.array([GENDER_CODES[gender] for gender in crowd.genders], np.float32)
    columns: dict[str, NDArray[Any]] = {
        "birth_day": np.array([day_number(born) for born in crowd.birth_dates], np.float64),
        "active_s": until_s - crowd.active_days_ago * DAY_S,
        "verified": (rng.random(people) < VERIFIED).astype(np.float32),
        "age_min": crowd.age_min.astype(np.float32), "age_max": crowd.age_max.astype(np.float32),
        "reach_km": crowd.max_distance_km.astype(np.float32),
        "role": np.array([ROLE_CODES[role] for role in crowd.roles], np.float32), "gender": genders, **counts,
    }
    cells = [
        h3.latlng_to_cell(latitude, longitude, CELL_RESOLUTION)
        for latitude, longitude in zip(crowd.latitudes.tolist(), crowd.longitudes.tolist(), strict=True)
    ]
    nothing: Any = np.zeros(0)
    numbers = np.arange(people, dtype=np.uint64)
    return Exported(
        until_s - DAYS * DAY_S, until_s, True, np.stack([numbers, numbers], axis=1), columns,
        np.array([int(cell, 16) for cell in cells], np.uint64),
        crowd.latitudes.astype(np.float32), crowd.longitudes.astype(np.float32),
        np.array([role_mask(tuple(roles)) for roles in crowd.accepted_roles], np.int8),
        np.array([gender_mask(tuple(wanted)) for wanted in crowd.accepted_genders], np.int8),
        np.ones(people, np.bool_), swipes, Impressions(**dict.fromkeys(Impressions.__dataclass_fields__, nothing)), matches,
    )


def _swipes(swiper: NDArray[Any], swiped: NDArray[Any], liked: NDArray[np.bool_], at_s: NDArray[np.float64],
            km: NDArray[Any]) -> Swipes:
    return Swipes(
        swiper.astype(np.int32), swiped.astype(np.int32), liked, at_s, km.astype(np.float32),
        np.zeros(swiper.size, np.uint64), np.zeros(swiper.size, np.int16),
    )
