"""The synthetic markets and their baselines are what every gain is measured against: they must not move."""

import json
from pathlib import Path

import numpy as np
import pytest

from recommender.evaluation.two_sided import gini
from recommender.simulation.attention import attention, judged
from recommender.simulation.markets import MARKETS, Market, estimated, standard
from recommender.simulation.policies import BASELINES, circulant

GOLDEN = json.loads((Path(__file__).parent / "golden" / "market_baselines.json").read_text())["markets"]


def assert_golden(market: Market, seed: int, golden: dict[str, dict[str, float]], only: set[str] | None = None) -> None:
    assert golden.keys() == BASELINES.keys()
    for name in only or BASELINES:
        outcome = judged(market, *BASELINES[name](market, seed))
        assert outcome.matches == pytest.approx(golden[name]["matches"], rel=1e-4), name
        assert outcome.gini_left == pytest.approx(golden[name]["gini_left"], abs=2e-4), name
        assert outcome.gini_right == pytest.approx(golden[name]["gini_right"], abs=2e-4), name


@pytest.mark.parametrize("name", list(MARKETS))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_baselines_of_small_markets_are_the_recorded_ones(name: str, seed: int) -> None:
    assert_golden(MARKETS[name](300, seed), seed, GOLDEN[name]["300"][str(seed)])


def test_product_and_demeaned_sum_of_the_full_market_are_the_recorded_ones() -> None:
    assert_golden(standard(3000, 0), 0, GOLDEN["standard"]["3000"]["0"], {"product", "de-meaned sum"})


def test_the_recorded_full_markets_are_those_of_the_literature_prototype() -> None:
    full = GOLDEN["standard"]["3000"]
    assert sorted(full, key=int) == [str(seed) for seed in range(10)]
    mean = {name: np.mean([seed[name]["matches"] for seed in full.values()]) for name in BASELINES}
    assert mean["random order"] == pytest.approx(1035, rel=0.02)
    assert mean["circulant"] == pytest.approx(1333, rel=0.005)
    assert mean["product"] == pytest.approx(711, rel=0.01)
    assert mean["de-meaned sum"] == pytest.approx(2239, rel=0.005)


def test_preferences_are_half_taste_and_half_common_popularity() -> None:
    market = standard(400, 5)
    for likes in (market.left, market.right):
        assert likes.mean(axis=0) == pytest.approx(0.25 + 0.5 * np.linspace(0, 1, 400), abs=0.04)
        assert likes.min() >= 0
        assert likes.max() <= 1
    assert abs(np.corrcoef(market.left.ravel() - market.left.mean(0).repeat(400),
                           market.right.T.ravel() - market.right.mean(0).repeat(400))[0, 1]) < 0.2


def test_attention_is_one_over_the_rank_and_equal_scores_keep_their_order() -> None:
    given = attention(np.array([[0.1, 0.9, 0.5], [1, 1, 2]], dtype=np.float32))
    assert given == pytest.approx(np.array([[1 / 3, 1, 1 / 2], [1 / 2, 1 / 3, 1]]))


def test_expected_matches_sum_over_pairs_that_both_look_and_like() -> None:
    market = Market(np.array([[0.5, 1]], dtype=np.float32), np.array([[0.4], [0.2]], dtype=np.float32))
    outcome = judged(market, np.array([[2, 1]], dtype=np.float32), np.array([[1], [1]], dtype=np.float32))
    assert outcome.matches == pytest.approx(0.5 * 0.4 * 1 * 1 + 1 * 0.2 * 0.5 * 1)
    assert outcome.gini_right == pytest.approx(gini(np.array([1, 0.5])))


def test_gini_of_known_amounts() -> None:
    assert gini(np.ones(7)) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 1.0])) == pytest.approx(0.75)
    assert gini(np.zeros(4)) == 0
    assert gini(np.zeros(0)) == 0


def test_a_circulant_gives_both_of_a_pair_the_same_rank_and_everybody_each_rank_once() -> None:
    left, right = (attention(scores) for scores in circulant(standard(9, 0)))
    assert left == pytest.approx(right.T)
    assert left.sum(axis=0) == pytest.approx(left.sum(axis=1))


def test_estimates_are_the_truth_with_noise_on_the_log_odds() -> None:
    market = standard(200, 1)
    noisy = estimated(market, 0.5, 7)
    inside = (market.left > 0.05) & (market.left < 0.95)
    moved = np.log(noisy.left / (1 - noisy.left))[inside] - np.log(market.left / (1 - market.left))[inside]
    assert moved.std() == pytest.approx(0.5, rel=0.05)
    assert abs(moved.mean()) < 0.02
    assert estimated(market, 0, 7) is market


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1)])
@pytest.mark.parametrize("name", list(BASELINES))
def test_markets_of_nobody_and_of_one_have_an_outcome(shape: tuple[int, int], name: str) -> None:
    n, m = shape
    market = Market(np.full((n, m), 0.5, np.float32), np.full((m, n), 0.5, np.float32))
    outcome = judged(market, *BASELINES[name](market, 0))
    assert outcome.matches == pytest.approx(0.25 if n and m else 0)
    assert outcome.gini_left == pytest.approx(0)
