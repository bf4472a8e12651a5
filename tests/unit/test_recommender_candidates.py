"""Both sides' filters agree with plain comparisons, at every edge."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from configs.contracts.people import age_years, haversine_km
from recommender import candidates
from recommender.candidates import Viewer

TODAYS = [date(2026, 3, 1), date(2026, 2, 28), date(2024, 2, 29), date(2024, 3, 1), date(2026, 12, 31), date(2027, 1, 1)]


@pytest.mark.parametrize("today", TODAYS)
@pytest.mark.parametrize("age", [18, 19, 26, 34, 99, 120])
def test_latest_birth_is_the_day_on_which_the_age_is_reached(today: date, age: int) -> None:
    last = candidates.latest_birth(today, age)
    assert age_years(last, today) >= age
    assert age_years(last + timedelta(days=1), today) < age


@pytest.mark.parametrize("today", TODAYS)
def test_age_ranges_of_both_sides_are_inclusive(today: date) -> None:
    births = [candidates.latest_birth(today, age) + timedelta(days=shift) for age in range(17, 60) for shift in (-1, 0, 1)]
    words = np.array([candidates.pack_word(candidates.day_number(birth), 30, 35, 500) for birth in births], np.uint64)
    flags = np.full(words.size, candidates.pack_flags(0, 1, 0, 0, discoverable=True, verified=False), np.uint16)
    for viewer_age in (29, 30, 35, 36):
        viewer = Viewer(candidates.latest_birth(today, viewer_age), "sugar_daddy", "man", 21, 44, ("sugar_baby",))
        thresholds = np.full(words.size, viewer.thresholds(today), np.uint64)
        found = candidates.eligible(words, flags, thresholds, viewer.forbidden()).tolist()
        expected = [
            i for i, birth in enumerate(births) if 21 <= age_years(birth, today) <= 44 and 30 <= viewer_age <= 35
        ]
        assert found == expected


def test_one_failing_field_never_lets_its_neighbours_pass_or_fail() -> None:
    """A borrow that crossed a guard bit would change the field above it."""
    today = date(2026, 6, 1)
    day = candidates.day_number(date(1996, 1, 1))
    base = {"age_min": 25, "age_max": 40, "max_distance_km": 60}
    viewer = Viewer(date(1993, 1, 1), "sugar_daddy", None, 20, 40, ("sugar_baby",))
    flags = np.array([candidates.pack_flags(0, 0, 0, 0, discoverable=True, verified=True)], np.uint16)
    for change, passes in (
        ({}, True), ({"age_min": 33}, True), ({"age_min": 34}, False), ({"age_max": 33}, True), ({"age_max": 32}, False),
        ({"max_distance_km": 50}, True), ({"max_distance_km": 49}, False), ({"max_distance_km": 0}, False),
    ):
        word = np.array([candidates.pack_word(day, **(base | change))], np.uint64)
        thresholds = np.array([viewer.thresholds(today)], np.uint64) + (np.uint64(50) << candidates.REACH_SHIFT)
        assert bool(candidates.eligible(word, flags, thresholds, viewer.forbidden()).size) is passes, change


@pytest.mark.parametrize("role", [0, 1])
@pytest.mark.parametrize("gender", [0, 1, 2, 3])
@pytest.mark.parametrize("roles", [0, 1, 2, 3])
def test_flags_say_what_was_packed_whatever_the_order_of_learning_it(role: int, gender: int, roles: int) -> None:
    """user_created may come after the updates; the result must not depend on that."""
    whole = candidates.pack_flags(role, gender, roles, 6, discoverable=True, verified=True)
    late = candidates.pack_flags(None, 0, 0, 0, discoverable=True, verified=True)
    late = candidates.with_roles_accepted(late, roles)
    late = candidates.with_genders_accepted(candidates.with_gender(late, gender), 6)
    assert late & candidates.INCOMPLETE
    assert candidates.with_role(late, role) == whole
    early = candidates.with_role(candidates.pack_flags(None, gender, 0, 6, discoverable=True, verified=True), role)
    assert candidates.with_roles_accepted(early, roles) == whole


def test_values_out_of_range_move_to_the_ends_and_harm_no_neighbour() -> None:
    word = candidates.pack_word(10**9, -5, 10**6, 10**6)
    assert candidates.unpack_word(word) == (candidates.DAY_MOST - candidates.DAY_BIAS, 0, 127, 511)
    assert word & int(candidates.GUARDS) == int(candidates.GUARDS)


def test_columns_are_packed_like_single_people() -> None:
    rng = np.random.default_rng(3)
    n = 500
    days = rng.integers(-30_000, 20_000, n).astype(np.int32)
    youngest, oldest = rng.integers(0, 200, n).astype(np.uint8), rng.integers(0, 200, n).astype(np.uint8)
    reach = rng.integers(0, 900, n).astype(np.uint16)
    words = candidates.pack_words(days, youngest, oldest, reach)
    assert words.tolist() == [
        candidates.pack_word(*map(int, row)) for row in zip(days, youngest, oldest, reach, strict=True)
    ]
    assert (candidates.birth_days_of(words) == days).all()


def test_distances_equal_the_contract_s_formula() -> None:
    rng = np.random.default_rng(4)
    lats, lngs = rng.uniform(-90, 90, 300), rng.uniform(-180, 180, 300)
    for lat, lng in ((0, 180), (0, -180), (90, 13), (-89.99, 0), (48.85, 2.35)):
        expected = [haversine_km(lat, lng, a, b) for a, b in zip(lats.tolist(), lngs.tolist(), strict=True)]
        assert np.allclose(candidates.distances_km(lat, lng, lats, lngs), expected, rtol=0, atol=1e-6)


def test_excluded_keys_are_found_at_both_ends() -> None:
    keys = np.array([0, 1, 5, 9, 2**64 - 1], np.uint64)
    excluded = np.array([0, 5, 2**64 - 1], np.uint64)
    assert candidates.without(keys, excluded).tolist() == [False, True, False, True, False]
    assert candidates.without(keys, excluded[:0]).all()
