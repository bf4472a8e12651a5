"""Waiting likes are put forward by an exact term and never take more than every second place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.simulation import reports
from recommender.simulation.days import Lists, Rules, View, simulated
from recommender.simulation.dealing import may_deal
from recommender.simulation.serving import POLICIES, ListPriced, PutForward, best_mixed, newest
from recommender.waiting import boosted, mixed, ranked

flags = st.lists(st.booleans(), max_size=25)


def by_hand(waiting: list[bool]) -> list[int]:
    """The best first, but after somebody whose like waits the next of the others, while there is one."""
    those, others = ([place for place, waits in enumerate(waiting) if waits is kind] for kind in (True, False))
    order: list[int] = []
    just = False
    while those or others:
        just = bool(those) and (not others or (not just and those[0] < others[0]))
        order.append((those if just else others).pop(0))
    return order


@given(flags)
def test_a_list_is_mixed_as_by_hand(waiting: list[bool]) -> None:
    assert mixed(np.array(waiting, np.bool_)).tolist() == by_hand(waiting)


def test_every_second_place_at_most_while_others_remain() -> None:
    assert mixed(np.array([True] * 3 + [False] * 2)).tolist() == [0, 3, 1, 4, 2]
    assert mixed(np.array([False, False, True, True, False])).tolist() == [0, 1, 2, 4, 3], "better others stay before them"
    assert mixed(np.array([True, True])).tolist() == [0, 1], "nobody is left out"


@given(flags.filter(bool), st.integers(0, 2**32 - 1), st.integers(0, 50), st.integers(1, 25))
def test_the_best_of_both_kinds_begin_as_everybody_would(waiting: list[bool], seed: int, whole_boost: int, size: int) -> None:
    waits = np.array(waiting)
    scores = np.random.default_rng(seed).permutation(waits.size).astype(np.float32)
    boost = whole_boost + 0.5
    places, given_scores, kinds = ranked(scores, waits, boost, size)
    assert np.array_equal(given_scores, boosted(scores, waits, boost)[places])
    assert np.array_equal(kinds, waits[places])
    whole = np.argsort(-boosted(scores, waits, boost), kind="stable")
    assert places[mixed(kinds)][:size].tolist() == whole[mixed(waits[whole])][:size].tolist()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=40), st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_parts_cut_to_size_make_the_list_of_the_whole(people: list[tuple[bool, int]], seed: int, size: int) -> None:
    """What card actors each send is enough for the deck of all."""
    waits, part = np.array([one for one, _ in people]), np.array([other for _, other in people])
    scores = np.random.default_rng(seed).permutation(waits.size)
    whole = np.argsort(-scores)
    sent: list[int] = []
    for number in range(3):
        own = whole[part[whole] == number]
        sent += own[mixed(waits[own])][:size].tolist()
    again = np.array(sorted(sent, key=lambda place: -scores[place]), np.int64)
    assert again[mixed(waits[again])][:size].tolist() == whole[mixed(waits[whole])][:size].tolist()


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(1, 6))
def test_the_simulator_deals_each_row_as_a_shard_ranks_it(seed: int, people: int, cards: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(3 * people).reshape(3, people).astype(np.float32)
    waiting, allowed = rng.random((3, people)) < 0.4, rng.random((3, people)) < 0.7
    dealt = best_mixed(scores, waiting, allowed, 2.5, cards)
    assert dealt.shape == (3, cards)
    for row in range(3):
        open_columns = np.flatnonzero(allowed[row])
        places, _, kinds = ranked(scores[row][open_columns], waiting[row][open_columns], 2.5, cards)
        wanted = open_columns[places[mixed(kinds)]][:cards].tolist()
        assert dealt[row].tolist() == wanted + [-1] * (cards - len(wanted))


def test_only_the_newest_likes_count() -> None:
    since = np.array([[3, -1, 5, 1, 4], [-1, -1, -1, 2, -1]], np.int16)
    assert newest(since, 2).tolist() == [[False, False, True, False, True], [False, False, False, True, False]]
    assert newest(since, 4).sum() == 5


def test_served_months_put_whoever_waits_forward_and_mix_them() -> None:
    shares: list[float] = []

    def watched(view: View) -> tuple[Lists, Lists]:
        lists = inner(view)
        waiting = view.right.liked.T & may_deal(view.left, view.right)
        for person in np.flatnonzero(waiting.sum(axis=1) >= 2):
            first = waiting[person, lists[0][person]] & (lists[0][person] >= 0)
            assert not (first[1:] & first[:-1]).any()
            shares.append(float(first[:4].sum()))
        return lists

    inner = PutForward(ListPriced("blend"))
    simulated(watched, Rules(people=200, days=8, cards=6), 0)
    assert len(shares) > 50
    assert np.mean(shares) > 1.8, "two of the first four"


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("people", [0, 1, 3, 30])
def test_served_policies_live_through_small_and_exhausted_markets(name: str, people: int) -> None:
    result = simulated(POLICIES[name](), Rules(people=people, days=6, cards=7, newcomers=0.3), 0)
    assert len(result.by_day) == 6
    assert result.matches <= people * people


def test_what_is_served_meets_the_gates_of_a_month_and_of_newcomers() -> None:
    month = reports.days(range(3), Rules(people=250, days=30, cards=5), {"standard": 0.9}, ("product", reports.SERVED))
    assert all(gate["passed"] for gate in month["gates"].values()), month["gates"]
    cold = reports.cold_start(range(3), Rules(people=300, newcomers=0.1), (reports.SERVED,))
    assert all(gate["passed"] for gate in cold["gates"].values()), cold["gates"]
