"""Card shards answer exactly what checking every pair of people by the rules would answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.cards.client import merged
from actors.cards.commands import ONLINE_RECENTLY_S, DeckQuery
from actors.cards.narrowing import LEARNED_FROM
from actors.cards.seen import SeenSets
from actors.cards.state import Cards
from configs.contracts.events import (
    Event,
    LocationChanged,
    PreferencesChanged,
    ProfileChanged,
    UserBlocked,
    UserCreated,
    WasActive,
)
from configs.contracts.ids import derived_id, key64
from configs.contracts.loading import UNKNOWN_ROLE, PeopleRows
from configs.contracts.people import (
    GENDER_CODES,
    OPPOSITE,
    ROLE_CODES,
    age_years,
    cell_number,
    gender_mask,
    haversine_km,
    role_mask,
    snap,
)
from configs.contracts.positions import version_text
from recommender import candidates
from recommender.baseline import Baseline

NOW = datetime(2026, 2, 28, 12, tzinfo=UTC)
ROLES = tuple(ROLE_CODES)
GENDERS = tuple(GENDER_CODES)
ANCHORS = ((0.0, 179.99), (0.0, -179.99), (89.95, 20.0), (-89.9, 130.0), (-16.5, 180.0), (48.85, 2.35))


@dataclass(frozen=True)
class Person:
    """What the oracle knows: plain fields, no packing."""

    user_id: str
    role: str | None = None
    birth: date = date(1970, 1, 1)
    gender: str | None = None
    place: tuple[float, float, str] | None = None
    age_min: int = 18
    age_max: int = 99
    max_distance_km: int = 50
    roles: tuple[str, ...] | None = None
    genders: tuple[str, ...] = ()
    discoverable: bool = True
    verified: bool = False
    active_s: int = 0
    version: int = 0
    match_version: int = 0


def user(number: int) -> str:
    return derived_id("cards", str(number))


@st.composite
def places(draw: st.DrawFn) -> tuple[float, float, str]:
    """Mostly around one anchor, so that people meet."""
    lat, lng = ANCHORS[0] if draw(st.integers(0, 3)) else draw(st.sampled_from(ANCHORS))
    spread = draw(st.sampled_from([0.0, 0.05, 0.5, 4.0]))
    lat = min(90.0, max(-90.0, lat + spread * draw(st.floats(-1, 1))))
    lng = (lng + spread * draw(st.floats(-1, 1)) + 540) % 360 - 180
    return snap(lat, lng)


births = st.dates(date(1926, 1, 1), date(2008, 2, 28))
role_lists = st.lists(st.sampled_from(ROLES), min_size=1, max_size=2, unique=True).map(tuple)
gender_lists = st.lists(st.sampled_from(GENDERS[1:]), max_size=3, unique=True).map(tuple)
ages = st.integers(18, 99)
reaches = st.sampled_from([500, 200, 50, 10, 1])
seconds = st.integers(0, 40 * 86_400).map(lambda ago: int(NOW.timestamp()) - ago) | st.just(0)


@st.composite
def people(draw: st.DrawFn, number: int) -> Person:
    low, high = sorted((draw(ages), draw(ages))) if draw(st.integers(0, 3)) == 0 else (18, 99)
    genders = draw(gender_lists) if draw(st.integers(0, 3)) == 0 else ()
    return Person(
        user(number), draw(st.sampled_from(ROLES)), draw(births), draw(st.sampled_from(GENDERS)),
        draw(places() | st.none()), low, high, draw(reaches), draw(role_lists | st.none()), genders,
        draw(st.integers(0, 9)) > 0, draw(st.booleans()), draw(seconds), draw(st.integers(0, 50)),
    )


def page(population: list[Person]) -> PeopleRows:
    def column(values: list[Any], kind: Any) -> Any:
        return np.array(values, dtype=kind)

    def accepted(person: Person) -> int:
        if person.roles:
            return role_mask(person.roles)
        return role_mask(OPPOSITE[person.role]) if person.role else 0

    return PeopleRows(
        user_ids=[p.user_id for p in population],
        latitudes=column([p.place[0] if p.place else np.nan for p in population], np.float64),
        longitudes=column([p.place[1] if p.place else np.nan for p in population], np.float64),
        cells=column([cell_number(p.place[2]) if p.place else 0 for p in population], np.uint64),
        birth_days=column([candidates.day_number(p.birth) for p in population], np.int32),
        roles=column([ROLE_CODES[p.role] if p.role else UNKNOWN_ROLE for p in population], np.uint8),
        genders=column([GENDER_CODES[p.gender] for p in population], np.uint8),
        age_min=column([p.age_min for p in population], np.uint8),
        age_max=column([p.age_max for p in population], np.uint8),
        max_distance_km=column([p.max_distance_km for p in population], np.uint16),
        role_masks=column([accepted(p) for p in population], np.uint8),
        gender_masks=column([gender_mask(p.genders) for p in population], np.uint8),
        discoverable=column([p.discoverable for p in population], np.bool_),
        verified=column([p.verified for p in population], np.bool_),
        last_active_s=column([p.active_s for p in population], np.int64),
        versions=column([p.version for p in population], np.uint64),
        match_versions=column([p.match_version for p in population], np.uint64),
    )


def changed(person: Person, payload: Any, version: int) -> Person:
    """The oracle's own reading of an event."""
    if isinstance(payload, UserCreated):
        if person.role is None:
            return replace(person, role=payload.role, birth=date.fromisoformat(payload.birth_date))
        return person
    if version <= person.version or isinstance(payload, UserBlocked):
        return person
    fields: dict[str, Any] = {"version": version}
    if isinstance(payload, LocationChanged):
        fields |= {"place": (payload.latitude, payload.longitude, payload.cell), "match_version": version}
    elif isinstance(payload, WasActive):
        fields["active_s"] = max(person.active_s, int(payload.active_at.timestamp()))
    elif isinstance(payload, ProfileChanged):
        if payload.gender:
            fields |= {"gender": payload.gender, "match_version": version}
    else:
        for name in ("age_min", "age_max", "max_distance_km", "roles", "genders", "discoverable"):
            if (value := getattr(payload, name)) is not None:
                fields |= {name: value, "match_version": version}
    return replace(person, **fields)


