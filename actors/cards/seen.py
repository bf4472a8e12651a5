"""Whom a viewer must not be shown, kept between their queries when they are many."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.cards.commands import DeckQuery, SeenUnknown

Keys = NDArray[np.uint64]
Mask = NDArray[np.bool_]

REMEMBERED_BYTES: Final = 128 << 20
"""All kept sets of one actor: some 200 viewers with 50,000 people each."""
TABLE_PAST: Final = 1_024
"""Keys past which a bit table is worth its making; up to it the search touches one page."""
BITS_A_KEY: Final = 16
"""One in sixteen of the other people passes the table and is searched for."""
MERGE_PAST: Final = 1_024
"""Changed keys past which they are merged into the sorted ones."""
TOKEN_BITS: Final = 32
_NONE: Final = np.zeros(0, dtype=np.uint64)
_SEVEN: Final = np.uint64(7)
_THREE: Final = np.uint64(3)


class KeySet:
    """Keys sorted (n,) uint64, with a table of one bit a hash in front: 8 bytes and 2 to 4 a key.

    ``table`` False: for a set that is asked once, whose table would cost more than it saves.
    """

    def __init__(self, keys: Keys, *, table: bool = True) -> None:
        self._keys = keys
        self._table: NDArray[np.uint8] | None = None
        if table and keys.size > TABLE_PAST:
            size = 1 << (BITS_A_KEY * keys.size - 1).bit_length()
            self._mask = np.uint64(size - 1)
            bits = np.zeros(size, dtype=np.bool_)
            bits[keys & self._mask] = True
            self._table = np.packbits(bits, bitorder="little")

    @property
    def keys(self) -> Keys:
        return self._keys

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + (0 if self._table is None else self._table.nbytes)

    def holds(self, keys: Keys) -> Mask:
        """Which of ``keys`` (n,) are in the set."""
        if self._table is None:
            return _found(self._keys, keys)
        places = keys & self._mask
        maybe = self._table[places >> _THREE] >> (places & _SEVEN).astype(np.uint8) & np.uint8(1)
        passed = np.flatnonzero(maybe)
        held = np.zeros(keys.size, dtype=np.bool_)
        held[passed] = _found(self._keys, keys[passed])
        return held


class Excluded:
    """A viewer's set at one token: a base, and what changed since."""

    def __init__(self, token: int, keys: Keys, *, kept: bool) -> None:
        self.token = token
        self._base = KeySet(keys, table=kept)
        self._added = self._gone = _NONE

    @property
    def nbytes(self) -> int:
        return self._base.nbytes + self._added.nbytes + self._gone.nbytes

    @property
    def empty(self) -> bool:
        return not (self._base.keys.size or self._added.size)

    def change(self, token: int, added: Keys, gone: Keys) -> None:
        """Takes in the present state of some keys. ``added`` and ``gone`` are sorted."""
        self.token = token
        self._added = np.union1d(_without(self._added, gone), added)
        self._gone = np.union1d(_without(self._gone, added), gone)
        if self._added.size + self._gone.size > MERGE_PAST:
            self._base = KeySet(np.union1d(_without(self._base.keys, self._gone), self._added))
            self._added = self._gone = _NONE

    def holds(self, keys: Keys) -> Mask:
        held = self._base.holds(keys)
        if self._gone.size:
            held &= ~_found(self._gone, keys)
        if self._added.size:
            held |= _found(self._added, keys)
        return held


class SeenSets:
    """The sets of the viewers who asked last, within ``limit`` bytes."""

    def __init__(self, limit: int = REMEMBERED_BYTES) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, Excluded] = OrderedDict()
        self.nbytes = 0

    def of(self, query: DeckQuery) -> Excluded:
        """The viewer's set as the query tells it, whole or as changes of a set that is kept here.

        A kept set that is newer than the query stays as it is. Raises SeenUnknown: the query names changes of a set
        that is not kept here; ask again with the whole.
        """
        keys = np.frombuffer(query.seen, dtype="<u8")
        if not query.seen_token:
            return Excluded(0, keys, kept=False)
        known = self._kept.pop(query.viewer_id, None)
        if known is not None:
            self.nbytes -= known.nbytes
            if known.token >> TOKEN_BITS != query.seen_token >> TOKEN_BITS:
                known = None
        if known is None or known.token < query.seen_base:
            if query.seen_base:
                raise SeenUnknown("the set that changed is not kept here")
            known = Excluded(query.seen_token, keys, kept=True)
        elif known.token < query.seen_token:
            if query.seen_base:
                known.change(query.seen_token, keys, np.frombuffer(query.seen_gone, dtype="<u8"))
            else:
                known = Excluded(query.seen_token, keys, kept=True)
        self._kept[query.viewer_id] = known
        self.nbytes += known.nbytes
        while self.nbytes > self._limit and len(self._kept) > 1:
            _, forgotten = self._kept.popitem(last=False)
            self.nbytes -= forgotten.nbytes
        return known


def _found(among: Keys, keys: Keys) -> Mask:
    if not among.size:
        return np.zeros(keys.size, dtype=np.bool_)
    places = np.searchsorted(among, keys)
    np.minimum(places, among.size - 1, out=places)
    return np.asarray(among[places] == keys)


def _without(keys: Keys, gone: Keys) -> Keys:
    return keys[~_found(gone, keys)]
