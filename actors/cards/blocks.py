"""Rows grouped by cell: the people of one cell lie side by side, so that reading an area reads a few long runs."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from recommender.candidates import VACANT

Ints = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)

FIRST_CAPACITY: Final = 4
COMPACT_PAST_ROWS: Final = 4_096
CHANGES_KEPT: Final = 256
"""Changes that are remembered one by one at least; twice as many at most."""


class Blocks:
    """Columns of rows in one block a group; groups are numbered from 0 in the order of ``add_group``.

    ``words`` uint64 and ``flags`` uint16 (``recommender.candidates``), ``active_s`` uint32 Unix seconds, ``people``
    int32. Places that hold nobody are flagged VACANT. A row's number is valid until the next ``insert``, ``remove`` or
    ``compact``; ``row_of`` (by person) always holds the present one.

    Inserting costs O(1) amortised: a full block moves to the end with twice the room, and when holes outweigh the
    blocks everything is written anew in the order of the groups' keys.
    """

    def __init__(self) -> None:
        self.words = np.zeros(0, dtype=np.uint64)
        self.flags = np.zeros(0, dtype=np.uint16)
        self.active_s = np.zeros(0, dtype=np.uint32)
        self.people = np.zeros(0, dtype=np.int32)
        self.starts = np.zeros(0, dtype=np.int64)
        self.counts = np.zeros(0, dtype=np.int64)
        self.capacities = np.zeros(0, dtype=np.int64)
        self.row_of = np.zeros(0, dtype=np.int64)
        self.group_of = np.zeros(0, dtype=np.int32)
        self.groups = 0
        self.keys = np.zeros(0, dtype=np.uint64)
        self.changes = 0
        """How often somebody's word, flags or group may have changed."""
        self._changed: list[int] = []
        """Who, in the last changes."""
        self._used = 0
        self._holes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, spare places included."""
        columns = (self.words, self.flags, self.active_s, self.people, self.starts, self.counts, self.capacities,
                   self.keys, self.row_of, self.group_of)
        return sum(column.nbytes for column in columns)

    def add_group(self, key: int) -> int:
        """A new, empty group; returns its number. Groups with near keys are written near each other by ``compact``."""
        group = self.groups
        self.groups = group + 1
        self.starts = grown(self.starts, self.groups)
        self.counts = grown(self.counts, self.groups)
        self.capacities = grown(self.capacities, self.groups)
        self.keys = grown(self.keys, self.groups)
        self.keys[group] = key
        return group

    def touch(self, person: int) -> None:
        """To be called when a person's word, flags or group change, by who changes them."""
        self.changes += 1
        self._changed.append(person)
        if len(self._changed) > 2 * CHANGES_KEPT:
            del self._changed[:CHANGES_KEPT]

    def changed_since(self, changes: int) -> Ints | None:
        """Who may have changed since ``self.changes`` was that, each once; None: more than are remembered."""
        count = self.changes - changes
        if count > len(self._changed):
            return None
        return np.array(list(set(self._changed[len(self._changed) - count :])), dtype=np.int64)

    def insert(self, person: int, group: int, word: int, flags: int, active_s: int) -> int:
        """Puts one person at the end of a group; returns the row."""
        self._people_up_to(person + 1)
        self._reserve(group, 1)
        row = int(self.starts[group] + self.counts[group])
        self.counts[group] += 1
        self.words[row] = word
        self.flags[row] = flags
        self.active_s[row] = active_s
        self.people[row] = person
        self.row_of[person] = row
        self.group_of[person] = group
        return row

    def insert_many(self, people: Ints, groups: Ints, words: NDArray[np.uint64], flags: NDArray[np.uint16],
                    active_s: NDArray[np.uint32]) -> None:
        """``insert`` for columns, all (n,)."""
        if not people.size:
            return
        self.changes += people.size
        self._changed.clear()
        self._people_up_to(int(people.max()) + 1)
        wanted, which, extra = np.unique(groups, return_inverse=True, return_counts=True)
        for group, count in zip(wanted.tolist(), extra.tolist(), strict=True):
            self._reserve(group, count)
        order = np.argsort(which, kind="stable")
        rank = np.empty(people.size, dtype=np.int64)
        rank[order] = np.arange(people.size) - np.repeat(np.cumsum(extra) - extra, extra)
        rows = self.starts[groups] + self.counts[groups] + rank
        self.counts[wanted] += extra
        self.words[rows] = words
        self.flags[rows] = flags
        self.active_s[rows] = active_s
        self.people[rows] = people
        self.row_of[people] = rows
        self.group_of[people] = groups

    def move(self, person: int, group: int) -> None:
        """Puts a person from their block into another one."""
        row = int(self.row_of[person])
        word, flags, active_s = int(self.words[row]), int(self.flags[row]), int(self.active_s[row])
        self._remove(person)
        self.insert(person, group, word, flags, active_s)

    def _remove(self, person: int) -> None:
        row, group = int(self.row_of[person]), int(self.group_of[person])
        last = int(self.starts[group] + self.counts[group]) - 1
        if row != last:
            for column in (self.words, self.flags, self.active_s, self.people):
                column[row] = column[last]
            self.row_of[self.people[row]] = row
        self.flags[last] = VACANT
        self.counts[group] -= 1

    def _people_up_to(self, people: int) -> None:
        self.row_of = grown(self.row_of, people)
        self.group_of = grown(self.group_of, people)

    def _reserve(self, group: int, extra: int) -> None:
        count, capacity = int(self.counts[group]), int(self.capacities[group])
        if count + extra <= capacity:
            return
        if self._holes > COMPACT_PAST_ROWS and 2 * self._holes > self._used:
            self.compact()
            if count + extra <= int(self.capacities[group]):
                return
            capacity = int(self.capacities[group])
        room = max(FIRST_CAPACITY, 2 * capacity, count + extra)
        start, new = int(self.starts[group]), self._used
        self._rows_up_to(new + room)
        for column in (self.words, self.flags, self.active_s, self.people):
            column[new : new + count] = column[start : start + count]
        self.flags[start : start + count] = VACANT
        self.row_of[self.people[new : new + count]] = np.arange(new, new + count)
        self.starts[group], self.capacities[group] = new, room
        self._used += room
        self._holes += capacity

    def _rows_up_to(self, rows: int) -> None:
        old = self.flags.size
        self.words = grown(self.words, rows)
        self.flags = grown(self.flags, rows)
        self.flags[old:] = VACANT
        self.active_s = grown(self.active_s, rows)
        self.people = grown(self.people, rows)

    def compact(self) -> None:
        """Writes all blocks anew, without holes and with an eighth of room each, near groups near each other.

        Copies everything: some 30 ms a million people, amortised over as many inserts.
        """
        groups = self.groups
        sequence = np.argsort(self.keys[:groups], kind="stable")
        counts = self.counts[:groups]
        room = np.where(counts > 0, counts + (counts >> 3) + 1, 0)
        starts = np.zeros(groups, dtype=np.int64)
        starts[sequence] = np.cumsum(room[sequence]) - room[sequence]
        total = int(room.sum())
        ahead = np.repeat(np.cumsum(counts) - counts, counts)
        rank = np.arange(int(counts.sum())) - ahead
        source = np.repeat(self.starts[:groups], counts) + rank
        target = np.repeat(starts, counts) + rank
        for name in ("words", "active_s", "people"):
            old = getattr(self, name)
            new = np.zeros(total, dtype=old.dtype)
            new[target] = old[source]
            setattr(self, name, new)
        flags = np.full(total, VACANT, dtype=np.uint16)
        flags[target] = self.flags[source]
        self.flags = flags
        self.row_of[self.people[target]] = target
        self.starts[:groups], self.capacities[:groups] = starts, room
        self._used, self._holes = total, 0


def grown(column: NDArray[T], size: int) -> NDArray[T]:
    """The column with at least ``size`` places, new ones zero; grows by doubling."""
    if size <= column.size:
        return column
    larger = np.zeros(max(size, 2 * column.size), dtype=column.dtype)
    larger[: column.size] = column
    return larger
