"""Each feature is what its documentation says, and training and serving cannot compute it differently."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from actors.cards.commands import DeckQuery
from actors.cards.crowds import CENTRE, disc
from actors.cards.state import Cards
from configs.contracts.errors import FeaturesDiffer
from configs.contracts.ids import new_id
from recommender import features
from recommender.baseline import Baseline
from recommender.features import COLUMNS, FEATURES, Mirrored, Pairs, Priors, compute, mirror_names

NOW_S = datetime(2026, 2, 1, tzinfo=UTC).timestamp()
TODAY = NOW_S / 86_400


def columns(**given: Any) -> Mapping[str, Any]:
    typical: dict[str, Any] = {
        "birth_day": TODAY - 30 * 365.2425, "active_s": NOW_S - 86_400, "age_min": 25, "age_max": 34, "reach_km": 50,
        "role": 0, "gender": 1, "verified": 1, "likes_sent": 0, "swipes_sent": 0, "likes_received": 0,
        "swipes_received": 0, "log_price": 0.0, "taste": [1.0, 0.0], "appeal": [0.0, 1.0],
    }
    assert set(typical) == set(COLUMNS)
    return {name: np.asarray(value) for name, value in (typical | given).items()}


CANDIDATE = columns(
    birth_day=TODAY - 28 * 365.2425, active_s=NOW_S - 3 * 86_400, age_min=29, age_max=48, reach_km=80, role=1, gender=2,
    verified=0, likes_sent=10, swipes_sent=80, likes_received=30, swipes_received=180, log_price=-0.7,
    taste=[0.2, 0.3], appeal=[0.5, 2.0],
)
VIEWER = columns(likes_sent=5, swipes_sent=5, likes_received=0, swipes_received=80, log_price=0.1)
EXPECTED = {
    "distance_km": 9.0, "log_distance": np.log(10),
    "days_since_active": 3.0, "viewer_days_since_active": 1.0,
    "log_days_since_active": np.log(4), "viewer_log_days_since_active": np.log(2),
    "age_years": 28.0, "viewer_age_years": 30.0, "age_min": 29.0, "viewer_age_min": 25.0, "age_max": 48.0,
    "viewer_age_max": 34.0, "reach_km": 80.0, "viewer_reach_km": 50.0, "is_sugar_daddy": 1.0,
    "viewer_is_sugar_daddy": 0.0, "is_woman": 0.0, "viewer_is_woman": 1.0, "is_man": 1.0, "viewer_is_man": 0.0,
    "is_verified": 0.0, "viewer_is_verified": 1.0, "older_years": 0.0, "younger_years": 2.0,
    # The viewer accepts [25, 35): middle 30, half width 5. The candidate accepts [29, 49): middle 39, half width 10.
    "age_fit": -0.5 * (2 / 5) ** 2, "viewer_age_fit": -0.5 * (9 / 10) ** 2,
    # Prior 0.3 worth 20 swipes: 6 of 20 likes are added.
    "like_rate_sent": 16 / 100, "viewer_like_rate_sent": 11 / 25, "like_rate_received": 36 / 200,
    "viewer_like_rate_received": 6 / 100,
    "log_swipes_sent": np.log(81), "viewer_log_swipes_sent": np.log(6), "log_swipes_received": np.log(181),
    "viewer_log_swipes_received": np.log(81),
    "affinity": 1.0 * 0.5 + 0.0 * 2.0, "viewer_affinity": 0.2 * 0.0 + 0.3 * 1.0,
    "log_price": -0.7, "viewer_log_price": 0.1,
}


def test_no_feature_is_without_an_expectation() -> None:
    assert set(EXPECTED) == set(FEATURES)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_feature_is_what_its_documentation_says(name: str) -> None:
    pairs = Pairs(VIEWER, CANDIDATE, np.asarray(9.0), NOW_S)
    assert compute((name,), pairs)[name] == pytest.approx(EXPECTED[name], abs=1e-5)


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_every_feature_is_documented_and_mirrored_by_another_one(name: str) -> None:
    feature = FEATURES[name]
    assert feature.unit
    assert feature.meaning
    assert np.isfinite(feature.neutral)
    assert FEATURES[feature.mirror].mirror == name
    there = Pairs(VIEWER, CANDIDATE, np.asarray(9.0), NOW_S)
    assert compute((feature.mirror,), there.reversed())[feature.mirror] == compute((name,), there)[name]
    mirrored = Mirrored(compute(mirror_names((name,)), there.reversed()))
    assert mirrored[name] == compute((name,), there)[name]
    assert set(mirrored) == {name}


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_missing_columns_and_nan_give_the_neutral_value(name: str) -> None:
    neutral = pytest.approx(FEATURES[name].neutral)
    missing = Pairs({}, {}, np.full(2, np.nan), NOW_S)
    assert np.broadcast_to(compute((name,), missing)[name], 2).tolist() == [neutral, neutral]
    unknown = {
        column: np.full((2, 2) if column in ("taste", "appeal") else 2, np.nan) for column in COLUMNS
        if column not in ("role", "gender")
    }
    if "is_woman" not in name and "is_man" not in name and "sugar" not in name:
        assert compute((name,), Pairs(unknown, unknown, np.full(2, np.inf), NOW_S))[name].tolist() == [neutral, neutral]


def test_extreme_columns_give_finite_features() -> None:
    wild = columns(
        birth_day=-1e9, active_s=1e12, age_min=99, age_max=0, reach_km=1e9, likes_sent=7, swipes_sent=0,
        likes_received=0, swipes_received=-3, log_price=1e30, taste=[1e30, 1e30], appeal=[1e30, -1e30],
    )
    got = compute(FEATURES, Pairs(wild, wild, np.asarray(-5.0), NOW_S))
    assert all(np.isfinite(values) for values in got.values())
    assert got["like_rate_sent"] <= 1


def test_shrinkage_moves_from_the_prior_to_the_evidence() -> None:
    priors = Priors(like_rate_sent=0.4, strength=10)
    sent = np.array([0, 10, 10_000])
    people = columns(likes_sent=sent, swipes_sent=sent)
    rates = compute(("like_rate_sent",), Pairs(VIEWER, people, np.asarray(0.0), NOW_S, priors))["like_rate_sent"]
    assert rates[0] == pytest.approx(0.4)
    assert rates[1] == pytest.approx(14 / 20)
    assert rates[2] > 0.999


def test_a_model_trained_with_other_features_is_refused_and_the_difference_named() -> None:
    stored = features.described(("distance_km", "age_years"))
    features.require_same(stored)
    with pytest.raises(FeaturesDiffer) as refused:
        features.require_same(stored | {"shoe_size": "0" * 16, "age_years": "f" * 16})
    assert refused.value.details == {"unknown": ["shoe_size"], "changed": ["age_years"]}


def test_the_shard_computes_what_training_computes_from_the_same_people() -> None:
    """Serving reads packed words; training reads columns of rows: both within 1e-6 on 10,000 cards."""
    rng, now = np.random.default_rng(3), datetime(2026, 2, 1, tzinfo=UTC)
    rows = disc(10_000, 50, rng, now)

    class Everything(Baseline):
        @property
        def features(self) -> tuple[str, ...]:
            return tuple(FEATURES)

    cards = Cards(Everything())
    cards.load(rows)
    cards.settle()
    query = DeckQuery(
        viewer_id=new_id(), latitude=CENTRE[0], longitude=CENTRE[1], birth_date=date(1990, 5, 4).isoformat(),
        role="sugar_daddy", gender="man", age_min=18, age_max=99, max_distance_km=50,
        roles=("sugar_baby", "sugar_daddy"),
    )
    found, distances = cards.eligible(query, now)
    served = cards.features(query, found, distances, now)
    persons = cards._blocks.people[found]
    candidate = {
        "birth_day": rows.birth_days, "active_s": rows.last_active_s, "age_min": rows.age_min, "age_max": rows.age_max,
        "reach_km": rows.max_distance_km, "role": rows.roles, "gender": rows.genders, "verified": rows.verified,
        **{name: np.zeros(10_000) for name in ("likes_sent", "swipes_sent", "likes_received", "swipes_received", "log_price")},
    }
    viewer = columns(
        birth_day=(date(1990, 5, 4) - date(1970, 1, 1)).days, active_s=now.timestamp(), age_min=18, age_max=99,
        reach_km=50, role=1, gender=2,
    )
    trained = compute(FEATURES, Pairs(
        {name: values for name, values in viewer.items() if name not in ("verified", "taste", "appeal")},
        {name: np.asarray(values)[persons] for name, values in candidate.items()}, distances, now.timestamp(),
    ))
    assert found.size > 1_000
    for name in FEATURES:
        assert np.allclose(served[name], trained[name], rtol=1e-6, atol=1e-6), name