@st.composite
def payloads(draw: st.DrawFn, user_id: str) -> Any:
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return UserCreated(user_id=user_id, role=draw(st.sampled_from(ROLES)), display_name="x", birth_date=draw(births).isoformat())
    if kind == 1:  # moving about is what shards could confuse most
        lat, lng, cell = draw(places())
        return LocationChanged(user_id=user_id, latitude=lat, longitude=lng, cell=cell)
    if kind == 2:
        return ProfileChanged(user_id=user_id, bio="b", gender=draw(st.sampled_from(GENDERS)))
    if kind == 3:
        return WasActive(user_id=user_id, active_at=datetime.fromtimestamp(draw(seconds), UTC))
    if kind == 4:
        return UserBlocked(user_id=user_id, blocked_id=user(0))
    return PreferencesChanged(
        user_id=user_id, age_min=draw(ages | st.none()), age_max=draw(ages | st.none()),
        max_distance_km=draw(reaches | st.none()), roles=draw(role_lists | st.none()),
        genders=draw(gender_lists | st.none()), hide_distance=draw(st.booleans() | st.none()),
        discoverable=draw(st.booleans() | st.none()),
    )


def accepts(one: Person, other: Person, distance: float) -> bool:
    """Whether ``one``'s preferences accept ``other``."""
    assert one.role
    assert other.role
    return (
        one.age_min <= age_years(other.birth, NOW.date()) <= one.age_max
        and distance <= one.max_distance_km
        and other.role in (one.roles or OPPOSITE[one.role])
        and (not one.genders or other.gender in one.genders)
    )


