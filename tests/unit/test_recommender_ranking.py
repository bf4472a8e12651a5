"""The baseline prefers what it says it prefers, and every score can be explained by its parts."""

from __future__ import annotations

import numpy as np
import pytest

from recommender.baseline import Baseline
from recommender.ranking import best


def features(n: int = 1, **given: object) -> dict[str, np.ndarray]:
    typical = {
        "distance_km": 10.0, "days_since_active": 1.0, "age_years": 30.0, "age_min": 25.0, "age_max": 39.0,
        "viewer_age_years": 32.5, "viewer_age_min": 24.0, "viewer_age_max": 35.0,
    }
    assert set(typical) == set(Baseline().features)
    return {name: np.full(n, given.get(name, value), np.float32) for name, value in typical.items()}


def test_score_is_the_sum_of_its_explanation_and_no_term_is_positive() -> None:
    rng = np.random.default_rng(0)
    given = {name: rng.uniform(18, 60, 200).astype(np.float32) for name in Baseline().features}
    given["age_max"] = given["age_min"] + 5
    given["viewer_age_max"] = given["viewer_age_min"] + 5
    ranker = Baseline()
    terms = ranker.explain(given)
    assert all((term <= 0).all() for term in terms.values())
    assert np.allclose(sum(terms.values()), ranker.score(given), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("distance_km", 5, 6), ("days_since_active", 0, 1), ("age_years", 30, 34.9), ("age_years", 30, 24),
        ("viewer_age_years", 32.5, 39.5), ("viewer_age_years", 32.5, 25),
    ],
)
def test_nearer_more_recent_and_better_fitting_people_come_first(name: str, better: float, worse: float) -> None:
    ranker = Baseline()
    assert ranker.score(features(**{name: better}))[0] > ranker.score(features(**{name: worse}))[0]


def test_the_stated_constants_hold() -> None:
    ranker = Baseline()
    terms = ranker.explain(features(distance_km=40.0, days_since_active=7.0, age_years=30.0, viewer_age_years=32.5))
    assert np.exp(terms["distance"]) == pytest.approx(np.exp(-1), rel=1e-5)
    assert np.exp(terms["recency"]) == pytest.approx(0.5, rel=1e-5)
    assert np.exp(terms["viewer_fit"]) == pytest.approx(1.0)
    assert np.exp(terms["candidate_fit"]) == pytest.approx(1.0)
    assert np.exp(ranker.explain(features(age_years=36.0))["viewer_fit"]) == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert np.exp(ranker.explain(features(days_since_active=4_000.0))["recency"]) == pytest.approx(1 / 64, rel=1e-5)


def test_versions_name_the_parameters() -> None:
    assert Baseline().version == Baseline().version
    assert Baseline().version != Baseline(distance_scale_km=41).version


@pytest.mark.parametrize("size", [0, 1, 3, 10, 50, 99])
def test_best_takes_the_highest_and_keeps_the_order_of_equal_ones(size: int) -> None:
    rng = np.random.default_rng(size)
    scores = rng.integers(0, 8, 50).astype(np.float32)
    ids = rng.permutation(50).astype(np.int64)
    expected = sorted(range(50), key=lambda i: -scores[i])[:size]
    got_ids, got_scores = best(ids, scores, size)
    assert got_ids.tolist() == ids[expected].tolist()
    assert got_scores.tolist() == scores[expected].tolist()


def test_best_of_nobody_is_nobody() -> None:
    ids, scores = best(np.zeros(0, np.int64), np.zeros(0, np.float32), 5)
    assert ids.size == scores.size == 0
