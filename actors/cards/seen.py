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
"""In a free place. Its own bucket is the first, where free places hold ``FREE_FIRST``, so no key equals a free place of its bucket."""
FREE_FIRST: Final = np.uint64(1)


class KeyTable:
    """Keys in buckets of 16, so that looking many up takes four numpy calls whatever the size: some 20 bytes a key.

    A bucket that is too full makes the table twice as large.
    """

    def __init__(self, keys: Keys) -> None:
        self.size = 0
        self._build(keys)

    @property
    def nbytes(self) -> int:
        return self._buckets.nbytes

    def lacks(self, keys: Keys) -> Mask:
        """Which of ``keys`` (n,) are not in the table."""
        places = (keys * MIX >> self._shift).view(np.int64)
        found = self._buckets.take(places, axis=0) == keys[:, None]
        # Sixteen truths are one complex number: comparing that takes a quarter of ``any``.
        lacking: Mask = found.view(np.complex128)[:, 0] == 0
        return lacking

    def add(self, key: np.uint64) -> None:
        place = self._place(key)
        bucket = self._buckets[place]
        if key not in bucket:
            free = np.flatnonzero(bucket == _free(place))
            if free.size:
                bucket[free[0]] = key
                self.size += 1
            else:
                self._build(np.append(self.keys(), key))

    def remove(self, key: np.uint64) -> None:
        place = self._place(key)
        bucket = self._buckets[place]
        found = np.flatnonzero(bucket == key)
        if found.size:
            bucket[found[0]] = _free(place)
            self.size -= 1

    def keys(self) -> Keys:
        """All keys, in no order."""
        taken = self._buckets != FREE
        taken[0] = self._buckets[0] != FREE_FIRST
        held: Keys = self._buckets[taken]
        return held

    def _place(self, key: np.uint64) -> int:
        return int(key) * int(MIX) % (1 << 64) >> int(self._shift)

    def _build(self, keys: Keys) -> None:
        self.size = keys.size
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
        self._buckets = np.full((1 << bits, WIDTH), FREE)
        self._buckets[0] = FREE_FIRST
        rank = np.arange(keys.size) - np.repeat(np.cumsum(counts) - counts, counts)
        self._buckets[where[order], rank] = keys[order]


def _free(place: int) -> np.uint64:
    return FREE if place else FREE_FIRST


class Sorted:
    """Sorted keys (n,) uint64 as they came: for a set that is asked once."""

    def __init__(self, keys: Keys) -> None:
        self.size = keys.size
        self._keys = keys

    def lacks(self, keys: Keys) -> Mask:
        """Which of ``keys`` (n,) are not in the set."""
        if not self.size:
            return np.ones(keys.size, dtype=np.bool_)
        places = np.searchsorted(self._keys, keys)
        np.minimum(places, self.size - 1, out=places)
        return np.asarray(self._keys[places] != keys)


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
        known = self._kept.get(query.viewer_id)
        if known is not None and known.token == query.seen_token:
            self._kept.move_to_end(query.viewer_id)
            return known.table
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
