"""Lists of near candidates: the baselines hold, pairs are counted once, and both sides meet on each other's list only."""

import json
from pathlib import Path

import numpy as np
import pytest

from recommender.simulation.markets import MARKETS, Market, standard
from recommender.simulation.served import (
    BASELINES,
    Decks,
    decks_of,
    homes,
    judged_decks,
    nearest,
    pair_uniform,
    random_decks,
    two_periods,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "market_baselines.json").read_text())["served"]


@pytest.mark.parametrize("name", list(MARKETS))
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_baselines_have_the_recorded_matches(name: str, noise: float) -> None:
    before, now = two_periods(MARKETS[name](400, 0), noise, 0, 40)
    for policy, score in BASELINES.items():
        assert judged_decks(now, score(before, now, 0)).matches == pytest.approx(GOLDEN[name][str(noise)][policy], rel=1e-3)


def test_candidates_are_the_nearest_of_the_other_side() -> None:
    rng = np.random.default_rng(0)
    left, right = homes(30, rng), homes(20, rng)
    lists = nearest(left, right, 5)
    assert lists.shape == (50, 5)
    for person in range(50):
        here, there, shift = (left[person], right, 30) if person < 30 else (right[person - 30], left, 0)
        near = np.argsort(((there - here) ** 2).sum(axis=1))[:5]
        assert lists[person].tolist() == sorted((near + shift).tolist())


def test_pairs_count_when_both_are_on_each_others_list() -> None:
    decks = Decks(
        candidates=np.array([[2, 3], [2, 3], [0, 1], [0, 1]], dtype=np.int32)[:, :1],
        likes=np.ones((4, 1), np.float32), liked=np.ones((4, 1), np.float32),
        true_likes=np.array([[0.5], [1], [0.4], [1]], dtype=np.float32),
    )
    assert judged_decks(decks, decks.likes).matches == pytest.approx(0.5 * 0.4)


def test_values_of_a_pair_are_those_of_the_market_seen_from_either_side() -> None:
    market = standard(25, 3)
    decks = decks_of(market, market, nearest(*(homes(25, np.random.default_rng(s)) for s in (1, 2)), 6))
    for person, row in enumerate(decks.candidates):
        for slot, other in enumerate(row):
            if person < 25:
                assert decks.likes[person, slot] == market.left[person, other - 25]
                assert decks.liked[person, slot] == market.right[other - 25, person]
            else:
                assert decks.likes[person, slot] == market.right[person - 25, other]
                assert decks.liked[person, slot] == market.left[other, person - 25]


def test_estimates_keep_most_of_their_error_and_a_tenth_moves() -> None:
    market = Market(np.full((300, 300), 0.5, np.float32), np.full((300, 300), 0.5, np.float32))
    before, now = two_periods(market, 1.0, 0, 300)
    error = [np.log(decks.likes / (1 - decks.likes)).ravel() for decks in (before, now)]
    assert error[0].std() == pytest.approx(1, rel=0.05)
    assert error[1].std() == pytest.approx(1, rel=0.05)
    assert np.corrcoef(*error)[0, 1] == pytest.approx(0.8, abs=0.03)
    few = [two_periods(market, 1.0, 0, 10)[period].candidates for period in (0, 1)]
    same = (few[0] == few[1]).mean(axis=1)
    assert 0.02 < (same < 0.3).mean() < 0.6


def test_uniform_numbers_belong_to_the_ordered_pair() -> None:
    first, second = np.meshgrid(np.arange(300, dtype=np.uint64), np.arange(300, dtype=np.uint64))
    drawn = pair_uniform(first, second, 1)
    assert np.array_equal(drawn, pair_uniform(first, second, 1))
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.std() == pytest.approx(12**-0.5, abs=0.01)
    assert abs(np.corrcoef(drawn.ravel(), drawn.T.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(drawn.ravel(), pair_uniform(first, second, 2).ravel())[0, 1]) < 0.02


def test_random_order_is_the_same_for_both_people() -> None:
    decks = two_periods(standard(20, 0), 0.0, 0, 20)[1]
    scores = random_decks(decks, decks, 5)
    whole = np.zeros((40, 40))
    np.put_along_axis(whole, decks.candidates, scores, axis=1)
    assert np.array_equal(whole, whole.T)


def test_a_side_without_people_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        nearest(np.zeros((0, 2)), np.zeros((3, 2)))


def test_everybody_at_one_point_has_candidates() -> None:
    assert nearest(np.zeros((8, 2)), np.zeros((9, 2)), 4).shape == (17, 4)
