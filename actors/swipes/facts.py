"""A compact sorted map from a person's 64-bit key to what is known of them: 12 bytes an entry."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from configs.contracts.loading import ACTION_BITS
from configs.contracts.positions import OFFSET_BITS

CODE_MASK = (1 << ACTION_BITS) - 1
_OFFSET_MASK = (1 << OFFSET_BITS + ACTION_BITS) - 1
_NARROW_LIMIT = 1 << 32
STALE = -1

INSERT_UP_TO = 4_096
"""Entries up to which a new key is moved into its place at once (a copy of 48 KB at most, some 2 µs). Past it new keys
gather in a dictionary of at most 1/64 of the map, so that a person with a million likes costs no more a like."""


class FactMap:
    """``key64`` -> ``version << 2 | action code``; of two facts under one key the one with the higher version stays.

    Facts are kept relative to their generation's start in 32 bits (offsets under 2**30), and in 64 bits from the first
    one that does not fit.
    """

    __slots__ = ("_base", "_facts", "_keys", "_recent")

    def __init__(self) -> None:
        self._keys = array("Q")
        self._facts = array("I")
        self._base = -1
        self._recent: dict[int, int] | None = None

    @classmethod
    def of(cls, keys: NDArray[np.uint64], facts: NDArray[np.uint64]) -> FactMap:
        """The map of two arrays (n,), sorted by key, each key once."""
        made = cls()
        if len(keys):
            base = int(facts.min()) & ~_OFFSET_MASK
            if int(facts.max()) - base < _NARROW_LIMIT:
                made._base = base
                made._facts = array("I", (facts - np.uint64(base)).astype(np.uint32).tobytes())
            else:
                made._base = 0
                made._facts = array("Q", np.ascontiguousarray(facts, np.uint64).tobytes())
            made._keys = array("Q", np.ascontiguousarray(keys, np.uint64).tobytes())
        return made

    def __len__(self) -> int:
        return len(self._keys) + (len(self._recent) if self._recent else 0)

    def get(self, key: int) -> int:
        """The fact under the key, 0 if there is none."""
        keys = self._keys
        place = bisect_left(keys, key)
        if place < len(keys) and keys[place] == key:
            return self._facts[place] + self._base
        return self._recent.get(key, 0) if self._recent else 0

    def put(self, key: int, fact: int) -> int:
        """Keeps the fact if its version is newer; returns the fact before (0: none) or STALE if nothing changed."""
        keys = self._keys
        place = bisect_left(keys, key)
        if place < len(keys) and keys[place] == key:
            before = self._facts[place] + self._base
            if fact >> ACTION_BITS <= before >> ACTION_BITS:
                return STALE
            self._make_room(fact)
            self._facts[place] = fact - self._base
            return before
        if self._recent:
            before = self._recent.get(key, 0)
            if before:
                if fact >> ACTION_BITS <= before >> ACTION_BITS:
                    return STALE
                self._recent[key] = fact
                return before
        if len(keys) >= INSERT_UP_TO:
            if self._recent is None:
                self._recent = {}
            self._recent[key] = fact
            if len(self._recent) > len(keys) >> 6:
                self._merge()
            return 0
        self._make_room(fact)
        keys.insert(place, key)
        self._facts.insert(place, fact - self._base)
        return 0

    def items(self) -> Iterator[tuple[int, int]]:
        """Every (key, fact), in no order."""
        base = self._base
        yield from ((key, fact + base) for key, fact in zip(self._keys, self._facts, strict=True))
        if self._recent:
            yield from self._recent.items()

    def newest(self) -> int:
        """The highest version of any fact, 0 if there is none."""
        newest = max(self._recent.values()) if self._recent else 0
        if self._facts:
            newest = max(newest, int(np.frombuffer(self._facts, f"u{self._facts.itemsize}").max()) + self._base)
        return newest >> ACTION_BITS

    def present(self) -> NDArray[np.uint64]:
        """Sorted keys whose fact is not withdrawn."""
        self._merge()
        if not self._keys:
            return np.empty(0, np.uint64)
        keys = np.frombuffer(self._keys, np.uint64)
        given: NDArray[np.bool_] = self._codes() != 0
        return keys[given]

    def holds(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """For each key (n,): whether there is a fact that is not withdrawn. O(n log size)."""
        if not self._keys:
            return np.zeros(len(keys), np.bool_)
        own = np.frombuffer(self._keys, np.uint64)
        places = np.minimum(np.searchsorted(own, keys), len(own) - 1)
        facts = np.frombuffer(self._facts, f"u{self._facts.itemsize}")[places]
        found: NDArray[np.bool_] = (own[places] == keys) & ((facts & CODE_MASK) != 0)
        if self._recent:
            recent = self._recent
            for place, key in enumerate(keys.tolist()):
                fact = recent.get(key)
                if fact is not None:
                    found[place] = fact & CODE_MASK != 0
        return found

    def nbytes(self) -> int:
        """Bytes in memory, spare room included."""
        recent = 0 if self._recent is None else sys.getsizeof(self._recent) + 72 * len(self._recent)
        return sys.getsizeof(self._keys) + sys.getsizeof(self._facts) + recent

    def _codes(self) -> NDArray[np.uint8]:
        return (np.frombuffer(self._facts, f"u{self._facts.itemsize}") & CODE_MASK).astype(np.uint8)

    def _make_room(self, fact: int) -> None:
        """Makes sure that the fact can be written relative to the base."""
        if self._base < 0:
            self._base = fact & ~_OFFSET_MASK
        if self._facts.typecode == "I" and not 0 <= fact - self._base < _NARROW_LIMIT:
            base = self._base
            self._facts = array("Q", [stored + base for stored in self._facts])
            self._base = 0

    def _merge(self) -> None:
        if not self._recent:
            return
        keys = np.concatenate([np.frombuffer(self._keys, np.uint64), np.array(list(self._recent), np.uint64)])
        base = np.uint64(self._base)
        old = np.frombuffer(self._facts, f"u{self._facts.itemsize}").astype(np.uint64) + base
        facts = np.concatenate([old, np.array(list(self._recent.values()), np.uint64)])
        order = np.argsort(keys, kind="stable")
        merged = FactMap.of(keys[order], facts[order])
        self._keys, self._facts, self._base, self._recent = merged._keys, merged._facts, merged._base, None
