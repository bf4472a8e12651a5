"""Every model finds a planted preference, explains its scores exactly, survives bad input and comes back from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from recommender import artifacts, boosting, factors, logistic
from recommender.baseline import Baseline
from recommender.boosted import Boosted
from recommender.congestion.blend import blended
from recommender.exposure import Exposed
from recommender.features import FEATURES, cleaned
from recommender.logistic import Logistic
from recommender.ranking import Ranker
from recommender.recency import Recent
from recommender.reciprocal import BLEND, HARMONIC, PRODUCT, Reciprocal

NAMES = ("distance_km", "older_years", "age_fit", "like_rate_received", "viewer_like_rate_sent", "is_verified")


def market(n: int = 4_000, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features of pairs and likes with P = σ(planted log-odds), one of them an interaction."""
    rng = np.random.default_rng(seed)
    given = {
        "distance_km": rng.gamma(2, 20, n), "older_years": np.maximum(rng.normal(0, 6, n), 0),
        "age_fit": -rng.exponential(0.3, n), "like_rate_received": rng.beta(3, 6, n),
        "viewer_like_rate_sent": rng.beta(3, 6, n), "is_verified": rng.integers(0, 2, n).astype(float),
        "log_price": rng.normal(0, 1, n),
    }
    log_odds = (
        -1 - given["distance_km"] / 40 + 2 * given["age_fit"] + 4 * given["like_rate_received"]
        + 3 * given["viewer_like_rate_sent"] + np.where(given["is_verified"] > 0, 1, -1) * (given["older_years"] > 3)
    )
    return {name: v.astype(np.float32) for name, v in given.items()}, rng.random(n) < 1 / (1 + np.exp(-log_odds))


def trained(kind: str) -> Ranker:
    given, likes = market()
    line = logistic.fit(given, likes, NAMES)
    makers: dict[str, Callable[[], Ranker]] = {
        "baseline": Baseline,
        "logistic": lambda: line,
        "boosted": lambda: boosting.fit(given, likes, NAMES, trees=40),
        "product": lambda: Reciprocal(line, boosting.fit(given, likes, NAMES, trees=20), PRODUCT),
        "harmonic": lambda: Reciprocal(line, line, HARMONIC),
        "blend": lambda: Reciprocal(line, boosting.fit(given, likes, NAMES, trees=20), BLEND),
        "exposed": lambda: Exposed(Reciprocal(line, line, HARMONIC), 0.7),
        "recent": lambda: Recent(Exposed(Reciprocal(line, line, HARMONIC), 0.7), 3.0),
        "exposed, solved": lambda: Exposed(Reciprocal(line, line), 1.0, 0.05),
    }
    return makers[kind]()


KINDS = ("baseline", "logistic", "boosted", "product", "harmonic", "blend", "exposed", "recent")


