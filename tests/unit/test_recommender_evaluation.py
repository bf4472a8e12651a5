"""Every figure is right where the answer is known, and says nothing where there is nothing to say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss as sk_log_loss
from sklearn.metrics import roc_auc_score

from recommender.evaluation import accuracy, calibration, counterfactual, two_sided

RNG = np.random.default_rng


def test_auc_equals_scikit_learn_with_ties() -> None:
    rng = RNG(0)
    labels, scores = rng.random(500) < 0.3, rng.integers(0, 12, 500)
    assert accuracy.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert np.isnan(accuracy.auc(np.ones(3), np.arange(3)))
    assert np.isnan(accuracy.auc(np.zeros(0), np.zeros(0)))
    for scores in (np.array([np.nan, 1.0]), np.zeros(3)):
        with pytest.raises(ValueError):
            accuracy.auc(np.array([0, 1]), scores)


def test_groups_count_once_whatever_their_size_and_without_both_answers_not_at_all() -> None:
    labels = np.array([1, 0, 1, 1, 0, 0, 1, 1])
    scores = np.array([2, 1, 0, 1, 2, 3, 5, 6])
    groups = np.array([0, 0, 1, 1, 1, 1, 2, 2])
    found = accuracy.grouped_auc(labels, scores, groups)
    assert found.by_group == {0: 1.0, 1: 0.0}
    assert found.mean == 0.5
    assert np.isnan(accuracy.grouped_auc(labels[6:], scores[6:], groups[6:]).mean)


def test_a_bootstrap_in_parts_draws_what_one_at_once_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    values, weights = rng.normal(0, 1, 37), rng.integers(0, 3, 37)
    whole = accuracy.bootstrap(values, weights, draws=101, seed=5)
    drawn: list[int] = []

    class Watched:
        def __init__(self, seed: int) -> None:
            self._rng = np.random.Generator(np.random.PCG64(seed))

        def integers(self, low: int, high: int, shape: tuple[int, int]) -> np.ndarray:
            drawn.append(shape[0] * shape[1])
            return self._rng.integers(low, high, shape)

    monkeypatch.setattr(np.random, "default_rng", Watched)
    monkeypatch.setattr(accuracy, "DRAWN_AT_ONCE", 400)
    assert accuracy.bootstrap(values, weights, draws=101, seed=5) == whole
    assert max(drawn) <= 400
    assert sum(drawn) == 101 * 37


def test_bootstrap_over_groups_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = RNG(1)
    hits = 0
    for trial in range(200):
        found = accuracy.bootstrap(rng.normal(0.6, 0.05, 30), draws=400, seed=trial)
        hits += found.low <= 0.6 <= found.high
    assert 0.87 <= hits / 200 <= 0.99
    assert np.isnan(accuracy.bootstrap(np.zeros(0)).value)


def test_paired_gain_is_narrower_than_the_figures_it_compares() -> None:
    level = RNG(2).normal(0.6, 0.08, 14)
    a = accuracy.GroupedAuc(dict(enumerate(level)))
    b = accuracy.GroupedAuc(dict(enumerate(level - 0.01)))
    gain = a.gain_over(b)
    assert gain.value == pytest.approx(0.01)
    assert gain.high - gain.low < 0.001 < a.interval().high - a.interval().low
    with pytest.raises(ValueError):
        a.gain_over(accuracy.GroupedAuc({}))


def test_log_loss_and_calibration_of_a_known_forecast() -> None:
    rng = RNG(3)
    p = rng.random(40_000)
    labels = rng.random(40_000) < p
    assert calibration.log_loss(labels, p) == pytest.approx(sk_log_loss(labels, p), rel=1e-6)
    assert calibration.curve(labels, p).error < 0.01
    assert calibration.curve(labels, p / 2).error == pytest.approx(0.25, abs=0.01)
    assert np.isfinite(calibration.log_loss(np.array([1, 0]), np.array([0.0, 1.0])))
    few = calibration.curve(np.array([1, 0]), np.array([0.9, 0.2]))
    assert few.counts.tolist() == [1, 1]
    assert few.error == pytest.approx(0.15)
    assert calibration.curve(np.zeros(0), np.zeros(0)).error == 0


def test_yield_counts_outcomes_in_each_viewers_best() -> None:
    viewers = np.array([7, 7, 7, 9, 9])
    scores = np.array([1.0, 3.0, 2.0, 5.0, 5.0])
    outcomes = np.array([1, 0, 1, 1, 0])
    assert two_sided.positions(viewers, scores).tolist() == [3, 1, 2, 1, 2]
    assert [two_sided.yield_at_k(viewers, scores, outcomes, k) for k in (1, 2, 3, 9)] == [0.5, 1.0, 1.5, 1.5]
    assert np.isnan(two_sided.yield_at_k(np.zeros(0), np.zeros(0), np.zeros(0), 1))
    with pytest.raises(ValueError):
        two_sided.yield_at_k(viewers, scores, outcomes, 0)


def test_expected_matches_need_both_sides_to_look_and_to_like() -> None:
    assert two_sided.expected_matches(np.array([0.5]), np.array([0.4]), np.array([2]), np.array([4])) == pytest.approx(0.025)
    assert two_sided.expected_matches(np.ones(2), np.ones(2), np.array([1, 0]), np.array([0, 1])) == 0
    assert two_sided.position_bias(np.array([0, 1, 2])).tolist() == [0, 1, 0.5]


def test_load_of_equal_concentrated_and_no_attention() -> None:
    equal, one, none = np.ones(20), np.r_[np.zeros(19), 8.0], np.zeros(5)
    assert two_sided.gini(equal) == pytest.approx(0)
    assert two_sided.gini(one) == pytest.approx(0.95)
    assert two_sided.gini(none) == two_sided.top_decile_share(none) == 0
    assert two_sided.top_decile_share(equal) == pytest.approx(0.1)
    found = two_sided.load(one)
    assert (found.coverage, found.top_decile_share, found.most, found.median) == (0.05, 1.0, 8.0, 0.0)
    assert two_sided.load(np.zeros(0)).mean == 0
    assert two_sided.received(np.array([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]
    assert two_sided.received(np.array([1]), 2, np.array([0.5])).tolist() == [0, 0.5]
    with pytest.raises(ValueError):
        two_sided.gini(np.array([-1.0, 2.0]))


def test_who_is_shown_to_nobody_envies_who_is_shown_to_all() -> None:
    preferences, exposures = np.ones((3, 2)), np.array([[1, 1], [0.5, 0], [0, 0]])
    assert two_sided.envy(preferences, exposures).tolist() == [0, 1.5, 2.0]
    assert two_sided.envy(np.array([[0, 1], [1, 0]]), np.array([[0, 1], [1, 0]])).tolist() == [0, 0]
    assert two_sided.envy(np.zeros((0, 0)), np.zeros((0, 0))).size == 0


def logged_market(n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Rewards of 5 kinds of cards shown by one policy, and what another one would earn by truth."""
    rng = RNG(seed)
    truth = np.array([0.1, 0.2, 0.3, 0.5, 0.7])
    serving, judged = np.array([0.4, 0.3, 0.15, 0.1, 0.05]), np.array([0.05, 0.1, 0.15, 0.3, 0.4])
    shown = rng.choice(5, n, p=serving)
    rewards = (rng.random(n) < truth[shown]).astype(float)
    return rewards, serving[shown], judged[shown], truth[shown], np.full(n, judged @ truth)


