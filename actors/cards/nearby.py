"""Which occupied cells are how far away: a property of two cells, so it is computed once a viewer's cell."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.cards.blocks import grown
from configs.contracts.people import MAXIMUM_DISTANCE_KM
from recommender.candidates import distances_km

REMEMBERED_CELLS: Final = 4_000_000
"""Cells in all remembered surroundings together: 64 MB."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    seen_places: int
    places: Ints
    distances: Floats


class Nearby:
    """Places (cell centres, numbered from 0) by distance, remembered for the viewers' cells used last.

    A new place is merged into what is remembered when that is used next; places never go away.
    """

    def __init__(self, remembered_cells: int = REMEMBERED_CELLS) -> None:
        self._latitudes = np.zeros(0)
        self._longitudes = np.zeros(0)
        self._places = 0
        self._limit = remembered_cells
        self._remembered: OrderedDict[tuple[float, float], _Surroundings] = OrderedDict()
        self._size = 0

    def add(self, latitude: float, longitude: float) -> None:
        """A new place, in degrees; it gets the next number. NaN: nowhere, never near."""
        number = self._places
        self._latitudes = grown(self._latitudes, number + 1)
        self._longitudes = grown(self._longitudes, number + 1)
        self._latitudes[number], self._longitudes[number] = latitude, longitude
        self._places = number + 1

    def forget(self) -> None:
        """Forgets all surroundings; they are computed again when needed."""
        self._remembered.clear()
        self._size = 0

    def within(self, latitude: float, longitude: float, radius_km: float) -> tuple[Ints, Floats]:
        """The places at most ``radius_km`` (at most 500) from a point, nearest first, and their distances in km."""
        key = (latitude, longitude)
        found = self._remembered.get(key)
        if found is None or found.seen_places < self._places:
            found = self._extended(latitude, longitude, found)
            self._remember(key, found)
        else:
            self._remembered.move_to_end(key)
        end = int(np.searchsorted(found.distances, radius_km, side="right"))
        return found.places[:end], found.distances[:end]

    def _extended(self, latitude: float, longitude: float, found: _Surroundings | None) -> _Surroundings:
        first = found.seen_places if found else 0
        distances = distances_km(
            latitude, longitude, self._latitudes[first : self._places], self._longitudes[first : self._places]
        )
        near = np.flatnonzero(distances <= MAXIMUM_DISTANCE_KM)
        places, distances = near + first, distances[near]
        if found is not None:
            if not near.size:
                return _Surroundings(self._places, found.places, found.distances)
            places = np.concatenate((found.places, places))
            distances = np.concatenate((found.distances, distances))
        order = np.argsort(distances, kind="stable")
        return _Surroundings(self._places, places[order], distances[order])

    def _remember(self, key: tuple[float, float], found: _Surroundings) -> None:
        old = self._remembered.pop(key, None)
        self._size += found.places.size - (old.places.size if old else 0)
        self._remembered[key] = found
        while self._size > self._limit and len(self._remembered) > 1:
            _, forgotten = self._remembered.popitem(last=False)
            self._size -= forgotten.places.size
