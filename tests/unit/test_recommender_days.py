"""A simulated month: limits hold, nobody sees a card twice, and policies differ by what they deal only."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recommender.simulation.days import Lists, Rules, View, simulated, without_history
from recommender.simulation.dealing import BASELINES, best_unseen, fixed, may_deal
from recommender.simulation.markets import Market, standard
from recommender.simulation.policies import product, random_order

GOLDEN = json.loads((Path(__file__).parent / "golden" / "market_baselines.json").read_text())["days"]
SMALL = Rules(people=40, days=5, cards=4)


def certain(people: int, seed: int) -> Market:
    """Everybody likes everybody."""
    return Market(*(np.ones((people, people), dtype=np.float32) for _ in range(2)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_baselines_have_the_recorded_matches(seed: int) -> None:
    rules = Rules(people=150, days=10, newcomers=0.1)
    assert {name: simulated(make(seed), rules, seed).matches for name, make in BASELINES.items()} == GOLDEN[str(seed)]


def test_a_month_repeats_itself_and_another_seed_is_another_month() -> None:
    first, again, other = (simulated(fixed(product), SMALL, seed) for seed in (3, 3, 4))
    assert first.by_day == again.by_day
    assert first.by_day != other.by_day
    assert sum(first.by_day) == first.matches


def test_the_first_card_is_always_looked_at_and_certain_likes_match() -> None:
    one_card = replace(SMALL, cards=1, days=1, market=certain)
    assert simulated(fixed(BASELINE_CIRCLE), one_card, 0).matches == 40


def BASELINE_CIRCLE(market: Market, seed: int) -> tuple[np.ndarray, np.ndarray]:  # noqa: N802
    scores = np.eye(market.people[0], dtype=np.float32)
    return scores, scores


def test_tired_people_like_less() -> None:
    lively = simulated(fixed(BASELINE_SHIFTS), replace(SMALL, cards=1, days=30, fatigue=1.0, market=certain), 0)
    tired = simulated(fixed(BASELINE_SHIFTS), replace(SMALL, cards=1, days=30, fatigue=0.5, market=certain), 0)
    assert lively.by_day == [40] * 30
    assert tired.by_day[0] == 40
    assert sum(tired.by_day[1:]) < 0.5 * 40 * 29


def BASELINE_SHIFTS(market: Market, seed: int) -> tuple[np.ndarray, np.ndarray]:  # noqa: N802
    n = market.people[0]
    scores = -(np.subtract.outer(-np.arange(n), -np.arange(n)) % n).astype(np.float32)
    return scores, scores.T


def test_lists_that_break_the_rules_are_refused() -> None:
    def twice(view: View) -> tuple[Lists, Lists]:
        return np.zeros((40, 4), dtype=np.int64), np.full((40, 4), -1)

    def again(view: View) -> tuple[Lists, Lists]:
        return np.tile(np.arange(4), (40, 1)), np.full((40, 4), -1)

    def short(view: View) -> tuple[Lists, Lists]:
        return np.zeros((40, 1), dtype=np.int64), np.full((40, 4), -1)

    for policy in (twice, again, short):
        with pytest.raises(ValueError):
            simulated(policy, SMALL, 0)


def test_nobody_is_dealt_before_they_arrive() -> None:
    def absent(view: View) -> tuple[Lists, Lists]:
        lists = np.full((40, 4), -1)
        missing = np.flatnonzero(~view.right.present)
        if missing.size:
            lists[np.flatnonzero(view.left.present)[0], 0] = missing[0]
        return lists, np.full((40, 4), -1)

    with pytest.raises(ValueError, match="not there"):
        simulated(absent, replace(SMALL, days=12, newcomers=0.5), 0)


def test_policies_cannot_write_into_what_they_are_shown() -> None:
    def forger(view: View) -> tuple[Lists, Lists]:
        view.left.liked[:] = True
        return np.full((40, 4), -1), np.full((40, 4), -1)

    with pytest.raises(ValueError, match="read-only"):
        simulated(forger, SMALL, 0)


def test_when_everybody_was_dealt_the_lists_are_empty() -> None:
    few = simulated(fixed(random_order), Rules(people=3, days=10, cards=2), 0)
    assert len(few.by_day) == 10
    assert sum(few.by_day[2:]) == 0


@pytest.mark.parametrize("people", [0, 1])
def test_markets_of_nobody_and_of_one_live_through_their_days(people: int) -> None:
    assert 0 <= simulated(fixed(product), Rules(people=people, days=3), 0).matches <= people


def test_first_matches_are_among_the_first_cards() -> None:
    rules = replace(SMALL, days=10, market=certain, fatigue=1.0, cards=1)
    result = simulated(fixed(BASELINE_SHIFTS), rules, 0, first_cards=3)
    assert result.first_matches.tolist() == [3] * 80
    assert result.matches == 400


def test_people_without_history_are_average_to_the_platform() -> None:
    believed = standard(6, 0)
    new = np.array([False, False, True, False, False, True])
    none = np.zeros(6, dtype=bool)
    known = without_history(believed, new, none)
    assert known.left[2] == pytest.approx(believed.left[~new].mean(axis=0))
    assert known.right[:, 2] == pytest.approx(believed.right[:, ~new].mean(axis=1))
    assert np.array_equal(known.left[0], believed.left[0])
    assert without_history(believed, np.ones(6, dtype=bool), none).left == pytest.approx(0.5)


def test_best_unseen_are_allowed_ordered_and_padded() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((30, 50)).astype(np.float32)
    allowed = rng.random((30, 50)) < 0.15
    lists = best_unseen(scores, allowed, 5)
    for row in range(30):
        columns = np.flatnonzero(allowed[row])
        wanted = columns[np.argsort(-scores[row, columns])][:5].tolist()
        assert lists[row].tolist() == wanted + [-1] * (5 - len(wanted))


def test_cards_may_be_dealt_of_people_who_are_there_and_unseen() -> None:
    seen: list[np.ndarray] = []

    def policy(view: View) -> tuple[Lists, Lists]:
        allowed = may_deal(view.left, view.right)
        assert not (allowed & view.left.dealt).any()
        assert not allowed[:, ~view.right.present].any()
        seen.append(allowed)
        return fixed(product)(replace(view, day=0))

    simulated(policy, replace(SMALL, days=12, newcomers=0.4), 1)
    assert seen[-1].sum(axis=1).max() > seen[0].sum(axis=1).max() - 4 * 12