def test_counterfactual_estimates_find_the_planted_value_and_the_naive_mean_does_not() -> None:
    rewards, logged, judged, predicted, value = logged_market(60_000, 0)
    truth = value[0]
    assert abs(rewards.mean() - truth) > 0.2
    for found in (
        counterfactual.inverse_propensity(rewards, logged, judged), counterfactual.self_normalised(rewards, logged, judged),
        counterfactual.doubly_robust(rewards, logged, judged, predicted, value),
    ):
        assert abs(found.value - truth) < 4 * found.standard_error
        assert found.standard_error < 0.02
        assert 1_000 < found.effective_samples < 60_000


def test_doubly_robust_survives_wrong_predictions_or_wrong_propensities() -> None:
    rewards, logged, judged, predicted, value = logged_market(60_000, 1)
    wrong_model = counterfactual.doubly_robust(rewards, logged, judged, np.full(60_000, 0.9), np.full(60_000, 0.9))
    assert wrong_model.value == pytest.approx(value[0], abs=0.03)
    uniform = np.full(60_000, 0.2)
    assert counterfactual.doubly_robust(rewards, uniform, judged, predicted, value).value == pytest.approx(value[0], abs=0.02)
    assert abs(counterfactual.inverse_propensity(rewards, uniform, judged).value - value[0]) > 0.1


def test_a_good_model_and_normalising_lower_the_variance() -> None:
    spread = {"ips": [], "snips": [], "dr": []}
    for seed in range(60):
        rewards, logged, judged, predicted, value = logged_market(500, seed)
        spread["ips"].append(counterfactual.inverse_propensity(rewards, logged, judged).value)
        spread["snips"].append(counterfactual.self_normalised(rewards, logged, judged).value)
        spread["dr"].append(counterfactual.doubly_robust(rewards, logged, judged, predicted, value).value)
    deviation = {name: np.std(values) for name, values in spread.items()}
    assert deviation["snips"] < deviation["ips"]
    assert deviation["dr"] < deviation["ips"]


def test_capping_bounds_weights_and_bad_propensities_are_refused() -> None:
    capped = counterfactual.inverse_propensity(np.ones(2), np.array([0.01, 1.0]), np.ones(2), weight_most=10)
    assert capped.value == pytest.approx(5.5)
    assert np.isnan(counterfactual.inverse_propensity(np.zeros(0), np.zeros(0), np.zeros(0)).value)
    assert np.isnan(counterfactual.self_normalised(np.ones(1), np.ones(1), np.zeros(1)).value)
    for logged, judged in (([0.0], [1.0]), ([1.5], [1.0]), ([0.5], [-0.1]), ([0.5], [1.0, 1.0]), ([np.nan], [0.5])):
        with pytest.raises(ValueError):
            counterfactual.inverse_propensity(np.ones(1), np.array(logged), np.array(judged))
