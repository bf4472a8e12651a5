"""Congestion: everybody's matches and share alone add up to one, attention is shared fairly, and more matches come of it."""

import numpy as np
import pytest

from recommender.congestion.blend import SHARE, blended, solve_blend
from recommender.congestion.equilibrium import attractions, cleaned, solve, suitable_temperature, typical_best
from recommender.congestion.prices import solve_lists
from recommender.congestion.rounds import best_edges, meeting_scores, mutual_places
from recommender.exposure import Exposed
from recommender.ranking import Features, Floats, Scored
from recommender.simulation.attention import judged
from recommender.simulation.markets import MARKETS, Market, estimated, standard
from recommender.simulation.policies import BASELINES
from recommender.simulation.reports import priced_decks
from recommender.simulation.served import demeaned_decks, judged_decks, product_decks, two_periods

SMALL = 300


def lists_of(joint: np.ndarray, back: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The whole bipartite market as lists of one population; ``back``: values of the right side's lists, if others."""
    n, m = joint.shape
    starts = np.concatenate(([0], np.cumsum([m] * n + [n] * m))).astype(np.int64)
    candidates = np.concatenate((np.tile(np.arange(n, n + m), n), np.tile(np.arange(n), m))).astype(np.int32)
    return starts, candidates, np.concatenate((joint.ravel(), (joint.T if back is None else back).ravel())).astype(np.float32)


@pytest.mark.parametrize("shape", [(30, 30), (30, 12), (7, 50), (1, 9), (1, 1)])
def test_matches_and_the_share_alone_of_everybody_add_up_to_one(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    joint = (rng.random(shape) * rng.random(shape)).astype(np.float32)
    found = solve(joint, temperature=0.05, iterations=500, tolerance=1e-5)
    alone = 0.4 * typical_best(joint.max(axis=1))
    roots = np.exp(found.left / 2), np.exp(found.right / 2)
    matches = attractions(joint.copy(), 0.05, alone) * roots[0][:, None] * roots[1][None, :]
    assert matches.sum(axis=1) + roots[0] ** 2 == pytest.approx(np.ones(shape[0]), abs=2e-3)
    assert matches.sum(axis=0) + roots[1] ** 2 == pytest.approx(np.ones(shape[1]), abs=2e-3)
    assert found.surplus(joint) == pytest.approx(2 * np.log(matches) + alone / 0.05, abs=1e-2)


def test_whom_many_want_costs_more() -> None:
    joint = np.full((20, 20), 0.2, np.float32)
    joint[:, 4] = 0.6
    assert solve(joint).right.argmin() == 4


def test_two_equal_people_compete_for_the_one_candidate_only() -> None:
    found = solve(np.array([[0.5, 0.0], [0.5, 0.0]], np.float32), temperature=0.1)
    assert found.right[0] < found.right[1] - 1
    assert found.left[0] == pytest.approx(found.left[1])


@pytest.mark.parametrize("name", list(MARKETS))
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_meetings_win_over_every_baseline(name: str, noise: float) -> None:
    market = MARKETS[name](SMALL, 0)
    believed = estimated(market, noise, 9)
    joint = believed.left * believed.right.T
    scores = meeting_scores(solve(joint).surplus(joint))
    ours = judged(market, scores, scores.T)
    for baseline in BASELINES.values():
        assert ours.matches > 1.02 * judged(market, *baseline(believed, 0)).matches
    product = judged(market, *BASELINES["product"](believed, 0))
    assert max(ours.gini_left, ours.gini_right) < 0.75 * product.gini_left


@pytest.mark.parametrize("seed", range(10))
def test_meetings_share_attention_and_win_over_the_demeaned_sum_in_the_standard_market(seed: int) -> None:
    market = standard(600, seed)
    joint = market.left * market.right.T
    scores = meeting_scores(solve(joint).surplus(joint))
    ours = judged(market, scores, scores.T)
    assert ours.matches > 1.15 * judged(market, *BASELINES["de-meaned sum"](market, seed)).matches
    assert ours.matches > 1.9 * judged(market, *BASELINES["product"](market, seed)).matches
    assert max(ours.gini_left, ours.gini_right) <= 0.10


def test_the_full_market_passes_its_gate() -> None:
    market = standard(3000, 0)
    joint = market.left * market.right.T
    scores = meeting_scores(solve(joint).surplus(joint))
    ours = judged(market, scores, scores.T)
    product = judged(market, *BASELINES["product"](market, 0))
    assert ours.matches >= 3 * product.matches
    assert max(ours.gini_left, ours.gini_right) <= 0.10


@pytest.mark.parametrize(("name", "noise", "least"), [
    ("standard", 0, 1.01), ("standard", 0.5, 1.05), ("low_rank", 0, 1.05), ("low_rank", 0.5, 1.05),
    ("multiplicative", 0, 1.02), ("multiplicative", 0.5, 1.0),
])
def test_prices_of_the_period_before_win_on_near_candidates(name: str, noise: float, least: float) -> None:
    market = MARKETS[name](800, 0)
    before, now = two_periods(market, noise, 0, 100)
    ours = judged_decks(now, priced_decks(before, now))
    simple = judged_decks(now, demeaned_decks(before, now, 0))
    assert ours.matches > 1.02 * judged_decks(now, product_decks(before, now, 0)).matches
    assert ours.matches > least * simple.matches
    assert ours.gini < simple.gini + 0.02


def test_a_blend_is_priced_as_its_own_values_less_what_each_receives_from_all() -> None:
    rng = np.random.default_rng(5)
    left, right = rng.random((2, 12, 12)).astype(np.float32)
    starts, candidates, likes = lists_of(left, right)
    _, _, liked = lists_of(right.T, left.T)
    prices = solve_blend(starts, candidates, likes, liked, temperature=0.1)
    means = np.bincount(candidates, likes, 24) / np.bincount(candidates, minlength=24) * SHARE / 2
    pairs = blended(left, right.T) - means[None, 12:] - means[:12, None]
    level = typical_best(np.maximum(np.concatenate((pairs.max(axis=1), pairs.max(axis=0))), 0))
    # The multipliers split what both share alone in each pair so that nobody is spent twice.
    roots = np.exp((prices.log_multipliers + means / 0.1) / 2)
    spent = np.exp((pairs - 0.4 * level) / 0.2) * roots[:12, None] * roots[None, 12:]
    assert spent.sum(axis=1) + roots[:12] ** 2 == pytest.approx(1, abs=0.02)
    assert spent.sum(axis=0) + roots[12:] ** 2 == pytest.approx(1, abs=0.02)


def test_the_price_of_a_blend_bears_missing_values_and_empty_lists() -> None:
    starts = np.array([0, 1, 2, 2, 3], np.int64)
    prices = solve_blend(starts, np.array([1, 0, 0], np.int32), np.array([0.5, np.nan, 2], np.float32),
                         np.array([np.nan, 0.5, -1], np.float32))
    assert np.isfinite(prices.log_multipliers).all()
    assert (prices.log_multipliers <= 0).all()
    nobody = solve_blend(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert nobody.log_multipliers.tolist() == [0.0] * 3
    with pytest.raises(ValueError, match="fit"):
        solve_blend(starts, np.array([1, 0, 0], np.int32), np.zeros(3, np.float32), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="temperature"):
        solve_blend(starts, np.array([1, 0, 0], np.int32), np.zeros(3, np.float32), np.zeros(3, np.float32), 0.0)


def test_the_exposed_ranker_orders_one_viewers_candidates_as_the_prices_do() -> None:
    market = standard(60, 1)
    joint = market.left * market.right.T
    starts, candidates, values = lists_of(joint)
    prices = solve_lists(starts, candidates, values)
    ranker = Exposed(Given(), 1.0, prices.temperature)
    viewer = slice(starts[7], starts[8])
    features = {"distance_km": np.log(values[viewer]), "log_price": prices.log_prices[candidates[viewer]]}
    solved = prices.scores(candidates[viewer], values[viewer])
    assert ranker.score(features) - solved == pytest.approx(np.full(60, -prices.log_multipliers.mean()), abs=1e-3)
    assert sum(ranker.explain(features).values()) == pytest.approx(ranker.score(features), abs=1e-4)
    assert prices.log_prices.mean() == pytest.approx(0, abs=1e-4)


class Given(Scored):
    """A ranker whose score is handed to it in place of a distance."""

    version = "given"
    features = ("distance_km",)

    def score(self, features: Features) -> Floats:
        return features["distance_km"]

    def explain(self, features: Features) -> dict[str, Floats]:
        return {"given": features["distance_km"]}


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        Exposed(Given(), 1.0, temperature)
    with pytest.raises(ValueError, match="temperature"):
        solve(np.ones((2, 2), np.float32), temperature)
    with pytest.raises(ValueError, match="temperature"):
        solve_lists(*lists_of(np.ones((2, 2), np.float32)), temperature)


def test_whole_lists_have_the_prices_of_the_dense_market() -> None:
    rng = np.random.default_rng(3)
    joint = (rng.random((25, 40)) * rng.random((25, 40))).astype(np.float32)
    dense = solve(joint, temperature=0.08, iterations=2000, tolerance=1e-6)
    # ``alone`` counts in shares of the typical best value: of all lists there, of the left side's here.
    alone = 0.4 * typical_best(joint.max(axis=1)) / typical_best(np.concatenate((joint.max(axis=1), joint.max(axis=0))))
    sparse = solve_lists(*lists_of(joint), temperature=0.08, alone=float(alone), iterations=5000, tolerance=1e-6)
    assert sparse.log_multipliers == pytest.approx(np.concatenate((dense.left, dense.right)), abs=0.02)


def test_joint_values_that_are_no_probabilities_count_as_the_nearest() -> None:
    given = np.array([[np.nan, -1, 2, np.inf, -np.inf, 0.5]], np.float32)
    assert cleaned(given).tolist() == [[0, 0, 1, 1, 0, 0.5]]
    assert np.isnan(given[0, 0])


@pytest.mark.parametrize("value", [0.0, np.nan, 1.0, 1e-30])
@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0), (1, 1), (5, 3)])
def test_markets_without_wishes_or_people_have_finite_multipliers(shape: tuple[int, int], value: float) -> None:
    joint = np.full(shape, value, np.float32)
    found = solve(joint)
    assert found.left.shape == (shape[0],)
    assert found.right.shape == (shape[1],)
    for array in (found.left, found.right, found.surplus(joint), meeting_scores(found.surplus(joint))):
        assert np.isfinite(array).all()
        assert array.dtype == np.float32
    assert meeting_scores(found.surplus(joint)).shape == shape


