"""Who is near a viewer's cell, as columns side by side: gathered once for all viewers of the cell, not once a query."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.cards.blocks import Blocks
from actors.cards.nearby import RADII_KM, Nearby
from configs.contracts.people import ROLE_CODES
from recommender import candidates
from recommender.candidates import NEVER_SHOWN, REACH_SHIFT, Viewer, distances_km
from recommender.ranking import Ids

REMEMBERED_BYTES: Final = 128 << 20
"""All areas of one actor: some 350 viewers' cells with 20,000 people around each."""

Distances = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Side:
    """The people of one role, nearest first. ``words``: the reach has lost the distance, so that it needs no further test;
    ``which``: whose distance (a place in ``_Area.distances``); ``ends``: how many there are up to each of these places."""

    people: NDArray[np.int32]
    words: NDArray[np.uint64]
    flags: NDArray[np.uint16]
    which: NDArray[np.int32]
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Area:
    """Everybody near a point who may be shown to somebody, as they were after ``changes`` changes."""

    radius_km: float
    changes: int
    distances: Distances
    sides: tuple[_Side, ...]
    nbytes: int


class Areas:
    """People around viewers' cells, kept for the cells that asked last, within ``limit`` bytes.

    The answers are those of the blocks as they are now: whoever has changed since an area was gathered is looked at anew.
    """

    def __init__(self, blocks: Blocks, nearby: Nearby, limit: int = REMEMBERED_BYTES) -> None:
        self._blocks, self._nearby = blocks, nearby
        self._limit = limit
        self._known: OrderedDict[tuple[float, float], _Area] = OrderedDict()
        self._marks = np.zeros(0, np.bool_)
        """By person, all false between two queries."""
        self.nbytes = 0
        self.gathered = 0

    def accepted(
        self, latitude: float, longitude: float, radius_km: float, viewer: Viewer, thresholds: int
    ) -> tuple[Ids, Distances]:
        """(people, distances in km) of everybody at most ``radius_km`` from the point whom both sides accept.

        ``thresholds``: ``viewer.thresholds`` of today.
        """
        area = self._area(latitude, longitude, radius_km)
        near = int(np.searchsorted(area.distances, radius_km, side="right"))
        least, forbidden = np.uint64(thresholds), viewer.forbidden()
        people: list[NDArray[Any]] = []
        distances: list[Distances] = []
        for role in viewer.roles:
            side = area.sides[ROLE_CODES[role]]
            end = int(side.ends[near])
            places = candidates.eligible(side.words[:end], side.flags[:end], least, forbidden)
            people.append(side.people[places])
            distances.append(area.distances[side.which[places]])
        if len(people) != 1:
            people, distances = [np.concatenate([*people, _NOBODY])], [np.concatenate([*distances, _NOWHERE])]
        if area.changes == self._blocks.changes:
            return people[0], distances[0]
        return self._with_changed(area, people[0], distances[0], (latitude, longitude, radius_km), least, forbidden)

    def _with_changed(
        self, area: _Area, people: Ids, distances: Distances, circle: tuple[float, float, float], least: np.uint64, forbidden: int
    ) -> tuple[Ids, Distances]:
        """The same with those who have changed since then as they are now, last."""
        blocks = self._blocks
        changed = blocks.changed_since(area.changes)
        assert changed is not None
        if self._marks.size < blocks.row_of.size:
            self._marks = np.zeros(blocks.row_of.size, np.bool_)
        self._marks[changed] = True
        same = ~self._marks[people]
        self._marks[changed] = False
        latitude, longitude, radius_km = circle
        away = distances_km(latitude, longitude, *self._nearby.points(blocks.group_of[changed]))
        near = away <= radius_km  # not where somebody is nowhere: NaN
        changed, away = changed[near], away[near]
        rows = blocks.row_of[changed]
        words = blocks.words[rows] - (np.ceil(away).astype(np.uint64) << REACH_SHIFT)
        places = candidates.eligible(words, blocks.flags[rows], least, forbidden)
        return np.concatenate((people[same], changed[places])), np.concatenate((distances[same], away[places]))

    def _area(self, latitude: float, longitude: float, radius_km: float) -> _Area:
        key = (latitude, longitude)
        known = self._known.get(key)
        if known is not None and radius_km <= known.radius_km and self._blocks.changed_since(known.changes) is not None:
            self._known.move_to_end(key)
            return known
        if known is not None:
            del self._known[key]
            self.nbytes -= known.nbytes
        radius = next((float(radius) for radius in RADII_KM if radius >= radius_km), radius_km)
        area = self._known[key] = self._gathered(latitude, longitude, max(radius, known.radius_km if known else 0.0))
        self.nbytes += area.nbytes
        while self.nbytes > self._limit and len(self._known) > 1:
            _, forgotten = self._known.popitem(last=False)
            self.nbytes -= forgotten.nbytes
        return area

    def _gathered(self, latitude: float, longitude: float, radius_km: float) -> _Area:
        blocks = self._blocks
        self.gathered += 1
        groups, distances = self._nearby.within(latitude, longitude, radius_km)
        counts = blocks.counts[groups]
        ends = np.cumsum(counts)
        which = np.repeat(np.arange(groups.size), counts)
        rows = (blocks.starts[groups] - (ends - counts))[which]
        rows += np.arange(rows.size)
        words, flags, people = blocks.words[rows], blocks.flags[rows], blocks.people[rows]
        words -= (np.ceil(distances).astype(np.uint64) << REACH_SHIFT)[which]
        sides = []
        for role in range(len(ROLE_CODES)):
            kept = np.flatnonzero(flags & np.uint16(NEVER_SHOWN | candidates.role_flag(role)) == candidates.role_flag(role))
            sides.append(_Side(
                people[kept], words[kept], flags[kept], which[kept].astype(np.int32),
                np.searchsorted(kept, np.append(0, ends)),
            ))
        size = sum(column.nbytes for side in sides for column in (side.people, side.words, side.flags, side.which, side.ends))
        return _Area(radius_km, blocks.changes, distances, tuple(sides), size + distances.nbytes)


_NOBODY: Final = np.zeros(0, np.int32)
_NOWHERE: Final = np.zeros(0, np.float64)
