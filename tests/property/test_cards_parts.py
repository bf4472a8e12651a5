"""The parts of a card shard's index agree with dictionaries, sets and haversine over everything."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cards_exact import ANCHORS, NOW, page, typical

from actors.cards.commands import DeckQuery, NearestQuery, SeenUnknown
from actors.cards.early import Early
from actors.cards.identities import UNKNOWN, Identities, split_ids
from actors.cards.nearby import UNSORTED, Nearby
from actors.cards.seen import KeyTable, SeenSets
from actors.cards.state import Cards
from actors.swipes.person import CHANGES_REMEMBERED, TOLD_WHOLE, Person
from configs.contracts.events import LocationChanged, Swiped, SwipeUndone
from configs.contracts.ids import derived_id, key64, new_id
from configs.contracts.loading import UNKNOWN_ROLE, PackedIds
from configs.contracts.people import haversine_km, snap
from recommender import candidates
from recommender.baseline import Baseline

# Few distinct low halves, so that places in the table and whole keys collide.
numbers = st.builds(lambda high, low: high << 64 | low, st.integers(0, 3), st.sampled_from([0, 1, 2, 2**63, 2**64 - 1]))


@given(st.lists(st.lists(numbers | st.integers(0, 2**128 - 1), max_size=30), max_size=6))
def test_everybody_is_found_under_the_number_given_first(batches: list[list[int]]) -> None:
    ids, known = Identities(), {}
    for position, batch in enumerate(batches):
        high, low = split_ids(b"".join(number.to_bytes(16, "big") for number in batch))
        assert ids.find_many(high, low).tolist() == [known.get(number, UNKNOWN) for number in batch]
        fresh = [number for number in dict.fromkeys(batch) if number not in known]
        if position % 2:
            high, low = split_ids(b"".join(number.to_bytes(16, "big") for number in fresh))
            given_numbers = ids.add_many(high, low).tolist()
        else:
            given_numbers = [ids.add(number) for number in fresh]
        known.update(zip(fresh, given_numbers, strict=True))
    assert sorted(known.values()) == list(range(len(ids)))
    for number, person in known.items():
        assert ids.find(number) == person


def test_packed_ids_are_a_sequence_of_texts() -> None:
    texts = [new_id() for _ in range(5)]
    packed = PackedIds.of(texts)
    assert list(packed) == texts
    assert (packed[-1], packed[1:3], len(packed)) == (texts[-1], texts[1:3], 5)
    assert PackedIds.of(packed) is packed
    with pytest.raises(IndexError):
        packed[5]


@given(st.lists(st.tuples(st.sampled_from([0, 1, UNKNOWN_ROLE]), st.integers(0, 3), st.integers(0, 3), st.integers(0, 15),
                          st.booleans(), st.booleans()), max_size=20))
def test_flags_of_columns_are_those_of_each_person(people: list[tuple[Any, ...]]) -> None:
    columns = [np.array([person[place] for person in people], kind) for place, kind in enumerate([np.uint8] * 4 + [np.bool_] * 2)]
    packed = candidates.pack_many_flags(
        *columns[:4], unknown_role=UNKNOWN_ROLE, discoverable=columns[4], verified=columns[5]
    )
    assert packed.tolist() == [
        candidates.pack_flags(None if role == UNKNOWN_ROLE else role, gender, roles, genders, discoverable=shown, verified=verified)
        for role, gender, roles, genders, shown, verified in people
    ]


latitudes = st.floats(-90, 90) | st.sampled_from([90.0, -90.0, 89.999, -89.9, 0.0])
longitudes = st.floats(-180, 180) | st.sampled_from([180.0, -180.0, 179.99, -179.99, 0.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), latitudes, longitudes, st.lists(st.floats(1, 500), min_size=1, max_size=4), st.booleans())
def test_places_within_a_radius_are_those_of_haversine(
    seed: int, latitude: float, longitude: float, radii: list[float], crowded: bool
) -> None:
    """Poles and the antimeridian included, places added between queries, more than are searched one by one."""
    rng, nearby = np.random.default_rng(seed), Nearby()
    places: list[tuple[float, float]] = []
    for radius in radii:
        for _ in range(UNSORTED + 200 if crowded and len(places) < 3_000 else 40):
            spread = float(rng.choice([0.05, 1.0, 6.0, 400.0]))
            lat = float(np.clip(latitude + spread * rng.normal(), -90, 90))
            lng = float((longitude + spread * rng.normal() + 540) % 360 - 180)
            places.append((lat, lng))
            nearby.add(lat, lng)
        nearby.add(float("nan"), float("nan"))
        places.append((float("nan"), float("nan")))
        found, distances = nearby.within(latitude, longitude, radius)
        wanted = {
            place: distance for place, point in enumerate(places)
            if (distance := haversine_km(latitude, longitude, *point)) <= radius
        }
        assert set(found.tolist()) ^ set(wanted) <= {
            place for place in range(len(places)) if abs(haversine_km(latitude, longitude, *places[place]) - radius) < 1e-9
        }
        assert (np.diff(distances) >= 0).all()
        for place, distance in zip(found.tolist(), distances.tolist(), strict=True):
            assert distance == pytest.approx(wanted.get(place, radius), abs=1e-6)


def query(viewer_id: str, **fields: Any) -> DeckQuery:
    return DeckQuery(viewer_id=viewer_id, latitude=0, longitude=0, birth_date="1990-01-01", role="sugar_baby", gender=None,
                     age_min=18, age_max=99, max_distance_km=50, roles=(), **fields)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=12))
def test_what_two_replicas_tell_of_seen_people_is_what_the_shard_knows(seed: int, steps: list[tuple[int, int]]) -> None:
    """Swipes, undos and ends between queries; replicas that fell behind; an actor that forgot; another life of the shard."""
    chance = np.random.default_rng(seed)
    viewer, sets = new_id(), SeenSets()
    everybody = [derived_id("seen", str(number)) for number in range(4_000)]
    keys = np.array([key64(user_id) for user_id in everybody], np.uint64)
    person, version, seen = Person(), 0, set()
    person.load(None)

    def act(user_id: str, undo: bool) -> None:
        nonlocal version
        version += 1
        payload: Any = (
            SwipeUndone(swiper_id=viewer, swiped_id=user_id, undone_action="pass") if undo
            else Swiped(swiper_id=viewer, swiped_id=user_id, action="pass")
        )
        person.swiped(payload, NOW, version)
        (seen.discard if undo else seen.add)(user_id)

    for user_id in everybody[: TOLD_WHOLE + 500]:
        act(user_id, undo=False)
    told = [0, 0]
    for kind, count in [(0, 10), *steps, (0, 3), (0, 3)]:
        for number in chance.integers(0, len(everybody), count).tolist():
            act(everybody[number], undo=bool(chance.integers(0, 3) == 0))
        if kind == 2:
            sets = SeenSets()
        if kind == 3:
            sets.of(query(new_id(), seen=keys.tobytes(), seen_token=5 << 32))
        replica = kind % 2
        for since in (told[replica], 0):
            answer = person.seen_set(since)
            try:
                excluded = sets.of(query(
                    viewer, seen=answer.keys, seen_gone=answer.gone, seen_token=answer.token, seen_base=answer.base
                ))
            except SeenUnknown:
                assert since
                continue
            told[replica] = answer.token
            break
        assert excluded.lacks(keys).tolist() == [user_id not in seen for user_id in everybody]
        if answer.base:
            assert len(answer.keys) + len(answer.gone) <= 8 * CHANGES_REMEMBERED


def test_sets_of_seen_people_stay_within_their_bound() -> None:
    sets = SeenSets(limit=400_000)
    whole = np.arange(5_000, dtype="<u8").tobytes()
    for number in range(10):
        sets.of(query(f"viewer {number}", seen=whole, seen_token=number + 1 << 32))
        assert sets.nbytes <= 400_000
    with pytest.raises(SeenUnknown):
        sets.of(query("viewer 0", seen_token=1 << 32 | 1, seen_base=1 << 32))
    assert sets.of(query("viewer 9", seen_token=10 << 32 | 1, seen_base=10 << 32)).lacks(np.array([7, 6_000], np.uint64)).tolist() == [False, True]


few_keys = st.integers(0, 40) | st.integers(0, 2**64 - 1)
"""Also the values that mark free places."""


@settings(max_examples=100, deadline=None)
@given(st.sets(few_keys, max_size=60), st.lists(st.tuples(st.booleans(), few_keys), max_size=60))
def test_a_table_of_keys_is_a_set(first: set[int], steps: list[tuple[bool, int]]) -> None:
    table, held = KeyTable(np.array(sorted(first), np.uint64)), set(first)
    for adding, key in steps:
        (table.add if adding else table.remove)(np.uint64(key))
        (held.add if adding else held.discard)(key)
    asked = [*range(41), *first, *(key for _, key in steps)]
    assert table.lacks(np.array(asked, np.uint64)).tolist() == [key not in held for key in asked]
    assert sorted(table.keys().tolist()) == sorted(held)
    assert table.size == len(held)


def moved(number: int) -> LocationChanged:
    return LocationChanged(user_id=str(number), latitude=0, longitude=0, cell="")


async def test_changes_are_taken_in_at_their_place_in_the_log() -> None:
    taken: list[int] = []
    early = Early({0: 5}, lambda offset, _: taken.append(offset))
    assert await early.note(0, 5, moved(5))
    later = asyncio.ensure_future(early.note(0, 8, moved(8)))
    again = asyncio.ensure_future(early.note(0, 8, moved(8)))
    await asyncio.sleep(0)
    assert taken == [5]
    early.read(0, 8)  # the log brought 6 and 7, which nobody noted
    assert (await later, await again, taken) == (True, True, [5, 8])
    assert await early.note(0, 6, moved(6)), "long taken in"
    assert taken == [5, 8]


async def test_a_change_whose_predecessors_never_come_is_left_to_the_log() -> None:
    taken: list[int] = []
    early = Early({0: 5}, lambda offset, _: taken.append(offset))
    assert not await early.note(0, 7, moved(7))
    early.read(0, 8)
    assert taken == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 120), st.floats(1, 500), st.integers(0, 60))
def test_the_nearest_people_are_the_nearest_of_all(seed: int, population: int, radius: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    anchor = ANCHORS[int(rng.integers(len(ANCHORS)))]
    spread = float(rng.choice([0.05, 0.5, 4.0]))
    around = [
        replace(typical(number), place=snap(
            float(np.clip(anchor[0] + spread * rng.normal(), -90, 90)), float((anchor[1] + spread * rng.normal() + 540) % 360 - 180)
        ))
        for number in range(population)
    ]
    cards = Cards(Baseline())
    cards.load(page(around))
    here = snap(*anchor)
    found = cards.nearest(NearestQuery(*anchor, radius, count))
    distances = np.frombuffer(found.distances_km, "<f4").tolist()
    everybody = {person.user_id: haversine_km(*here[:2], *person.place[:2]) for person in around if person.place}
    wanted = sorted(distance for distance in everybody.values() if distance <= radius)[:count]
    assert distances == pytest.approx(wanted, abs=1e-3)
    named = list(PackedIds(found.ids))
    assert len(set(named)) == len(named)
    assert [everybody[user_id] for user_id in named] == pytest.approx(distances, abs=1e-3)