def expected(population: dict[str, Person], viewer: Person, query: DeckQuery) -> dict[str, float]:
    """Everybody who may be shown, with their distance."""
    seen = set(np.frombuffer(query.seen, "<u8").tolist())
    found = {}
    assert viewer.place
    for person in population.values():
        if person.place is None or person.role is None or person.user_id == viewer.user_id or not person.discoverable:
            continue
        distance = haversine_km(*viewer.place[:2], *person.place[:2])
        if not (accepts(viewer, person, distance) and accepts(person, viewer, distance)):
            continue
        if query.verified_only and not person.verified:
            continue
        if query.online_recently and person.active_s < int(NOW.timestamp()) - ONLINE_RECENTLY_S:
            continue
        if key64(person.user_id) in seen:
            continue
        found[person.user_id] = distance
    return found


def question(viewer: Person, seen: set[str], size: int, **filters: bool) -> DeckQuery:
    assert viewer.place
    assert viewer.role
    return DeckQuery(
        viewer_id=viewer.user_id, latitude=viewer.place[0], longitude=viewer.place[1],
        birth_date=viewer.birth.isoformat(), role=viewer.role, gender=viewer.gender,  # type: ignore[arg-type]
        age_min=viewer.age_min, age_max=viewer.age_max, max_distance_km=viewer.max_distance_km,
        roles=viewer.roles or OPPOSITE[viewer.role], genders=viewer.genders,  # type: ignore[arg-type]
        seen=np.array(sorted(map(key64, seen)), "<u8").tobytes(), size=size, **filters,
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Person], list[tuple[Any, int]]]:
    population = [draw(people(number)) for number in range(draw(st.integers(0, 14)))]
    events = []
    for version in range(51, 51 + draw(st.integers(0, 25))):
        payload = draw(payloads(user(draw(st.integers(0, 9)))))
        events.append((payload, 0 if isinstance(payload, UserCreated) else version))
    return population, events


def event(payload: Any) -> Event:
    return Event("e", NOW, payload.user_id, payload)


@settings(max_examples=120, deadline=None)
@given(worlds(), st.data())
def test_decks_equal_brute_force(world: tuple[list[Person], list[tuple[Any, int]]], data: st.DataObject) -> None:
    rows, events = world
    actors = data.draw(st.integers(1, 3))
    shards = [Cards(Baseline(), slot, actors) for slot in range(actors)]
    population = {person.user_id: person for person in rows}
    cut = data.draw(st.integers(0, len(rows)))
    early = question(replace(data.draw(people(901)), place=data.draw(places())), set(), 50)
    for cards in shards:
        cards.load(page(rows[:cut]))
        cards.load(page(rows[cut:]))
        cards.settle()
        cards.shortlist(early, NOW)  # what is remembered of a cell must follow what comes later
        for payload, version in events:
            cards.apply(event(payload), version)
        first, last = sorted((data.draw(st.integers(0, len(events))), data.draw(st.integers(0, len(events)))))
        for payload, version in events[first:last]:  # late and repeated
            cards.apply(event(payload), version)
    for payload, version in events:
        person = population.get(payload.user_id)
        if person is None and isinstance(payload, UserBlocked):
            continue
        population[payload.user_id] = changed(person or Person(payload.user_id), payload, version)

    viewers = [person for person in population.values() if person.place and person.role] or [
        replace(data.draw(people(900)), place=data.draw(places()))
    ]
    viewer = data.draw(st.sampled_from(viewers))
    seen = data.draw(st.sets(st.sampled_from([*population, user(999)])))
    size = data.draw(st.sampled_from([1, 3, 50]))
    query = question(viewer, seen, size, verified_only=data.draw(st.booleans()), online_recently=data.draw(st.booleans()))

    shares = [cards.shortlist(query, NOW) for cards in shards]
    assert len({share.ids[i : i + 16] for share in shares for i in range(0, len(share.ids), 16)}) == sum(
        len(share.ids) // 16 for share in shares
    ), "each person is one actor's"
    deck = merged(shares, size)
    wanted = expected(population, viewer, query)
    got = [entry.user_id for entry in deck.entries]
    assert len(got) == len(set(got)) == min(size, len(wanted))
    assert set(got) <= set(wanted)
    for entry in deck.entries:
        assert abs(entry.distance_km - wanted[entry.user_id]) < 1e-3
        assert entry.match_version == version_text(population[entry.user_id].match_version)
    scores = {user_id: score(population[user_id], viewer, distance) for user_id, distance in wanted.items()}
    highest = sorted(scores.values(), reverse=True)[:size]
    assert np.allclose([entry.score for entry in deck.entries], highest, rtol=0, atol=2e-3)
    assert np.allclose([entry.score for entry in deck.entries], [scores[user_id] for user_id in got], rtol=0, atol=2e-3)


