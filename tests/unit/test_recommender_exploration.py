"""What is tried stays within its bounds, repeats itself for a deck, and its propensities are the true frequencies."""

import numpy as np
import pytest

from recommender.evaluation.counterfactual import doubly_robust, inverse_propensity, self_normalised
from recommender.exploration import Exploration, explored, propensity, seed_of

IDS = np.arange(100, 160)
SCORES = np.linspace(0, -5, 60).astype(np.float32)


def test_places_that_are_not_explored_keep_their_cards() -> None:
    for seed in range(50):
        shown = explored(IDS, SCORES, 20, Exploration(rate=0.5), seed)
        fixed = [place for place in range(20) if place + 1 not in (5, 10, 15, 20)]
        assert shown.ids[fixed].tolist() == IDS[fixed].tolist()
        assert (shown.propensities[fixed] == 1).all()
        assert len(set(shown.ids.tolist())) == 20
        assert np.array_equal(shown.ids, IDS[shown.ranks])
        assert np.array_equal(shown.scores, SCORES[shown.ranks])
        assert np.array_equal(shown.explored, shown.ranks >= 20)


@pytest.mark.parametrize("weights", [None, np.where(np.arange(60) % 3 == 0, 5.0, 0.0).astype(np.float32)])
def test_propensities_are_the_frequencies_with_which_cards_are_shown(weights: np.ndarray | None) -> None:
    exploration = Exploration(rate=0.4, places=(3, 7), pool=4)
    runs = 20_000
    counted = np.zeros((10, 60))
    for seed in range(runs):
        shown = explored(IDS, SCORES, 10, exploration, seed, weights)
        counted[np.arange(10), shown.ranks] += 1
        if seed < 200:
            for place, rank in enumerate(shown.ranks.tolist()):
                assert shown.propensities[place] == pytest.approx(propensity(60, 10, exploration, rank, place, weights))
    for place in range(10):
        truth = [propensity(60, 10, exploration, rank, place, weights) for rank in range(60)]
        assert sum(truth) == pytest.approx(1)
        assert counted[place] / runs == pytest.approx(np.array(truth), abs=0.02)


def test_inverse_propensities_estimate_what_another_order_would_have_given() -> None:
    exploration = Exploration(rate=0.3, places=(5,), pool=5)
    reward = np.random.default_rng(0).random(60)
    total = 0.0
    for seed in range(20_000):
        shown = explored(IDS, SCORES, 5, exploration, seed)
        if shown.ranks[4] == 7:
            total += reward[7] / shown.propensities[4]
    assert total / 20_000 == pytest.approx(reward[7], abs=0.1)


def test_what_was_logged_tells_what_another_exploration_would_have_earned() -> None:
    """The judged policy tries mostly people of much weight, the logging one all alike and less often."""
    logging, judged = Exploration(rate=0.3, places=(2, 5), pool=6), Exploration(rate=0.5, places=(2, 5), pool=6)
    weights = np.where(np.arange(60) % 4 == 0, 9.0, 1.0).astype(np.float32)
    rng = np.random.default_rng(3)
    chance = np.where((np.arange(60) % 4 == 0) & (np.arange(60) >= 5), 0.9, 0.3) * rng.uniform(0.8, 1, 60)
    seeds, size = 2500, 5
    shown = [explored(IDS, SCORES, size, logging, seed) for seed in range(seeds)]
    ranks = np.stack([one.ranks for one in shown])
    places = np.broadcast_to(np.arange(size), ranks.shape)
    logged = np.stack([one.propensities for one in shown])
    table = np.array([[propensity(60, size, judged, rank, place, weights) for rank in range(60)] for place in range(size)])
    rewards = (rng.random(ranks.shape) < chance[ranks]).astype(np.float64)
    truth = float((table @ chance).mean())
    there = table[places, ranks].ravel()
    model = np.clip(chance + rng.normal(0, 0.2, 60), 0, 1)
    for estimate in (
        inverse_propensity(rewards.ravel(), logged.ravel(), there),
        self_normalised(rewards.ravel(), logged.ravel(), there),
        doubly_robust(rewards.ravel(), logged.ravel(), there, model[ranks].ravel(), (table @ model)[places].ravel()),
    ):
        assert estimate.value == pytest.approx(truth, abs=4 * estimate.standard_error)
        assert estimate.standard_error < 0.03
    naive = rewards.mean()
    assert abs(naive - truth) > 0.02


def test_the_same_deck_shows_the_same_and_another_deck_differs() -> None:
    exploration = Exploration(rate=0.5)
    decks = [explored(IDS, SCORES, 20, exploration, seed_of(b"viewer", bytes([deck]))).ids.tolist() for deck in range(40)]
    again = [explored(IDS, SCORES, 20, exploration, seed_of(b"viewer", bytes([deck]))).ids.tolist() for deck in range(40)]
    assert decks == again
    assert len({tuple(deck) for deck in decks}) > 10
    assert seed_of(b"ab", b"c") != seed_of(b"a", b"bc")


def test_people_of_whom_much_is_to_be_learned_are_chosen_more_often() -> None:
    weights = np.ones(60, np.float32)
    weights[20] = 50
    shown = [explored(IDS, SCORES, 20, Exploration(rate=0.5), seed, weights).ranks for seed in range(400)]
    assert sum(20 in ranks for ranks in shown) > 3 * sum(24 in ranks for ranks in shown)


@pytest.mark.parametrize("n", [0, 1, 5, 20])
def test_nothing_is_explored_where_nobody_is_below_the_list(n: int) -> None:
    shown = explored(IDS[:n], SCORES[:n], 20, Exploration(rate=0.5), 1)
    assert shown.ids.tolist() == IDS[:n].tolist()
    assert (shown.propensities == 1).all()
    assert not shown.explored.any()


def test_a_rate_of_zero_shows_the_ranking() -> None:
    shown = explored(IDS, SCORES, 20, Exploration(rate=0.0), 1)
    assert shown.ranks.tolist() == list(range(20))
    assert (shown.propensities == 1).all()


def test_weights_that_are_no_numbers_count_as_none() -> None:
    weights = np.full(60, np.nan, np.float32)
    shown = explored(IDS, SCORES, 20, Exploration(rate=0.5), 3, weights)
    assert shown.ranks.tolist() == list(range(20))
    weights[25] = 1
    everything = [explored(IDS, SCORES, 20, Exploration(rate=0.5), seed, weights) for seed in range(30)]
    assert all(np.isfinite(shown.propensities).all() and (shown.propensities > 0).all() for shown in everything)


@pytest.mark.parametrize(
    "wrong",
    [{"rate": -0.1}, {"rate": 0.6}, {"rate": float("nan")}, {"places": (0,)}, {"places": (21,)}, {"places": (3, 3)}, {"pool": 0}],
)
def test_exploration_without_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Exploration(**wrong)  # type: ignore[arg-type]
