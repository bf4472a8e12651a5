"""Positions, ages and distances: what others may learn of a person's place, and who is an adult."""

from __future__ import annotations

import math
from datetime import date, timedelta

import h3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.contracts.people import (
    GENDER_CODES,
    GRID_RESOLUTION,
    OPPOSITE,
    ROLE_CODES,
    PositionInvalid,
    age_years,
    cell_number,
    gender_mask,
    haversine_km,
    role_mask,
    shown_distance_km,
    snap,
)

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)
DATES = st.dates(date(1900, 1, 1), date(2030, 12, 31))


@given(LATITUDES, LONGITUDES)
def test_a_snapped_position_is_the_centre_of_the_points_cell(latitude: float, longitude: float) -> None:
    lat, lng, cell = snap(latitude, longitude)
    assert h3.get_resolution(cell) == GRID_RESOLUTION
    assert cell == h3.latlng_to_cell(latitude, longitude, GRID_RESOLUTION)
    assert haversine_km(lat, lng, *h3.cell_to_latlng(cell)) < 0.002
    assert (round(lat, 5), round(lng, 5)) == (lat, lng)
    assert f"{cell_number(cell):x}" == cell


@given(LATITUDES, LONGITUDES)
def test_snapping_a_snapped_position_changes_nothing(latitude: float, longitude: float) -> None:
    """A value that was snapped by a client or an earlier request stays in its cell."""
    lat, lng, cell = snap(latitude, longitude)
    assert snap(lat, lng) == (lat, lng, cell)


@given(LATITUDES, LONGITUDES, st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=8))
def test_moving_inside_a_cell_changes_nothing(latitude: float, longitude: float, moves: list[tuple[float, int]]) -> None:
    """Otherwise answers to queries from chosen points would give a position away to the metre."""
    lat, lng, cell = snap(latitude, longitude)
    corners = h3.cell_to_boundary(cell)
    for share, corner in moves:
        corner_lat, corner_lng = corners[corner % len(corners)]
        east = (corner_lng - lng + 180) % 360 - 180
        moved = lat + 0.95 * share * (corner_lat - lat), (lng + 0.95 * share * east + 180) % 360 - 180
        if h3.latlng_to_cell(*moved, GRID_RESOLUTION) == cell:
            assert snap(*moved) == (lat, lng, cell)


def test_cells_are_wide_enough_to_hide_in() -> None:
    """SPEC: at least 2 km across. The inner radius is what an attacker is left with."""
    for latitude, longitude in ((52.52, 13.405), (0.0, 0.0), (-33.87, 151.21), (64.15, -21.94), (40.71, -74.0)):
        lat, lng, cell = snap(latitude, longitude)
        corners = h3.cell_to_boundary(cell)
        assert len({snap(lat + 0.9 * (a - lat), lng + 0.9 * (b - lng)) for a, b in corners}) == 1
        assert 2 * min(haversine_km(lat, lng, *corner) for corner in corners) * math.cos(math.pi / 6) > 4


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (math.nan, 0.0), (0.0, math.nan), (math.inf, 0.0), (0.0, -math.inf),
        (90.0001, 0.0), (-90.0001, 0.0), (0.0, 180.0001), (0.0, -180.0001),
    ],
)
def test_what_is_no_place_on_earth_is_refused(latitude: float, longitude: float) -> None:
    with pytest.raises(PositionInvalid) as caught:
        snap(latitude, longitude)
    assert str(latitude) not in str(caught.value), "positions are in no error text"
    assert caught.value.details == {}


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_distances_are_those_of_a_sphere(lat1: float, lng1: float, lat2: float, lng2: float) -> None:
    distance = haversine_km(lat1, lng1, lat2, lng2)
    assert math.isclose(distance, haversine_km(lat2, lng2, lat1, lng1), abs_tol=1e-6)
    assert 0 <= distance <= math.pi * 6371.0088 + 1e-6
    assert math.isclose(distance, h3.great_circle_distance((lat1, lng1), (lat2, lng2), unit="km"), rel_tol=1e-5, abs_tol=0.05)


@given(st.floats(0, 20_100))
def test_shown_distances_are_whole_kilometres_from_two(distance_km: float) -> None:
    shown = shown_distance_km(distance_km)
    assert isinstance(shown, int)
    assert shown == 2 if distance_km < 2 else abs(shown - distance_km) <= 0.5


@given(DATES, DATES)
def test_an_age_grows_by_one_on_each_birthday(birth: date, today: date) -> None:
    age = age_years(birth, today)
    assert age_years(birth, today + timedelta(days=1)) - age in {0, 1}
    anniversary = birth.replace(day=28) if (birth.month, birth.day) == (2, 29) else birth
    if today >= birth:
        assert anniversary.replace(year=birth.year + age) <= today
        assert age_years(birth, today.replace(month=12, day=31)) == today.year - birth.year


@pytest.mark.parametrize(
    ("birth", "today", "age"),
    [
        (date(2008, 3, 2), date(2026, 3, 1), 17),
        (date(2008, 3, 1), date(2026, 3, 1), 18),
        (date(2008, 2, 29), date(2026, 2, 28), 17),
        (date(2008, 2, 29), date(2026, 3, 1), 18),
        (date(2008, 2, 29), date(2028, 2, 29), 20),
    ],
)
def test_adults_are_adults_from_their_birthday_on(birth: date, today: date, age: int) -> None:
    assert age_years(birth, today) == age


def test_masks_have_one_bit_a_code() -> None:
    assert role_mask(["sugar_baby"]) == 1
    assert role_mask(["sugar_daddy", "sugar_baby", "sugar_daddy"]) == 3
    assert gender_mask([]) == 0, "any"
    assert gender_mask(["woman", "non_binary"]) == 0b1010
    assert {role_mask(OPPOSITE[role]) for role in ROLE_CODES} == {1, 2}
    assert len(set(GENDER_CODES.values())) == len(GENDER_CODES)
