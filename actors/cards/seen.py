"""Whom a viewer must not be shown, kept between their queries when they are many."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.cards.commands import DeckQuery, SeenUnknown

Keys = NDArray[np.uint64]
Mask = NDArray[np.bool_]

REMEMBERED_BYTES: Final = 256 << 20
"""All kept sets of one actor: some 250 viewers with 50,000 people each."""
WIDTH: Final = 16
"""Keys a bucket holds: two cache lines. With half of the places taken one bucket in 4,000 is too full."""
TAKEN_MOST: Final = 0.4
TOKEN_BITS: Final = 32
MIX: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
"""See ``identities.MIX``."""
FREE: Final = np.uint64(0)


class KeyTable:
    """Keys in buckets of 16, so that looking many up takes four numpy calls whatever the size: some 20 bytes a key.

    A bucket that is too full makes the table twice as large.
    """

    def __init__(self, keys: Keys) -> None:
        self.size = 0
        self._zero = False
        """Whether the key 0 is in, which marks a free place."""
        self._build(keys)

    @property
    def nbytes(self) -> int:
        return self._buckets.nbytes

    def holds(self, keys: Keys) -> Mask:
        """Which of ``keys`` (n,) are in the table."""
        places = (keys * MIX >> self._shift).view(np.int64)
        # Sixteen truths are two words: looking at those takes a third of ``any``.
        found = (self._buckets.take(places, axis=0) == keys[:, None]).view(np.uint64)
        held: Mask = (found[:, 0] | found[:, 1]) != 0
        if not self._zero:
            held &= keys != FREE
        return held

    def add(self, key: np.uint64) -> None:
        bucket = self._bucket(key)
        if key == FREE:
            self.size += not self._zero
            self._zero = True
        elif key not in bucket:
            free = np.flatnonzero(bucket == FREE)
            if free.size:
                bucket[free[0]] = key
                self.size += 1
            else:
                self._build(np.append(self.keys(), key))

    def remove(self, key: np.uint64) -> None:
        if key == FREE:
            self.size -= self._zero
            self._zero = False
            return
        bucket = self._bucket(key)
        place = np.flatnonzero(bucket == key)
        if place.size:
            bucket[place[0]] = FREE
            self.size -= 1

    def keys(self) -> Keys:
        """All keys, in no order."""
        taken = self._buckets[self._buckets != FREE]
        return np.append(taken, FREE) if self._zero else taken

    def _bucket(self, key: np.uint64) -> Keys:
        bucket: Keys = self._buckets[int(key) * int(MIX) % (1 << 64) >> int(self._shift)]
        return bucket

    def _build(self, keys: Keys) -> None:
        self.size = keys.size
        self._zero = bool((keys == FREE).any())
        keys = keys[keys != FREE]
        bits = max(1, int(np.ceil(np.log2(max(1, keys.size) / (WIDTH * TAKEN_MOST)))))
        while True:
            self._shift = np.uint64(64 - bits)
            # Sixteen bits are sorted by radix, several times as fast.
            where = (keys * MIX >> self._shift).astype(np.uint16 if bits <= 16 else np.int64)
            order = np.argsort(where, kind="stable")
            counts = np.bincount(where, minlength=1 << bits)
            if counts.max(initial=0) <= WIDTH:
                break
            bits += 1
        self._buckets = np.zeros((1 << bits, WIDTH), dtype=np.uint64)
        rank = np.arange(keys.size) - np.repeat(np.cumsum(counts) - counts, counts)
        self._buckets[where[order], rank] = keys[order]


class Sorted:
    """Sorted keys (n,) uint64 as they came: for a set that is asked once."""

    def __init__(self, keys: Keys) -> None:
        self.size = keys.size
        self._keys = keys

    def holds(self, keys: Keys) -> Mask:
        """Which of ``keys`` (n,) are in the set."""
        if not self.size:
            return np.zeros(keys.size, dtype=np.bool_)
        places = np.searchsorted(self._keys, keys)
        np.minimum(places, self.size - 1, out=places)
        return np.asarray(self._keys[places] == keys)


class _Kept:
    """A viewer's set at one token."""

    def __init__(self, token: int, keys: Keys) -> None:
        self.token = token
        self.table = KeyTable(keys)

    def change(self, token: int, added: Keys, gone: Keys) -> None:
        """Takes in the present state of some keys."""
        self.token = token
        for key in added:
            self.table.add(key)
        for key in gone:
            self.table.remove(key)


class SeenSets:
    """The sets of the viewers who asked last, within ``limit`` bytes."""

    def __init__(self, limit: int = REMEMBERED_BYTES) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.nbytes = 0

    def of(self, query: DeckQuery) -> KeyTable | Sorted:
        """The viewer's set as the query tells it, whole or as changes of a set that is kept here.

        A kept set that is newer than the query stays as it is. Raises SeenUnknown: the query names changes of a set
        that is not kept here; ask again with the whole.
        """
        keys = np.frombuffer(query.seen, dtype="<u8")
        if not query.seen_token:
            return Sorted(keys)
        known = self._kept.pop(query.viewer_id, None)
        if known is not None:
            self.nbytes -= known.table.nbytes
            if known.token >> TOKEN_BITS != query.seen_token >> TOKEN_BITS:
                known = None
        if known is None or known.token < query.seen_base:
            if query.seen_base:
                raise SeenUnknown("the set that changed is not kept here")
            known = _Kept(query.seen_token, keys)
        elif known.token < query.seen_token:
            if query.seen_base:
                known.change(query.seen_token, keys, np.frombuffer(query.seen_gone, dtype="<u8"))
            else:
                known = _Kept(query.seen_token, keys)
        self._kept[query.viewer_id] = known
        self.nbytes += known.table.nbytes
        while self.nbytes > self._limit and len(self._kept) > 1:
            _, forgotten = self._kept.popitem(last=False)
            self.nbytes -= forgotten.table.nbytes
        return known.table