def everything(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (rng.normal(feature.neutral, 1 + abs(feature.neutral) / 2, n)).astype(np.float32)
            for name, feature in FEATURES.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_terms_of_every_score_add_up_to_it(kind: str) -> None:
    ranker, given = trained(kind), everything(500, 1)
    terms = ranker.explain(given)
    total = np.sum([np.broadcast_to(term, 500).astype(np.float64) for term in terms.values()], axis=0)
    scores = ranker.score(given)
    assert scores.shape == (500,)
    assert scores.dtype == np.float32
    assert np.allclose(total, scores, rtol=2e-6, atol=2e-6)
    assert ("exposure" in terms) == (kind in ("exposed", "recent"))
    assert ("recency" in terms) == (kind in ("baseline", "recent"))
    assert np.unique(scores).size > 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_back_from_disk_as_it_was(kind: str, tmp_path: Path) -> None:
    ranker, given = trained(kind), everything(200, 2)
    artifacts.save(ranker, tmp_path / "model")
    back = artifacts.load(tmp_path / "model")
    assert (back.version, back.features) == (ranker.version, ranker.features)
    assert np.array_equal(back.score(given), ranker.score(given))
    assert set(ranker.features) <= set(FEATURES)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_not_finite_features_count_as_neutral(kind: str) -> None:
    ranker, given = trained(kind), everything(8, 3)
    neutral = ranker.score({})
    assert np.isfinite(neutral)
    for value in (np.nan, np.inf, -np.inf):
        for name in ranker.features:
            there = ranker.score(given | {name: np.full(8, value, np.float32)})
            absent = ranker.score({other: v for other, v in given.items() if other != name})
            assert np.array_equal(there, absent), (name, value)
    assert np.allclose(ranker.score(cleaned(ranker.features, {})), neutral)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_one_person_and_shared_features_are_ranked(kind: str) -> None:
    ranker = trained(kind)
    for n in (0, 1):
        ids, scores = ranker.rank(np.arange(n, dtype=np.int64), everything(n, 4), 50)
        assert (ids.size, scores.size) == (n, n)
    shared = {name: np.asarray(FEATURES[name].neutral, np.float32) for name in ranker.features}
    ids, scores = ranker.rank(np.array([7, 8, 9], np.int64), shared, 2)
    assert ids.tolist() == [7, 8]
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_features_never_overflow(kind: str) -> None:
    ranker = trained(kind)
    for size in (1e38, -1e38):
        scores = ranker.score({name: np.full(3, size, np.float32) for name in ranker.features})
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("weight", [1e308, -1e308, 1e30, 0.0])
def test_extreme_weights_give_finite_scores_that_are_still_explained(weight: float) -> None:
    line = Logistic(NAMES, np.full(len(NAMES), weight), np.zeros(len(NAMES)), weight)
    given, _ = market(50)
    for ranker in (line, Reciprocal(line, line, HARMONIC), Reciprocal(line, line, BLEND), Exposed(Reciprocal(line, line), 1e300)):
        scores, terms = ranker.score(given), ranker.explain(given)
        assert np.isfinite(scores).all()
        total = np.sum([np.broadcast_to(term, 50).astype(np.float64) for term in terms.values()], axis=0)
        assert np.allclose(total, scores, rtol=1e-5)
    wild = Baseline(distance_scale_km=1e-300, recency_half_life_days=1e-300, recency_floor=1e-300)
    assert np.isfinite(wild.score(everything(20, 5))).all()
    assert np.isfinite(Recent(line, 1e-300, 1e-300).score(everything(20, 5))).all()


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(weight: float) -> None:
    with pytest.raises(ValueError):
        Logistic(("age_years",), np.array([weight]), np.zeros(1), 0.0)
    with pytest.raises(ValueError):
        Exposed(Baseline(), weight)
    with pytest.raises(ValueError):
        Baseline(recency_floor=weight)
    with pytest.raises(ValueError):
        Boosted({"age_years": np.array([30], np.float32)}, {"age_years": np.array([0, weight])}, {}, 0.0)


@pytest.mark.parametrize("fit", [logistic.fit, boosting.fit])
def test_one_kind_of_answer_and_constant_features_can_be_learned_from(fit: Callable[..., Ranker]) -> None:
    given, likes = market(300)
    for answers in (np.zeros(300), np.ones(300)):
        scores = fit(given, answers, NAMES).score(given)
        assert np.isfinite(scores).all()
        assert np.exp(scores.ravel()[0]) == pytest.approx((answers[0] * 300 + 1) / 302)
    flat = {name: np.full(300, 3.0, np.float32) for name in NAMES}
    assert np.exp(fit(flat, likes, NAMES).score(flat).ravel()[0]) == pytest.approx(likes.mean(), abs=0.01)
    with pytest.raises(ValueError):
        fit({}, np.zeros(0), NAMES)


def test_boosted_equals_scikit_learn_at_and_between_thresholds() -> None:
    given, likes = market(3_000, seed=1)
    x = boosting.matrix(given, NAMES, likes.size)
    model = HistGradientBoostingClassifier(max_iter=60, max_depth=4, max_bins=32, interaction_cst="pairwise", random_state=0)
    with threadpool_limits(1):
        model.fit(x, likes)
    table = boosting.converted(model, NAMES)
    held, _ = market(3_000, seed=2)
    for name, edges in table.thresholds.items():
        held[name][: edges.size] = edges
        held[name][edges.size : 2 * edges.size] = np.nextafter(edges, np.float32(np.inf))
    held_x = boosting.matrix(held, NAMES, 3_000)
    assert np.abs(table.log_odds(held) - model.decision_function(held_x)).max() < 1e-6
    assert np.abs(np.exp(table.score(held)) - model.predict_proba(held_x)[:, 1]).max() < 1e-6


def test_trees_find_the_interaction_that_a_line_cannot() -> None:
    given, likes = market(12_000, seed=3)
    held, held_likes = market(6_000, seed=4)
    line = roc_auc_score(held_likes, logistic.fit(given, likes, NAMES).score(held))
    trees = boosting.fit(given, likes, NAMES)
    assert roc_auc_score(held_likes, trees.score(held)) > line + 0.005
    assert ("older_years", "is_verified") in trees.pairs
    assert len(trees.pairs) <= 12


def test_scoring_trees_costs_far_less_than_a_walk_through_them() -> None:
    given, likes = market(4_000, seed=3)
    trees = boosting.fit(given, likes, NAMES)
    assert sum(table.size for _, _, table in trees._tables) < 12 * 49 * 49
    assert len(trees._tables) <= 12 + len(NAMES)


def test_reciprocal_reads_the_other_direction_through_mirrored_features() -> None:
    line = Logistic(("older_years", "viewer_like_rate_sent"), np.array([-0.5, 2.0]), np.zeros(2), 0.0)
    both = Reciprocal(line, line)
    assert set(both.features) == {"older_years", "younger_years", "viewer_like_rate_sent", "like_rate_sent"}
    given = {"older_years": 4.0, "younger_years": 0.0, "viewer_like_rate_sent": 0.1, "like_rate_sent": 0.9}
    forward, back = -0.5 * 4 + 2 * 0.1, -0.5 * 0 + 2 * 0.9
    expected = 1 / (1 + np.exp(-forward)) / (1 + np.exp(-back))
    values = {name: np.asarray(value, np.float32) for name, value in given.items()}
    assert np.exp(both.score(values)) == pytest.approx(expected, rel=1e-5)
    a, b = 1 / (1 + np.exp(-forward)), 1 / (1 + np.exp(-back))
    assert np.exp(Reciprocal(line, line, HARMONIC).score(values)) == pytest.approx(2 * a * b / (a + b), rel=1e-5)
    assert np.exp(Reciprocal(line, line, BLEND).score(values)) == pytest.approx(blended(a, b), rel=1e-5)


def test_a_price_lowers_the_score_by_its_logarithm() -> None:
    ranker = Exposed(Baseline(), 0.5)
    dear, free = (ranker.score({"log_price": np.asarray(price, np.float32)}) for price in (-2.0, 0.0))
    assert dear - free == pytest.approx(-1.0)
    assert ranker.score({}) == Baseline().score({})
    with pytest.raises(ValueError):
        Exposed(ranker).explain({})


def test_versions_name_the_numbers() -> None:
    given, likes = market(500)
    a, b, c = logistic.fit(given, likes, NAMES), logistic.fit(given, likes, NAMES), logistic.fit(given, ~likes, NAMES)
    assert a.version == b.version != c.version
    assert Exposed(a, 1.0).version != Exposed(a, 0.5).version != Exposed(c, 0.5).version
    assert Reciprocal(a, a).version != Reciprocal(a, c).version


def test_factors_recover_planted_tastes_in_both_directions() -> None:
    rng = np.random.default_rng(0)
    n, k = 300, 3
    taste, appeal = rng.normal(size=(n, k)), rng.normal(size=(n, k))
    who, whom = (index.ravel() for index in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    pairs = rng.permutation(np.flatnonzero((who != whom) & (rng.random(n * n) < 0.3)))
    truth = (taste @ appeal.T).ravel()
    likes = rng.random(n * n) < 1 / (1 + np.exp(-2 * truth + 0.5))
    seen, held = pairs[: int(0.8 * pairs.size)], pairs[int(0.8 * pairs.size) :]
    model = factors.fit(who[seen], whom[seen], likes[seen], n, factors=5)
    limit = roc_auc_score(likes[held], truth[held])
    assert roc_auc_score(likes[held], model.scores(who[held], whom[held])) > limit - 0.05
    assert roc_auc_score(likes.reshape(n, n).T.ravel()[held], model.scores(whom[held], who[held])) > limit - 0.05
    ids, scores = model.recommend(5, 10)
    assert 5 not in ids
    assert (np.diff(scores) <= 0).all()
    affinity = {"affinity": model.scores(who[held], whom[held]), "viewer_affinity": model.scores(whom[held], who[held])}
    back = likes.reshape(n, n).T.ravel()[held]
    assert roc_auc_score(likes[held] & back, factors.ranker(affinity, likes[held]).score(affinity)) > 0.8


def test_factors_of_nobody_and_of_strangers_are_zero() -> None:
    none = np.zeros(0, np.int64)
    assert factors.fit(none, none, none, 0).taste.shape == (0, 16)
    few = factors.fit(np.array([0]), np.array([1]), np.array([1]), 4, factors=2, l2=1.0)
    assert not few.taste[1:].any()
    assert few.scores(np.array([0]), np.array([1]))[0] > 0.5
    for who, whom in (([0, 0], [1, 1]), ([0], [4]), ([-1], [1])):
        with pytest.raises(ValueError):
            factors.fit(np.array(who), np.array(whom), np.ones(len(who)), 4)