def test_isolated_people_cost_nothing_and_leave_the_others_alone() -> None:
    starts = np.array([0, 1, 2, 2, 3], np.int64)
    prices = solve_lists(starts, np.array([1, 0, 0], np.int32), np.array([0.5, 0.5, np.nan], np.float32))
    assert np.isfinite(prices.log_multipliers).all()
    assert prices.log_multipliers[2] == 0
    assert prices.log_multipliers[0] == pytest.approx(prices.log_multipliers[1], abs=0.01)


@pytest.mark.parametrize("people", [0, 1, 3])
def test_people_without_candidates_cost_nothing(people: int) -> None:
    prices = solve_lists(np.zeros(people + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    assert prices.log_multipliers.tolist() == [0.0] * people


@pytest.mark.parametrize(
    ("starts", "candidates", "joint"),
    [([0, 2], [0], [0.5]), ([0, 1], [1], [0.5]), ([0, 1], [-1], [0.5]), ([0, 2, 1, 3], [0, 1, 2], [0.1] * 3),
     ([0, 1], [0], [0.5, 0.5]), ([1, 1], [0], [0.5])],
)
def test_lists_that_do_not_fit_are_refused(starts: list[int], candidates: list[int], joint: list[float]) -> None:
    with pytest.raises(ValueError):
        solve_lists(np.array(starts, np.int64), np.array(candidates, np.int32), np.array(joint, np.float32))


def test_places_are_the_lowest_that_both_have_free_best_pair_first() -> None:
    rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    given = mutual_places(rows, columns, np.array([0.9, 0.8, 0.7, 0.6]), (2, 2), 2)
    assert given.tolist() == [1, 2, 2, 1]
    assert mutual_places(rows, columns, np.zeros(4), (2, 2), 1).tolist() == [1, 0, 0, 1]
    with pytest.raises(ValueError, match="places"):
        mutual_places(rows, columns, np.zeros(4), (2, 2), 63)


def test_best_edges_are_about_as_many_as_asked() -> None:
    scores = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
    rows, columns = best_edges(scores, 10)
    assert rows.size == pytest.approx(3000, rel=0.02)
    assert scores[rows, columns].min() >= np.sort(scores.ravel())[-rows.size]


def test_the_temperature_follows_the_scale_of_what_is_worth_meeting() -> None:
    assert suitable_temperature(np.array([0.2, 0.6], np.float32), 0.05) == pytest.approx(0.025)
    assert suitable_temperature(np.zeros(3, np.float32)) == 1
    joint = Market(np.random.default_rng(0).random((40, 40)).astype(np.float32), np.ones((40, 40), np.float32)).left
    assert np.array_equal(
        np.argsort(solve(joint).surplus(joint).ravel()[:50]), np.argsort(solve(joint / 16).surplus(joint / 16).ravel()[:50])
    )
