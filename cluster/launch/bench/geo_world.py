"""What every side of `sugar bench geo` holds and is asked: one population, its moves, and the viewers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.cards.crowds import rows_at, snapped, world
from configs.contracts.events import LocationChanged
from configs.contracts.loading import PackedIds, PeopleRows
from recommender.candidates import distances_km

NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)
MOVES: Final = 100_000
"""Moves that are repeated as often as a side needs: everybody in them moves between two places near home."""
MOVE_DEGREES: Final = 0.05
"""Standard deviation of a move, some 5 km: mostly into a neighbouring cell."""
FIRST_VERSION: Final = 2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GeoWorld:
    """People and their moves; the same seed makes the same in every process."""

    rows: PeopleRows
    metropolis: NDArray[np.bool_]
    movers: NDArray[np.int64]
    latitudes: Floats
    longitudes: Floats
    cells: NDArray[np.uint64]

    @classmethod
    def make(cls, people: int, seed: int) -> GeoWorld:
        """``people`` of whom a tenth lives in one metropolis, and their moves (positions snapped)."""
        rng = np.random.default_rng(seed)
        latitudes, longitudes, metropolis = world(people, rng)
        rows = rows_at(latitudes, longitudes, rng, NOW)
        movers = rng.choice(people, min(MOVES, people), replace=False)
        step = rng.normal(scale=MOVE_DEGREES, size=(2, movers.size))
        moved = snapped(latitudes[movers] + step[0], (longitudes[movers] + step[1] + 540) % 360 - 180)
        # There and back again: first half of the moves to the new place, second half home.
        home = rows.latitudes[movers], rows.longitudes[movers], rows.cells[movers]
        lat, lng, cells = (np.concatenate(columns) for columns in zip(moved, home, strict=True))
        return cls(rows, metropolis, np.concatenate((movers, movers)), lat, lng, cells)

    @property
    def ids(self) -> PackedIds:
        packed = self.rows.user_ids
        assert isinstance(packed, PackedIds)
        return packed

    def payloads(self) -> list[LocationChanged]:
        """The moves as the log brings them."""
        ids = self.ids
        return [
            LocationChanged(user_id=ids[person], latitude=latitude, longitude=longitude, cell=f"{cell:x}")
            for person, latitude, longitude, cell in zip(
                self.movers.tolist(), self.latitudes.tolist(), self.longitudes.tolist(), self.cells.tolist(), strict=True
            )
        ]

    def places_after(self, moves: int) -> tuple[Floats, Floats]:
        """Everybody's position after the first ``moves`` moves (which repeat), degrees, (people,)."""
        latitudes, longitudes = self.rows.latitudes.copy(), self.rows.longitudes.copy()
        last = np.arange(max(0, moves - self.movers.size), moves) % self.movers.size
        latitudes[self.movers[last]] = self.latitudes[last]  # of several moves of one person the last one stays
        longitudes[self.movers[last]] = self.longitudes[last]
        return latitudes, longitudes

    def viewers(self, count: int, *, metropolis: bool, seed: int) -> list[tuple[float, float]]:
        """Places from which people look: those of ``count`` people, drawn from all or from the metropolis."""
        among = np.flatnonzero(self.metropolis) if metropolis else np.arange(len(self.rows.user_ids))
        chosen = np.random.default_rng(seed).choice(among, count)
        return list(zip(self.rows.latitudes[chosen].tolist(), self.rows.longitudes[chosen].tolist(), strict=True))


def same_answer(
    here: tuple[float, float], places: tuple[Floats, Floats], ours: NDArray[np.int64], theirs: NDArray[np.int64],
    radius_km: float,
) -> bool:
    """Whether two lists of nearest people (their numbers) are equally near, one by one.

    Redis rounds positions to 0.6 m and takes the Earth 0.03 % larger, so people may change places within that, and
    those at the very edge may be missing.
    """
    def away(people: NDArray[np.int64]) -> Floats:
        return np.sort(distances_km(*here, places[0][people], places[1][people]))

    one, other = away(ours), away(theirs)
    both = min(one.size, other.size)
    tolerance = 0.002 + 0.001 * radius_km
    edge = np.concatenate((one[both:], other[both:]))
    return bool(
        np.abs(one[:both] - other[:both]).max(initial=0.0) <= tolerance and (edge >= radius_km * 0.999 - 0.002).all()
    )
