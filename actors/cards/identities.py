"""Who is who: people numbered from 0 by their 128-bit ids, found through a compact hash table."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.cards.blocks import grown

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int64]

UNKNOWN: Final = -1
FIRST_BITS: Final = 4
MIX: Final = 0x9E37_79B9_7F4A_7C15
"""2**64 divided by the golden ratio, odd: spreads keys by their high product bits (Knuth, TAOCP 6.4)."""
_LOW: Final = (1 << 64) - 1


class Identities:
    """Ids in order of arrival, 16 bytes each, and an open-addressing table of at most half load: 8 to 16 bytes a person.

    A Python dictionary of 128-bit integers would take 120.
    """

    def __init__(self) -> None:
        self.high = np.zeros(0, dtype=np.uint64)
        """The upper 64 bits of each id; places from ``len(self)`` on are spare."""
        self.low = np.zeros(0, dtype=np.uint64)
        """The lower 64 bits: ``configs.contracts.ids.key64``."""
        self._count = 0
        self._bits = FIRST_BITS
        self._table = np.full(1 << FIRST_BITS, UNKNOWN, dtype=np.int32)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        return self.high.nbytes + self.low.nbytes + self._table.nbytes

    def find(self, number: int) -> int:
        """The person with this id (a 128-bit integer), or UNKNOWN."""
        high, low = number >> 64, number & _LOW
        mask, table = self._table.size - 1, self._table
        place = (low * MIX & _LOW) >> (64 - self._bits)
        while (person := table.item(place)) != UNKNOWN:
            if self.low.item(person) == low and self.high.item(person) == high:
                return person
            place = place + 1 & mask
        return UNKNOWN

    def add(self, number: int) -> int:
        """Numbers somebody who is not known yet."""
        person = self._count
        self._room_for(person + 1)
        self.high[person], self.low[person] = number >> 64, number & _LOW
        self._count = person + 1
        mask, table = self._table.size - 1, self._table
        place = ((number & _LOW) * MIX & _LOW) >> (64 - self._bits)
        while table.item(place) != UNKNOWN:
            place = place + 1 & mask
        table[place] = person
        return person

    def find_many(self, high: Keys, low: Keys) -> Numbers:
        """``find`` for columns (n,)."""
        found = np.full(low.size, UNKNOWN, dtype=np.int64)
        places = self._places(low)
        active = np.arange(low.size)
        mask = self._table.size - 1
        while active.size:
            people = self._table[places[active]]
            held = people != UNKNOWN
            active, people = active[held], people[held]
            same = (self.low[people] == low[active]) & (self.high[people] == high[active])
            found[active[same]] = people[same]
            active = active[~same]
            places[active] = places[active] + 1 & mask
        return found

    def add_many(self, high: Keys, low: Keys) -> Numbers:
        """Numbers people who are not known yet, each named once; (n,) consecutive numbers."""
        first = self._count
        people = np.arange(first, first + low.size)
        self._room_for(first + low.size)
        self.high[people], self.low[people] = high, low
        self._count = first + low.size
        self._enter(people)
        return people

    def _places(self, low: Keys) -> Numbers:
        return np.asarray((low * np.uint64(MIX)) >> np.uint64(64 - self._bits)).astype(np.int64)

    def _enter(self, people: Numbers) -> None:
        table, mask = self._table, self._table.size - 1
        places = self._places(self.low[people])
        while people.size:
            free = table[places] == UNKNOWN
            table[places[free]] = people[free]  # of several at one place the last stays, the others go on
            left = table[places] != people
            people, places = people[left], places[left] + 1 & mask

    def _room_for(self, count: int) -> None:
        self.high, self.low = grown(self.high, count), grown(self.low, count)
        if 2 * count > self._table.size:
            self._bits = max(FIRST_BITS, (2 * count - 1).bit_length())
            self._table = np.full(1 << self._bits, UNKNOWN, dtype=np.int32)
            self._enter(np.arange(self._count))


def split_ids(packed: bytes) -> tuple[Keys, Keys]:
    """(high, low) of ids that are 16 big-endian bytes each, both (n,)."""
    halves = np.frombuffer(packed, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])
