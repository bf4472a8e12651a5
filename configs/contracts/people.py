"""Codes of roles and genders, preference defaults, and the snapping of positions."""

from __future__ import annotations

import math
from datetime import date
from typing import Final, Literal

import h3

from configs.contracts.errors import PlatformError

ROLE_CODES: Final = {"sugar_baby": 0, "sugar_daddy": 1}
GENDER_CODES: Final = {None: 0, "woman": 1, "man": 2, "non_binary": 3}
"""Code 0: not stated. A mask has bit ``1 << code``; gender mask 0 means any."""
OPPOSITE: Final = {"sugar_baby": ("sugar_daddy",), "sugar_daddy": ("sugar_baby",)}

MINIMUM_AGE_YEARS: Final = 18
MAXIMUM_AGE_YEARS: Final = 120
MAXIMUM_DISTANCE_KM: Final = 500

GRID_RESOLUTION: Final = 6
"""H3 resolution of the position grid: cells about 6.5 km across."""
EARTH_RADIUS_KM: Final = 6371.0088
"""Mean radius (IUGG)."""
MINIMUM_SHOWN_KM: Final = 2

Bucket = Literal["now", "today", "week", "older"]
"""How long ago somebody was last active, as others see it."""
NOW_S: Final = 900
DAY_S: Final = 86_400
WEEK_S: Final = 7 * DAY_S


class PositionInvalid(PlatformError):
    """The coordinates are not a place on Earth."""


def snap(latitude: float, longitude: float) -> tuple[float, float, str]:
    """The centre (degrees, 5 decimals) and the name of the grid cell that holds a point.

    Raises PositionInvalid: not finite or out of range.
    """
    if not (math.isfinite(latitude) and math.isfinite(longitude)) or abs(latitude) > 90 or abs(longitude) > 180:
        raise PositionInvalid("coordinates must be finite, latitude within 90 and longitude within 180 degrees")
    cell = h3.latlng_to_cell(latitude, longitude, GRID_RESOLUTION)
    lat, lng = h3.cell_to_latlng(cell)
    return round(lat, 5), round(lng, 5), cell


def cell_number(cell: str) -> int:
    """The cell's name as an unsigned 64-bit integer."""
    return int(cell, 16)


def haversine_km(lat1: float, lng1: float, lat2: float, lng2: float) -> float:
    """Great-circle distance of two points in degrees."""
    p1, p2 = math.radians(lat1), math.radians(lat2)
    a = math.sin((p2 - p1) / 2) ** 2 + math.cos(p1) * math.cos(p2) * math.sin(math.radians(lng2 - lng1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(a)))


def shown_distance_km(distance_km: float) -> int:
    """The distance as people see it: whole kilometres, never under 2."""
    return max(MINIMUM_SHOWN_KM, round(distance_km))


def age_years(birth: date, today: date) -> int:
    """Completed years; someone born on 29 February has the birthday on 1 March in other years."""
    return today.year - birth.year - ((today.month, today.day) < (birth.month, birth.day))


def role_mask(roles: tuple[str, ...] | list[str]) -> int:
    return sum(1 << ROLE_CODES[role] for role in set(roles))


def gender_mask(genders: tuple[str, ...] | list[str]) -> int:
    return sum(1 << GENDER_CODES[gender] for gender in set(genders))


def activity_bucket(ago_s: float | None) -> Bucket:
    """How long ago, coarsely: within 15 minutes, a day, a week, or longer (also: never, None)."""
    if ago_s is None or ago_s > WEEK_S:
        return "older"
    return "now" if ago_s <= NOW_S else "today" if ago_s <= DAY_S else "week"
