"""Which occupied cells are how far away: a property of two cells, so it is computed once a viewer's cell."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.cards.blocks import grown
from configs.contracts.people import EARTH_RADIUS_KM, MAXIMUM_DISTANCE_KM
from recommender.candidates import distances_km

REMEMBERED_CELLS: Final = 4_000_000
"""Cells in all remembered surroundings together: 64 MB."""
RADII_KM: Final = (10, 25, 50, 100, 200, MAXIMUM_DISTANCE_KM)
"""Surroundings are remembered up to the first of these that holds the radius asked for."""
BAND_DEGREES: Final = 0.5
"""Height of a band of latitude: 55 km."""
TURN: Final = 1_000.0
"""Distance of two bands in the sort key: more than a turn of longitude."""
UNSORTED: Final = 1_024
"""New places that are looked through one by one before the bands are sorted anew (10 ms for 100,000 places)."""
MARGIN: Final = 1e-6
"""Degrees by which the box around a circle is widened: far above rounding, 0.1 m."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    radius_km: float
    seen_places: int
    places: Ints
    distances: Floats


class Nearby:
    """Places (cell centres, numbered from 0) by distance, remembered for the viewers' cells used last.

    A viewer's new cell looks only at the places in the box around its circle: bands of latitude, sorted by longitude.
    A new place is merged into what is remembered when that is used next; places never go away.
    """

    def __init__(self, remembered_cells: int = REMEMBERED_CELLS) -> None:
        self._latitudes = np.zeros(0)
        self._longitudes = np.zeros(0)
        self._places = 0
        self._limit = remembered_cells
        self._remembered: OrderedDict[tuple[float, float], _Surroundings] = OrderedDict()
        self._size = 0
        self._sorted = 0
        self._order = np.zeros(0, dtype=np.int64)
        self._keys = np.zeros(0)

    def add(self, latitude: float, longitude: float) -> None:
        """A new place, in degrees; it gets the next number. NaN: nowhere, never near."""
        number = self._places
        self._latitudes = grown(self._latitudes, number + 1)
        self._longitudes = grown(self._longitudes, number + 1)
        self._latitudes[number], self._longitudes[number] = latitude, longitude
        self._places = number + 1

    def points(self, places: NDArray[np.integer[Any]]) -> tuple[Floats, Floats]:
        """(latitudes, longitudes) of these places, each (n,)."""
        return self._latitudes[places], self._longitudes[places]

    def forget(self) -> None:
        """Forgets all surroundings; they are computed again when needed."""
        self._remembered.clear()
        self._size = 0

    def within(self, latitude: float, longitude: float, radius_km: float) -> tuple[Ints, Floats]:
        """The places at most ``radius_km`` (at most 500) from a point, nearest first, and their distances in km."""
        key = (latitude, longitude)
        found = self._remembered.get(key)
        if found is None or found.seen_places < self._places or found.radius_km < radius_km:
            found = self._surroundings(latitude, longitude, radius_km, found)
            self._remember(key, found)
        else:
            self._remembered.move_to_end(key)
        end = int(np.searchsorted(found.distances, radius_km, side="right"))
        return found.places[:end], found.distances[:end]

    def _surroundings(self, latitude: float, longitude: float, radius_km: float, known: _Surroundings | None) -> _Surroundings:
        if known is not None and (known.radius_km < radius_km or self._places - known.seen_places > UNSORTED):
            known = None
        if known is None:
            radius = float(next((radius for radius in RADII_KM if radius >= radius_km), MAXIMUM_DISTANCE_KM))
            candidates = self._in_box(latitude, longitude, radius)
        else:
            radius = known.radius_km
            candidates = np.arange(known.seen_places, self._places)
        distances = distances_km(latitude, longitude, self._latitudes[candidates], self._longitudes[candidates])
        near = distances <= radius
        places, distances = candidates[near], distances[near]
        if known is not None:
            if not places.size:
                return _Surroundings(radius, self._places, known.places, known.distances)
            places = np.concatenate((known.places, places))
            distances = np.concatenate((known.distances, distances))
        order = np.argsort(distances, kind="stable")
        return _Surroundings(radius, self._places, places[order], distances[order])

    def _in_box(self, latitude: float, longitude: float, radius_km: float) -> Ints:
        """Every place within the radius, and some more."""
        if self._places - self._sorted > UNSORTED:
            self._sort()
        angle = radius_km / EARTH_RADIUS_KM
        reach = math.degrees(angle) + MARGIN
        bands = np.arange(_band(max(latitude - reach, -90.0)), _band(min(latitude + reach, 90.0)) + 1) * TURN
        half = 180.0
        if abs(latitude) + reach < 90.0:  # otherwise a pole is inside, and with it every longitude
            half = math.degrees(math.asin(min(1.0, math.sin(angle) / math.cos(math.radians(latitude))))) + MARGIN
        west, east = longitude - half, longitude + half
        spans = [(max(west, -180.0), min(east, 180.0))]
        if west < -180.0:
            spans.append((west + 360.0, 180.0))
        if east > 180.0:
            spans.append((-180.0, east - 360.0))
        if half >= 180.0:
            spans = [(-180.0, 180.0)]
        firsts = np.concatenate([np.searchsorted(self._keys, bands + low) for low, _ in spans])
        ends = np.concatenate([np.searchsorted(self._keys, bands + high, side="right") for _, high in spans])
        counts = ends - firsts
        ahead = np.cumsum(counts) - counts
        found = self._order[np.repeat(firsts - ahead, counts) + np.arange(int(counts.sum()))]
        return np.concatenate((found, np.arange(self._sorted, self._places)))

    def _sort(self) -> None:
        latitudes, longitudes = self._latitudes[: self._places], self._longitudes[: self._places]
        keys = np.floor((latitudes + 90.0) / BAND_DEGREES) * TURN + longitudes
        self._order = np.argsort(keys, kind="stable")  # NaN, nowhere, comes last
        self._keys = keys[self._order]
        self._sorted = self._places

    def _remember(self, key: tuple[float, float], found: _Surroundings) -> None:
        old = self._remembered.pop(key, None)
        self._size += found.places.size - (old.places.size if old else 0)
        self._remembered[key] = found
        while self._size > self._limit and len(self._remembered) > 1:
            _, forgotten = self._remembered.popitem(last=False)
            self._size -= forgotten.places.size


def _band(latitude: float) -> int:
    return math.floor((latitude + 90.0) / BAND_DEGREES)
