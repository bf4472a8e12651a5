"""People whose like waits are put forward by card shards, among those who may be shown only, and explained exactly."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cards_exact import CROWD, NOW, VIEWER, crowded, expected, page, places, question, score, typical, user
from test_cards_exact import people as persons

from actors.cards.client import merged
from actors.cards.commands import Deck, DeckQuery, Explain
from actors.cards.explaining import explanation
from actors.cards.state import Cards
from configs.contracts.ids import key64, new_id
from recommender.baseline import Baseline
from recommender.waiting import TERM, boosted, mixed


def liked_by(query: DeckQuery, likers: list[str], boost: float = 4.0) -> DeckQuery:
    return msgspec.structs.replace(query, waiting=np.array([key64(liker) for liker in likers], "<u8").tobytes(), waiting_boost=boost)


def deck_of(shards: list[Cards], query: DeckQuery) -> Deck:
    return merged([cards.shortlist(query, NOW) for cards in shards], query.size)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 39), unique=True, max_size=25).flatmap(lambda numbers: st.tuples(*map(persons, numbers))), st.data(),
)
def test_decks_with_waiting_likes_equal_brute_force(population: tuple, data: st.DataObject) -> None:  # type: ignore[type-arg]
    actors = data.draw(st.integers(1, 3))
    shards = [Cards(Baseline(), slot, actors) for slot in range(actors)]
    for cards in shards:
        cards.load(page(list(population)))
    viewer = replace(data.draw(persons(900)), place=data.draw(places()))
    likers = data.draw(st.lists(st.sampled_from([person.user_id for person in population] + [user(901)]), unique=True))
    seen = data.draw(st.sets(st.sampled_from([person.user_id for person in population] + [user(902)])))
    size, boost = data.draw(st.sampled_from([1, 4, 50])), data.draw(st.sampled_from([0.5, 4.0, 50.0]))
    query = liked_by(question(viewer, seen, size), likers, boost)

    deck = deck_of(shards, query)
    wanted = expected({person.user_id: person for person in population}, viewer, query)
    by_id = {person.user_id: person for person in population}
    ids = list(wanted)
    waits = np.array([user_id in likers for user_id in ids], np.bool_)
    scores = boosted(np.array([score(by_id[user_id], viewer, wanted[user_id]) for user_id in ids], np.float32), waits, boost)
    order = np.argsort(-scores, kind="stable")
    order = order[mixed(waits[order])][:size]
    got = [entry.user_id for entry in deck.entries]
    assert set(got) <= set(wanted), "a like opens no filter and brings nobody back"
    assert np.allclose([entry.score for entry in deck.entries], scores[order], rtol=0, atol=2e-3)
    assert [user_id in likers for user_id in got] == waits[order].tolist()


@settings(max_examples=60, deadline=None)
@given(
    scored=st.sampled_from([200, 2_000]), size=st.sampled_from([1, 20, 100]), best=st.sampled_from([0, 150, 1_200]),
    likes=st.sampled_from([1, 30, 200]), seed=st.integers(0, 2**32 - 1),
)
def test_likes_of_people_far_below_are_put_forward_out_of_a_crowd(
    scored: int, size: int, best: int, likes: int, seed: int
) -> None:
    """Also of those whom the first stage leaves out, and when the best of the others were seen."""
    chance = np.random.default_rng(seed)
    seen = {person.user_id for person in CROWD[:best] if chance.random() < 0.8}
    likers = [CROWD[place].user_id for place in chance.choice(len(CROWD), likes, replace=False).tolist()]
    deck = deck_of([crowded(scored)], liked_by(question(VIEWER, seen, size), likers, 50.0))
    ranks = [place for place, person in enumerate(CROWD) if person.user_id not in seen | {VIEWER.user_id}]
    those = [place for place in ranks if CROWD[place].user_id in likers]
    others = [place for place in ranks if CROWD[place].user_id not in likers]
    whole = np.array(those + others, np.int64)
    order = mixed(np.array([True] * len(those) + [False] * len(others), np.bool_))
    assert [entry.user_id for entry in deck.entries] == [CROWD[place].user_id for place in whole[order]][:size]


def test_no_boost_nobody_known_or_nobody_unseen_leaves_the_deck_as_it_is() -> None:
    cards = Cards(Baseline())
    cards.load(page([typical(number) for number in range(20)]))
    plain = question(VIEWER, {user(19)}, 50)
    as_it_is = deck_of([cards], plain)
    for likers, boost in (([user(9)], 0.0), ([], 4.0), ([new_id()], 4.0), ([user(19), VIEWER.user_id], 4.0)):
        assert deck_of([cards], liked_by(plain, likers, boost)) == as_it_is
    assert deck_of([cards], liked_by(plain, [user(9)])).entries[0].user_id == user(9)


def test_the_marks_of_one_viewer_are_not_the_next_one_s() -> None:
    cards = Cards(Baseline())
    cards.load(page([typical(number) for number in range(20)]))
    plain = question(VIEWER, set(), 50)
    before = deck_of([cards], plain)
    deck_of([cards], liked_by(plain, [user(number) for number in range(10, 20)]))
    assert deck_of([cards], plain) == before
    assert deck_of([cards], liked_by(plain, [new_id()])) == before


def test_logged_features_say_whose_like_waits() -> None:
    cards = Cards(Baseline())
    cards.load(page([typical(number) for number in range(6)]))
    query = msgspec.structs.replace(liked_by(question(VIEWER, set(), 50), [user(4)]), with_features=True)
    deck = deck_of([cards], query)
    assert deck.feature_names == (*Baseline().features, TERM)
    values = np.frombuffer(deck.features, "<f4").reshape(len(deck.entries), -1)
    assert values[:, -1].tolist() == [float(entry.user_id == user(4)) for entry in deck.entries]
    without = deck_of([cards], msgspec.structs.replace(query, waiting=b""))
    assert not np.frombuffer(without.features, "<f4").reshape(6, -1)[:, -1].any()


@pytest.mark.parametrize("boost", [0.0, 4.0])
def test_an_explanation_has_the_waiting_like_as_its_own_term_and_adds_up_to_the_served_score(boost: float) -> None:
    cards = Cards(Baseline())
    cards.load(page([typical(number) for number in range(6)]))
    query = liked_by(question(VIEWER, set(), 50), [user(4)], boost)
    served = {entry.user_id: entry.score for entry in deck_of([cards], query).entries}
    for number in (3, 4):
        found = explanation(cards, Explain(query, user(number)), NOW)
        assert found is not None
        waits = number == 4 and boost > 0
        assert found.terms.get(TERM) == (boost if waits else None)
        assert found.features[TERM] == float(waits)
        assert sum(found.terms.values()) == pytest.approx(found.score, abs=1e-5)
        assert found.score == pytest.approx(served[user(number)], abs=1e-6)