def score(person: Person, viewer: Person, distance: float) -> float:
    """The baseline as its docstring states it, in double precision."""
    def fit(birth: date, low: int, high: int) -> float:
        age = (NOW.timestamp() / 86_400 - candidates.day_number(birth)) / 365.2425
        x = (age - (low + high + 1) / 2) / ((high + 1 - low) / 2)
        return -x * x / 2

    idle = max(0.0, (NOW.timestamp() - person.active_s) / 86_400)
    return float(
        -distance / 40
        + max(-np.log(2) * idle / 7, np.log(1 / 64))
        + fit(person.birth, viewer.age_min, viewer.age_max)
        + fit(viewer.birth, person.age_min, person.age_max)
    )


def typical(number: int, role: str = "sugar_baby") -> Person:
    return Person(user(number), role, date(1995, 5, 5), "woman", snap(48.85, 2.35), active_s=int(NOW.timestamp()) - number)


def shown(population: list[Person], query: DeckQuery) -> list[str]:
    cards = Cards(Baseline())
    cards.load(page(population))
    return [entry.user_id for entry in merged([cards.shortlist(query, NOW)], query.size).entries]


VIEWER = replace(typical(10_000, "sugar_daddy"), gender="man")


def test_nobody_at_all_gives_an_empty_deck() -> None:
    assert shown([], question(VIEWER, set(), 50)) == []


def test_the_only_person_is_shown_and_never_to_themselves() -> None:
    only = typical(1)
    assert shown([only], question(VIEWER, set(), 50)) == [only.user_id]
    same = replace(VIEWER, roles=ROLES)
    assert shown([same], question(same, set(), 50)) == []


def test_everybody_at_one_point_comes_by_recency_without_repeats() -> None:
    crowd = [typical(number) for number in range(300)]
    assert shown(crowd, question(VIEWER, set(), 50)) == [user(number) for number in range(50)]


def test_when_everybody_was_seen_the_deck_is_empty() -> None:
    crowd = [typical(number) for number in range(5_000)]
    ids = {person.user_id for person in crowd}
    assert shown(crowd, question(VIEWER, ids, 50)) == []
    assert shown(crowd, question(VIEWER, ids - {user(7)}, 50)) == [user(7)]
    few = crowd[:200]
    assert shown(few, question(VIEWER, {p.user_id for p in few} - {user(9)}, 50)) == [user(9)]


CROWD = [typical(number) for number in range(1, 1_201)]


@cache
def crowded(scored: int) -> Cards:
    """A crowd in which recency decides, asked often enough for its first stage to be learned: it guesses the order exactly."""
    cards = Cards(Baseline(), scored=scored)
    cards.load(page(CROWD))
    for _ in range(LEARNED_FROM + 1):
        cards.shortlist(question(VIEWER, set(), 50), NOW)
    return cards


