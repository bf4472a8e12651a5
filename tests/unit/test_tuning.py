"""A made-up market is one that rankers can learn from, and tuning compares weights on the same people."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from actors.training.tuning import tune
from cluster.platform_client import PlatformClient
from configs.contracts.errors import ConfigurationError
from recommender.datasets.generated import generated
from recommender.evaluation.two_sided import gini
from recommender.learning import Recipe, learn
from recommender.simulation.markets import MARKETS
from recommender.simulation.served import judged_decks, two_periods
from recommender.simulation.tuning import Situation, Weights, tried

UNTIL = date(2026, 11, 1)
SMALL = Situation(people=150, candidates=40)


def test_a_made_up_market_counts_what_its_swipes_say_and_crowds_around_the_popular() -> None:
    data = generated(500, 20, near="Berlin", seed=3, until=UNTIL)
    swipes = data.swipes
    assert np.array_equal(data.people["swipes_sent"], np.bincount(swipes.swiper, minlength=500))
    assert np.array_equal(data.people["likes_received"], np.bincount(swipes.swiped, swipes.liked, 500))
    assert data.people["swipes_sent"].max() <= 20
    pairs = set(zip(swipes.swiper.tolist(), swipes.swiped.tolist(), strict=True))
    assert len(pairs) == len(swipes), "nobody swipes on a person twice"
    liked = set(zip(swipes.swiper[swipes.liked].tolist(), swipes.swiped[swipes.liked].tolist(), strict=True))
    assert {tuple(pair) for pair in data.matches.tolist()} == {(a, b) for a, b in liked if a < b and (b, a) in liked}
    assert (np.diff(swipes.at_s) >= 0).all()
    assert swipes.at_s.max() <= data.until_s
    assert gini(data.people["likes_received"]) > 0.3


def test_the_same_seed_makes_the_same_market() -> None:
    one, other = (generated(200, 10, near="Berlin", seed=5, until=UNTIL) for _ in range(2))
    assert np.array_equal(one.swipes.swiped, other.swipes.swiped)
    assert np.array_equal(one.swipes.liked, other.swipes.liked)


def test_a_ranker_learns_who_is_liked_in_a_made_up_market() -> None:
    learned = learn(generated(600, 30, near="Berlin", seed=1, until=UNTIL), Recipe("logistic"))
    assert learned.metrics["like_auc"] > 0.65
    assert learned.metrics["log_loss"] < learned.metrics["base_log_loss"]


@pytest.mark.parametrize("people", [0, 1])
def test_nobody_has_nobody_to_swipe_on(people: int) -> None:
    data = generated(people, 10, near="Berlin", until=UNTIL)
    assert len(data.swipes) == 0
    assert data.matches.shape == (0, 2)


def test_without_price_and_with_equal_weights_a_score_orders_as_the_product() -> None:
    _, now = two_periods(MARKETS["standard"](150, 0), SMALL.noise, 0, 40)
    (found,) = tried(SMALL, (Weights(own=1.0, exposure=0.0),))
    wanted = judged_decks(now, now.joint)
    assert found.matches == pytest.approx(wanted.matches, rel=1e-3)
    assert found.gini == pytest.approx(wanted.gini, rel=1e-3)


def test_the_price_of_crowding_spreads_attention() -> None:
    found = tune([SMALL], [Weights(exposure=0.0), Weights(exposure=1.0)], remote=False)[0]
    assert found[1].gini < found[0].gini


def test_each_situation_is_tried_and_reported_in_order() -> None:
    seen: list[tuple[int, int]] = []
    situations = [SMALL, Situation("low_rank", 150, 40)]
    found = tune(situations, [Weights(), Weights(own=0.5)], remote=False, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]
    assert found == [tried(situation, (Weights(), Weights(own=0.5))) for situation in situations]


@pytest.mark.parametrize(("own", "exposure"), [(-0.1, 1.0), (2.1, 1.0), (1.0, -1.0), (1.0, float("nan")), (float("nan"), 1.0)])
def test_weights_out_of_range_are_refused(own: float, exposure: float) -> None:
    with pytest.raises(ValueError, match="own is in"):
        Weights(own, exposure)


def test_without_variables_no_platform_is_named() -> None:
    assert PlatformClient.told({}) is None


def test_a_named_platform_that_does_not_run_is_an_error_and_no_made_up_market(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        PlatformClient.told({"SUGAR_DATA_DIR": str(tmp_path)})
