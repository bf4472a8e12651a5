"""What an export teaches, how an A/B test is read, and what shown cards tell about both sides: on planted truths."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.training.search import best_of, recipes
from cluster.launch.ranking import job
from configs.contracts.ranking import Arm, Experiment, arm_of
from recommender import artifacts
from recommender.baseline import Baseline
from recommender.datasets.exported import Exported, Impressions, Swipes
from recommender.datasets.neighbours import mutual_lists
from recommender.datasets.pricing import market_prices
from recommender.exploration import Exploration, explored
from recommender.exposure import Exposed
from recommender.features import compute
from recommender.learning import NotLearned, Recipe, evaluate, judged, learn
from recommender.logistic import Logistic
from recommender.online import as_ranked, report, sample_ratio
from recommender.recency import Recent
from recommender.reciprocal import Reciprocal

UNTIL_S = 1.7e9
HALVES = (Arm("old", "m1", 0.5), Arm("new", "m2", 0.5))


def no_impressions() -> Impressions:
    empty: Any = np.zeros(0)
    return Impressions(**dict.fromkeys(Impressions.__dataclass_fields__, empty))


def market(people: int = 400, swipes: int = 6_000, seed: int = 0) -> Exported:
    """Half of each role around one place; everybody likes verified people and nothing else counts."""
    rng = np.random.default_rng(seed)
    role = np.arange(people) % 2
    verified = (rng.random(people) < 0.5).astype(np.float32)
    swiper = rng.integers(0, people, swipes)
    swiped = rng.integers(0, people // 2, swipes) * 2 + 1 - role[swiper]
    order = np.unique(swiper * people + swiped)
    rng.shuffle(order)
    swiper, swiped = order // people, order % people
    liked = rng.random(swiper.size) < np.where(verified[swiped] > 0, 0.8, 0.2)
    columns = {
        "birth_day": UNTIL_S / 86_400 - rng.uniform(25, 45, people) * 365.25, "active_s": np.full(people, UNTIL_S),
        "verified": verified, "age_min": np.full(people, 18.0), "age_max": np.full(people, 60.0),
        "reach_km": np.full(people, 100.0), "role": role.astype(np.float32), "gender": np.zeros(people),
        "likes_sent": np.bincount(swiper, liked, people), "swipes_sent": np.bincount(swiper, minlength=people),
        "likes_received": np.bincount(swiped, liked, people), "swipes_received": np.bincount(swiped, minlength=people),
    }
    number = np.zeros(swiper.size)
    both = {(one, other) for one, other, like in zip(swiper.tolist(), swiped.tolist(), liked.tolist(), strict=True) if like}
    matched = [(one, other) for one, other in both if one < other and (other, one) in both]
    return Exported(
        0.0, UNTIL_S, True, np.stack([np.arange(people), np.arange(people)], axis=1).astype(np.uint64),
        {name: np.asarray(column, np.float64) for name, column in columns.items()}, np.zeros(people, np.uint64),
        rng.normal(40.0, 0.1, people).astype(np.float32), rng.normal(9.0, 0.1, people).astype(np.float32),
        (2 >> role).astype(np.int8), np.zeros(people, np.int8), np.ones(people, np.bool_),
        Swipes(swiper, swiped, liked, np.arange(swiper.size, dtype=float), number.astype(np.float32),
               number.astype(np.uint64), number.astype(np.int16)),
        no_impressions(), np.array(matched, np.int32).reshape(-1, 2),
    )


@pytest.mark.parametrize("model", ["logistic", "boosted"])
def test_a_planted_preference_is_learned(model: Any) -> None:
    data = market()
    parameters = {"trees": 20} if model == "boosted" else {}
    learned = learn(data, Recipe(model, features=("is_verified", "log_distance"), parameters=parameters))
    assert learned.metrics["like_auc"] > 0.75
    assert learned.metrics["log_loss"] < 0.85 * learned.metrics["base_log_loss"]
    ordered = evaluate(learned.ranker, data)
    assert ordered["match_auc"] > 0.7
    assert evaluate(Baseline(), data)["like_auc"] < 0.6


def test_history_does_not_hold_the_answer() -> None:
    """With the swipe itself in the counts, people of one swipe would give their label away."""
    data = market(people=400, swipes=500, seed=3)
    coin = np.random.default_rng(1).random(len(data.swipes)) < 0.5
    swipes = replace(data.swipes, liked=coin)
    counts = {
        "likes_sent": np.bincount(swipes.swiper, coin, 400), "likes_received": np.bincount(swipes.swiped, coin, 400),
    }
    blind = replace(data, swipes=swipes, people={**data.people, **counts})
    learned = learn(blind, Recipe(features=("viewer_like_rate_sent", "like_rate_received")))
    assert 0.3 < learned.metrics["like_auc"] < 0.7


def swiped(swiped_of: Any, liked: Any) -> Exported:
    """Person 0 swipes these people, in this order, and there is no other history."""
    data = market(people=400)
    swiped_of, liked = np.asarray(swiped_of), np.asarray(liked, np.bool_)
    nothing = np.zeros(swiped_of.size)
    swipes = Swipes(
        np.zeros(swiped_of.size, np.int32), swiped_of, liked, np.arange(swiped_of.size, dtype=float), nothing.astype(np.float32),
        nothing.astype(np.uint64), nothing.astype(np.int16),
    )
    return replace(data, swipes=swipes, people={**data.people} | {
        "likes_received": np.bincount(swiped_of, liked, 400), "swipes_received": np.bincount(swiped_of, minlength=400),
    })


def test_swipes_that_judge_say_nothing_of_each_other() -> None:
    """Of two swipes on one person, one a like, the other one alone would tell which."""
    data = swiped(np.repeat(np.arange(400), 2), np.arange(800) % 2)
    like = Logistic(("like_rate_received",), np.array([5.0]), np.array([0.3]), 0.0)
    assert judged(like, data, data.swipes)["like_auc"] == 0.5
    assert evaluate(like, data)["like_auc"] == 0.0, "without a cut each is judged with all others known"
    assert evaluate(like, data, -1.0)["like_auc"] == 0.5


def test_swipes_that_judge_do_not_teach_by_history() -> None:
    """Whoever was liked is liked again later, which nothing tells before."""
    first = np.arange(400)
    learned = learn(swiped([*first, *first[:100]], [*first % 2, *first[:100] % 2]), Recipe(features=("like_rate_received",)))
    assert isinstance(learned.ranker, Recent)
    assert isinstance(learned.ranker.inner, Reciprocal)
    likes = learned.ranker.inner.likes
    assert isinstance(likes, Logistic)
    assert np.abs(likes.weights).max() < 1e-6


def test_later_swipes_are_taken_off_everybodys_history() -> None:
    data = market(people=400, swipes=6_000, seed=3)
    coin = np.random.default_rng(1).random(len(data.swipes)) < 0.5
    data = replace(data, swipes=replace(data.swipes, liked=coin), people={**data.people} | {
        "likes_sent": np.bincount(data.swipes.swiper, coin, 400), "likes_received": np.bincount(data.swipes.swiped, coin, 400),
    })
    newer = data.swipes.rows(slice(4_000, None))
    past = data.before(newer)
    older = data.swipes.rows(slice(0, 4_000))
    assert past.people["swipes_sent"].tolist() == np.bincount(older.swiper, minlength=400).tolist()
    assert past.people["likes_received"].tolist() == np.bincount(older.swiped, older.liked, 400).tolist()
    pairs = past.pairs(newer, counted=False)
    assert pairs.candidate["likes_received"].tolist() == past.people["likes_received"][newer.swiped].tolist()
    assert past.pairs(older).viewer["swipes_sent"].tolist() == (past.people["swipes_sent"][older.swiper] - 1).tolist()


@pytest.mark.parametrize("wrong", [
    {"model": "oracle"}, {"rule": "sum"}, {"features": ("height",)},
])
def test_a_recipe_that_cannot_be_made_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotLearned):
        Recipe(**wrong)


def test_too_few_swipes_and_unknown_parameters_are_refused() -> None:
    with pytest.raises(NotLearned, match="too few"):
        learn(market(people=40, swipes=20), Recipe())
    with pytest.raises(NotLearned, match="parameters"):
        learn(market(), Recipe(parameters={"depthh": 3}))


def test_a_grid_is_every_combination_and_the_best_has_the_least_loss() -> None:
    found = recipes(Recipe(rule="harmonic"), {"model": ["logistic"], "l2": [1, 1e6], "label": ["like", "match"]})
    assert len(found) == 4
    assert {recipe.parameters["l2"] for recipe in found} == {1, 1e6}
    data = market()
    trials = [learn(data, recipe) for recipe in found]
    assert len({trial.metrics["log_loss"] for trial in trials}) == 2
    assert best_of([NotLearned("x"), *trials]).metrics["log_loss"] == min(trial.metrics["log_loss"] for trial in trials)
    with pytest.raises(NotLearned):
        best_of([NotLearned("x")])
    with pytest.raises(ValueError, match="combinations"):
        recipes(Recipe(), {"a": list(range(40)), "b": list(range(40))})


@pytest.mark.parametrize("name", ["rule", "exposure", "recency_half_life_days"])
def test_a_grid_over_what_its_loss_does_not_judge_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"over {name}: trials are compared by the log loss"):
        recipes(Recipe(), {"l2": [1, 2], name: [1, 2]})


def test_a_model_is_judged_by_swipes_that_did_not_teach_it(tmp_path: Path) -> None:
    """A coin's swipes are learned by heart and foretold no better than a coin's."""
    data = market(people=60, swipes=4_000)
    heads = np.random.default_rng(1).random(len(data.swipes)) < 0.5
    data = replace(data, swipes=replace(data.swipes, liked=heads))
    learned = learn(data, Recipe("boosted", features=("age_years", "viewer_age_years"), parameters={"trees": 200}))
    assert learned.taught_until_s == data.swipes.at_s[int(0.8 * len(data.swipes)) - 1]
    (tmp_path / "manifest.json").write_text(json.dumps({"since": "2026-11-01", "until": "2026-11-20T00:00:00+00:00", "rows": {}}))
    manifest = artifacts.read_manifest(job.save(learned, tmp_path, tmp_path / "models"))
    told = job.taught_until(manifest)
    assert told is not None
    assert told.timestamp() == learned.taught_until_s
    later = evaluate(learned.ranker, data, told.timestamp())
    assert later["swipes"] == learned.metrics["swipes"]
    assert later["swipes"] + later["left_out"] == len(data.swipes)
    everything = evaluate(learned.ranker, data)
    assert (everything["swipes"], everything["left_out"]) == (len(data.swipes), 0)
    assert everything["like_auc"] > later["like_auc"] + 0.02
    before = {"data": {"until": "2026-11-20T00:00:00+00:00"}}
    assert job.taught_until(before) == datetime(2026, 11, 20, tzinfo=UTC), "of older manifests: all that may have taught it"
    assert job.taught_until({}) is None


def test_lists_hold_the_nearest_whom_both_accept() -> None:
    data = market(people=300)
    reach = data.people["reach_km"].copy()
    reach[7] = 0.0
    data = replace(data, people={**data.people, "reach_km": reach}, discoverable=np.arange(300) != 9)
    lists = mutual_lists(data, size=20)
    counts = np.diff(lists.starts)
    assert counts[7] == counts[9] == 0
    assert (counts[[place for place in range(300) if place not in (7, 9)]] == 20).all()
    assert not np.isin(lists.candidates, (7, 9)).any()
    assert (data.people["role"][lists.owners] != data.people["role"][lists.candidates]).all()
    mine = lists.candidates[lists.starts[0]:lists.starts[1]]
    apart = np.hypot(
        (data.latitudes - data.latitudes[0]), (data.longitudes - data.longitudes[0]) * np.cos(np.radians(40.0))
    )
    others = [place for place in np.argsort(apart).tolist() if place % 2 == 1 and place not in (7, 9)]
    assert len(set(mine.tolist()) & set(others[:22])) >= 19


@pytest.mark.parametrize("rule", ["product", "blend"])
def test_whom_many_want_has_the_lower_price_and_the_exposed_model_is_priced_at_its_temperature(rule: str) -> None:
    data = market()
    exposed = learn(data, Recipe(rule=rule, features=("is_verified",), exposure=1.0)).ranker
    assert isinstance(exposed, Recent)
    prices = market_prices(data, exposed)
    exposed = exposed.inner
    assert isinstance(exposed, Exposed)
    assert prices.temperature == pytest.approx(exposed.temperature)
    assert prices.log_prices.tolist() == pytest.approx(market_prices(data, exposed.inner).log_prices.tolist(), abs=1e-4)
    wanted = data.people["verified"] > 0
    assert prices.log_prices[wanted].mean() < prices.log_prices[~wanted].mean() - 0.1


@pytest.mark.parametrize("exposure", [0.0, 1.0])
@pytest.mark.parametrize("rule", ["product", "blend"])
def test_who_is_long_gone_comes_after_equals_that_are_there(rule: str, exposure: float) -> None:
    """Prices are of the market as if all were there: they do not make up for what recency takes."""
    data = market()
    learned = learn(data, Recipe(rule=rule, features=("is_verified",), exposure=exposure))
    active_s = np.where(np.arange(400) % 4 < 2, UNTIL_S, UNTIL_S - 730 * 86_400)
    data = replace(data, people={**data.people, "active_s": active_s})
    table = data.people | {"log_price": market_prices(data, learned.ranker).log_prices}
    pairs = data.pairs(data.swipes)
    priced = replace(pairs, candidate={name: column[data.swipes.swiped] for name, column in table.items()})
    scores = learned.ranker.score(compute(learned.ranker.features, priced))
    gone = active_s[data.swipes.swiped] < UNTIL_S
    for verified in (0.0, 1.0):
        alike = table["verified"][data.swipes.swiped] == verified
        assert scores[alike & ~gone].mean() - scores[alike & gone].mean() > 3, "ln 64 is 4.2"
    assert learned.metrics == learn(data, Recipe(rule=rule, features=("is_verified",), recency_half_life_days=0)).metrics
    assert isinstance(learned.ranker, Recent)
    whole, plain = evaluate(learned.ranker, data), evaluate(learned.ranker.inner, data)
    assert whole == plain, "activity of now says nothing of swipes of then"


def test_a_recipe_without_recency_has_none() -> None:
    assert "days_since_active" not in learn(market(), Recipe(recency_half_life_days=0)).ranker.features
    with pytest.raises(NotLearned):
        Recipe(recency_half_life_days=-1)


def test_nobody_has_no_prices() -> None:
    data = market(people=10, swipes=60)
    nowhere = replace(data, latitudes=np.full(10, np.nan, np.float32))
    assert market_prices(nowhere, Baseline()).log_prices.tolist() == [0.0] * 10


def shown(arms: list[str], viewers: list[int], liked: list[int], candidates: list[int]) -> Impressions:
    count = len(arms)
    plain: Any = np.zeros(count)
    return Impressions(
        np.array(viewers), np.array(candidates), np.arange(1, count + 1).astype(np.uint64), plain.astype(np.int16), plain, np.ones(count, np.float32),
        np.arange(count, dtype=float), plain.astype(np.int64), np.array(["m"] * count, object),
        np.array(["e"] * count, object), np.array(arms, object), np.ones(count, np.bool_), np.array(liked, np.int8),
        np.array([None] * count, object),
    )


def test_an_experiment_is_read_by_arm_and_both_sides_are_attributed() -> None:
    data = market(people=40, swipes=60)
    arms = ["old" if viewer % 2 else "new" for viewer in range(20)] * 2
    viewers = list(range(20)) * 2
    liked = [1 if arm == "new" else 0 for arm in arms]
    impressions = shown(arms, viewers, liked, [20 + viewer for viewer in viewers])
    swipes = Swipes(
        np.array([0, 1]), np.array([1, 0]), np.array([True, True]), np.array([1.0, 2.0]), np.zeros(2, np.float32),
        np.array([1, 2], np.uint64), np.zeros(2, np.int16),
    )
    found = report(
        replace(data, impressions=impressions, swipes=swipes, matches=np.array([[0, 1]], np.int32)), Experiment("e", "user", HALVES)
    )
    new = next(arm for arm in found["arms"] if arm["arm"] == "new")
    assert (new["units"], new["answered"], new["likes"], new["like_rate"]) == (10, 20, 20, 1.0)
    assert found["sample_ratio"]["p"] == 1.0
    assert not found["sample_ratio"]["suspect"]
    assert found["matches"] == {"new": {"old": 1}}, "the first like was of the new arm, the answer of the old one"
    assert sum(found["received"].values()) == 20


def test_matches_through_cards_of_another_experiment_are_of_no_arm() -> None:
    cards = replace(shown(["new", "new"], [0, 1], [1, 1], [1, 0]), experiment=np.array(["e", "earlier"], object))
    swipes = Swipes(
        np.array([0, 1]), np.array([1, 0]), np.array([True, True]), np.array([1.0, 2.0]), np.zeros(2, np.float32),
        np.array([1, 2], np.uint64), np.zeros(2, np.int16),
    )
    data = replace(market(people=40, swipes=60), impressions=cards, swipes=swipes, matches=np.array([[0, 1]], np.int32))
    assert report(data, Experiment("e", "user", HALVES))["matches"] == {"new": {"": 1}}


def test_a_split_that_was_not_kept_is_seen() -> None:
    viewers = list(range(200))
    arms = ["old" if viewer % 10 else "new" for viewer in viewers]
    data = replace(market(people=400), impressions=shown(arms, viewers, [0] * 200, [0] * 200))
    found = report(data, Experiment("e", "user", HALVES))
    assert found["sample_ratio"]["suspect"]
    mixed = replace(data, impressions=shown(["old", "new"], [1, 1], [0, 0], [0, 0]))
    assert report(mixed, Experiment("e", "user", HALVES))["sample_ratio"]["mixed"] == 1


def test_shares_that_sum_to_one_within_the_tolerance_are_tested() -> None:
    thirds = Experiment("e", "user", tuple(Arm(name, "m", 0.3333333) for name in "abc"))
    found = sample_ratio(thirds, {name: {(name, unit): (1, 0) for unit in range(1_000)} for name in "abc"})
    assert found["p"] == pytest.approx(1.0)
    assert sum(found["expected"].values()) == pytest.approx(3_000)


def test_a_period_counts_for_the_arm_that_it_was_given() -> None:
    """Pages in progress go on in the deck of the period before."""
    test = Experiment("e", "time", HALVES, 60)
    given = [arm_of(test, str(period)).name for period in range(40)]
    late = [given[max(period - 1, 0)] for period in range(40)]
    cards = shown([*given, *late], [0] * 80, [1] * 80, [1] * 80)
    cards = replace(cards, served_s=np.tile(np.arange(40) * 60.0, 2))
    found = report(replace(market(people=40, swipes=60), impressions=cards), test)
    same = sum(one == other for one, other in zip(given, late, strict=True))
    assert 0 < same < 40
    assert found["cards"] == 40 + same
    assert found["sample_ratio"]["mixed"] == 0
    assert sum(arm["units"] for arm in found["arms"]) == 40


@pytest.mark.parametrize("split", ["user", "region", "time"])
def test_an_experiment_without_cards_has_a_report(split: Any) -> None:
    found = report(market(people=10, swipes=60), Experiment("e", split, HALVES))
    assert [arm["cards"] for arm in found["arms"]] == [0, 0]


def explored_cards(rng: np.random.Generator, viewers: int, pages: int, rate: float) -> tuple[Impressions, float]:
    """Pages of 20 as decks explore them, and the true likes a card of the ranking alone: viewers differ, lower places are
    liked less, people from below half as much, and places that explore are looked at more than their neighbours."""
    keen = np.repeat(rng.beta(2, 4, viewers), pages)
    place_worth = np.linspace(1.0, 0.4, 20) * np.where(np.arange(20) % 5 == 4, 1.5, 1.0)
    truth = float(np.mean(keen) * place_worth.mean())
    found: list[tuple[int, int, float, int]] = []
    for page, viewer in enumerate(np.repeat(np.arange(viewers), pages).tolist()):
        list_of = explored(np.arange(60), np.zeros(60, np.float32), 20, Exploration(rate=rate, pool=5), int(rng.integers(1 << 40)))
        chances = keen[page] * place_worth * np.where(list_of.explored, 0.5, 1.0)
        for place, like in enumerate((rng.random(20) < chances).tolist()):
            found.append((viewer, place, float(list_of.propensities[place]), int(like)))
    viewer, place, propensity, liked = (np.array(column) for column in zip(*found, strict=True))
    impressions = shown(["new"] * viewer.size, viewer, liked, [0] * viewer.size)  # type: ignore[arg-type]
    return replace(impressions, position=place.astype(np.int16), propensity=propensity.astype(np.float32)), truth


def test_what_the_ranking_alone_would_have_earned_is_found_in_what_was_explored() -> None:
    """The plain mean of what was shown is too low; each estimate is right, and its interval holds the truth as often as it says."""
    rng = np.random.default_rng(5)
    inside = dict.fromkeys(("ips", "self_normalised", "doubly_robust"), 0)
    errors: dict[str, list[float]] = {name: [] for name in (*inside, "plain")}
    for _ in range(120):
        cards, truth = explored_cards(rng, 60, 3, 0.4)
        found = as_ranked(cards, np.arange(len(cards)), cards.viewer)
        assert found["from_below"] > 0.05 * found["cards"]
        for name in inside:
            inside[name] += found[name]["low"] <= truth <= found[name]["high"]
            errors[name].append(found[name]["value"] - truth)
        errors["plain"].append(float((cards.liked == 1).mean()) - truth)
    assert np.mean(errors["plain"]) < -0.01
    for name, count in inside.items():
        assert abs(np.mean(errors[name])) < 0.006, name
        assert count >= 0.88 * 120, name
    assert np.std(errors["doubly_robust"]) <= 1.02 * np.std(errors["ips"])


def test_without_exploration_every_estimate_is_what_was_seen() -> None:
    cards, _ = explored_cards(np.random.default_rng(0), 30, 2, 0.0)
    found = as_ranked(cards, np.arange(len(cards)), cards.viewer)
    assert found["from_below"] == 0
    plain = float((cards.liked == 1).mean())
    for name in ("ips", "self_normalised", "doubly_robust"):
        assert found[name]["value"] == pytest.approx(plain)
        assert found[name]["low"] < plain < found[name]["high"]


def test_rows_of_one_viewer_count_as_one_when_intervals_are_made() -> None:
    cards, _ = explored_cards(np.random.default_rng(1), 40, 5, 0.2)
    rows = np.arange(len(cards))
    by_viewer = as_ranked(cards, rows, cards.viewer)["ips"]
    by_row = as_ranked(cards, rows, rows)["ips"]
    assert by_viewer["value"] == by_row["value"]
    assert by_viewer["high"] - by_viewer["low"] > 1.5 * (by_row["high"] - by_row["low"])