@settings(max_examples=80, deadline=None)
@given(
    scored=st.sampled_from([200, 600, 2_000]), size=st.sampled_from([1, 20, 100]), best=st.integers(0, 1_200),
    share=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), seed=st.integers(0, 2**32 - 1), kept=st.booleans(),
)
def test_people_taken_out_late_leave_the_deck_of_taking_them_out_first(
    scored: int, size: int, best: int, share: float, seed: int, kept: bool
) -> None:
    """A share of the ``best`` people was seen: of few, of many, of all; from the cap's first people to everybody."""
    chance = np.random.default_rng(seed)
    seen = {person.user_id for person in CROWD[:best] if chance.random() < share}
    query = question(VIEWER, seen, size)
    if kept:
        crowded(scored).seen = SeenSets()
        query = msgspec.structs.replace(query, seen_token=1 << 32)
    deck = merged([crowded(scored).shortlist(query, NOW)], size)
    assert [entry.user_id for entry in deck.entries] == [p.user_id for p in CROWD if p.user_id not in seen][:size]


def test_the_candidate_s_own_radius_is_exact_to_the_fraction_of_a_kilometre() -> None:
    there = snap(49.0, 2.6)
    distance = haversine_km(*VIEWER.place[:2], *there[:2])  # type: ignore[index]
    assert distance % 1 > 0.05
    for reach, found in ((int(distance), []), (int(distance) + 1, [user(1)])):
        person = replace(typical(1), place=there, max_distance_km=reach)
        assert shown([person], question(VIEWER, set(), 50)) == found
        assert shown([typical(1)], question(replace(VIEWER, place=there, max_distance_km=reach), set(), 50)) == found


def test_a_late_older_change_brings_nobody_back_and_overwrites_nothing() -> None:
    cards = Cards(Baseline())
    cards.load(page([typical(1)]))
    here, far = VIEWER.place, snap(40.0, -74.0)
    assert here
    changes = [
        LocationChanged(user_id=user(1), latitude=place[0], longitude=place[1], cell=place[2]) for place in (here, far)
    ] + [PreferencesChanged(user_id=user(1), discoverable=shown) for shown in (True, False)]
    query, away = question(VIEWER, set(), 50), question(replace(VIEWER, place=far), set(), 50)
    for version, payload in zip((5, 6), changes[:2], strict=True):
        cards.apply(event(payload), version)
    cards.apply(event(changes[0]), 5)
    assert not cards.shortlist(query, NOW).ids
    assert np.frombuffer(cards.shortlist(away, NOW).match_versions, "<u8").tolist() == [6]
    for version, payload in zip((7, 8), changes[2:], strict=True):
        cards.apply(event(payload), version)
    cards.apply(event(changes[2]), 7)
    assert not cards.shortlist(away, NOW).ids


def test_a_cell_that_becomes_occupied_is_found_by_viewers_asked_before() -> None:
    cards = Cards(Baseline())
    query = question(VIEWER, set(), 50)
    cards.load(page([replace(typical(1), place=None)]))
    assert not cards.shortlist(query, NOW).ids
    cards.load(page([typical(2)]))
    assert len(cards.shortlist(query, NOW).ids) == 16
    lat, lng, cell = snap(48.95, 2.3)
    cards.apply(event(LocationChanged(user_id=user(1), latitude=lat, longitude=lng, cell=cell)), 5)
    assert len(cards.shortlist(query, NOW).ids) == 32


def test_a_birthday_opens_and_closes_the_age_range_on_its_day() -> None:
    cards = Cards(Baseline())
    cards.load(page([replace(typical(1), birth=date(2000, 6, 15))]))
    query = question(replace(VIEWER, age_min=26, age_max=26), set(), 50)
    day_before, day = datetime(2026, 6, 14, 23, tzinfo=UTC), datetime(2026, 6, 15, 1, tzinfo=UTC)
    assert not cards.shortlist(query, day_before).ids
    assert cards.shortlist(query, day).ids
    assert cards.shortlist(query, day + timedelta(days=364)).ids
    assert not cards.shortlist(query, day + timedelta(days=365)).ids
