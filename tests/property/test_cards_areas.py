"""What is gathered of a viewer's surroundings follows every change, and its answers are those of looking at everybody."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cards_exact import (
    NOW,
    ROLES,
    VIEWER,
    Person,
    changed,
    event,
    expected,
    page,
    people,
    places,
    question,
    typical,
    user,
    worlds,
)

from actors.cards.areas import Areas
from actors.cards.blocks import CHANGES_KEPT
from actors.cards.commands import DeckQuery
from actors.cards.state import Cards
from configs.contracts.events import LocationChanged, PreferencesChanged, UserCreated, UserErased
from configs.contracts.people import snap
from recommender.baseline import Baseline


def found(cards: Cards, query: DeckQuery) -> dict[str, float]:
    """Everybody whom both sides accept but the viewer: id without dashes -> distance."""
    rows, distances = cards.eligible(query, NOW)
    persons = cards._blocks.people[rows]
    ids = [f"{high:016x}{low:016x}" for high, low in zip(
        cards._ids.high[persons].tolist(), cards._ids.low[persons].tolist(), strict=True,
    )]
    assert len(ids) == len(set(ids))
    assert rows.tolist() == cards._blocks.row_of[persons].tolist()
    own = query.viewer_id.replace("-", "")
    return {user_id: distance for user_id, distance in zip(ids, distances.tolist(), strict=True) if user_id != own}


@settings(max_examples=80, deadline=None)
@given(worlds(), st.data())
def test_every_change_is_in_the_next_answer(world: tuple[list[Person], list], data: st.DataObject) -> None:  # type: ignore[type-arg]
    rows, events = world
    cards = Cards(Baseline())
    cards.load(page(rows))
    population = {person.user_id: person for person in rows}
    viewer = replace(data.draw(people(901)), place=data.draw(places()), roles=data.draw(st.sampled_from([ROLES, ROLES[:1], ROLES[1:]])))
    for payload, version in [(None, 0), *events]:
        if payload is not None:
            cards.apply(event(payload), version)
            person = population.get(payload.user_id)
            population[payload.user_id] = changed(person or Person(payload.user_id), payload, version)
        # Another radius now and then: a part of what is gathered, or more than it.
        asked = replace(viewer, max_distance_km=data.draw(st.sampled_from([viewer.max_distance_km, 5, 500])))
        query = question(asked, set(), 50)
        wanted = {user_id.replace("-", ""): away for user_id, away in expected(population, asked, query).items()}
        got = found(cards, query)
        assert set(got) == set(wanted)
        assert all(abs(got[user_id] - away) < 1e-3 for user_id, away in wanted.items())
        for _ in range(2):  # everybody there is: the second answer repeats the first
            ids = cards.shortlist(query, NOW).ids.hex()
            assert {ids[at : at + 32] for at in range(0, len(ids), 32)} == set(wanted)


@pytest.mark.parametrize("changes", [1, CHANGES_KEPT, 2 * CHANGES_KEPT + 1, 3 * CHANGES_KEPT])
def test_after_any_number_of_changes_nobody_is_missing_or_stale(changes: int) -> None:
    crowd = [typical(number) for number in range(600)]
    cards = Cards(Baseline())
    cards.load(page(crowd))
    query = question(VIEWER, set(), 50)
    assert len(found(cards, query)) == 600
    for number in range(changes):
        hidden = PreferencesChanged(user_id=user(number % 600), discoverable=number % 2 == 1)
        cards.apply(event(hidden), 100 + number)
    last = {number % 600: number % 2 == 1 for number in range(changes)}
    shown = {user(number).replace("-", "") for number in range(600) if last.get(number, True)}
    assert set(found(cards, query)) == shown


def test_somebody_new_moved_or_erased_is_known_at_once() -> None:
    cards = Cards(Baseline())
    cards.load(page([typical(number) for number in range(30)]))
    query = question(VIEWER, set(), 50)
    assert len(found(cards, query)) == 30
    lat, lng, cell = snap(48.95, 2.3)
    cards.apply(event(UserCreated(user_id=user(77), role="sugar_baby", display_name="x", birth_date="1995-05-05")), 0)
    assert len(found(cards, query)) == 30
    cards.apply(event(LocationChanged(user_id=user(77), latitude=lat, longitude=lng, cell=cell)), 100)
    assert len(found(cards, query)) == 31
    far = snap(40.0, -74.0)
    cards.apply(event(LocationChanged(user_id=user(1), latitude=far[0], longitude=far[1], cell=far[2])), 101)
    cards.apply(event(UserErased(user_id=user(2))), 102)
    cards.settle()  # rows are written anew
    assert not {user(1).replace("-", ""), user(2).replace("-", "")} & set(found(cards, query))
    assert len(found(cards, query)) == 29
    assert cards.shortlist(query, NOW + timedelta(seconds=1)).ids


def test_areas_are_forgotten_past_their_bound_and_answer_the_same() -> None:
    cards = Cards(Baseline())
    spots = [snap(48.85 + 0.2 * step, 2.35) for step in range(8)]
    cards.load(page([replace(typical(number), place=spots[number % 8]) for number in range(400)]))
    queries = [question(replace(VIEWER, place=spot), set(), 50) for spot in spots]
    whole = [found(cards, query) for query in queries]
    each = cards._areas.nbytes // len(spots)
    cards._areas = Areas(cards._blocks, cards.nearby, limit=2 * each + 8)
    for _ in range(2):
        assert [found(cards, query) for query in queries] == whole
        assert cards._areas.nbytes <= 3 * each
    assert cards._areas.gathered == 16


def test_a_deck_of_everybody_is_repeated_until_something_it_depends_on_changes() -> None:
    cards = Cards(Baseline())
    far = snap(40.0, -74.0)
    cards.load(page([typical(number) for number in range(5)] + [replace(typical(9), place=far)]))
    query = question(VIEWER, {user(4)}, 50)
    first = cards.shortlist(query, NOW)

    def repeats(query: DeckQuery, now: datetime = NOW) -> bool:
        before = cards.describe()["repeated"]
        cards.shortlist(query, now)
        return bool(cards.describe()["repeated"] > before)

    assert cards.shortlist(query, NOW + timedelta(seconds=5)) is first
    cards.apply(event(PreferencesChanged(user_id=user(9), age_min=20)), 60)  # of somebody far away
    assert repeats(query)
    def place(version: int, number: int, to: tuple[float, float, str]) -> None:
        cards.apply(event(LocationChanged(user_id=user(number), latitude=to[0], longitude=to[1], cell=to[2])), version)

    assert VIEWER.place
    for change in ("hidden", "gone", "come", "configuration", "ranker"):
        match change:
            case "hidden":
                cards.apply(event(PreferencesChanged(user_id=user(1), discoverable=False)), 61)
            case "gone":
                place(62, 2, far)
            case "come":
                place(63, 9, VIEWER.place)
            case "configuration":
                cards.configuration = 7
            case "ranker":
                cards.ranker = Baseline(distance_scale_km=10.0)
        assert not repeats(query), change
        assert repeats(query)
    assert not repeats(question(VIEWER, set(), 50)), "somebody else was seen"
    assert not repeats(question(VIEWER, {user(4)}, 50, online_recently=True))
    assert not repeats(question(VIEWER, {user(4)}, 50, online_recently=True)), "activity is not followed"
    assert not repeats(query, NOW + timedelta(minutes=2))
    assert not repeats(msgspec.structs.replace(query, size=2)), "a full deck"
    assert not repeats(msgspec.structs.replace(query, size=2))
