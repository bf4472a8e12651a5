"""Block lists of perceptual hashes: in memory as arrays, searched whole for each media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from configs.contracts.albums import MediaRow
from writers import columns
from writers.connections import Connection
from writers.sinks.media import read_media_row

CSAM: Final = "csam"
"""The child-abuse list: what matches is preserved and goes past the ordinary queue."""
NEAR_BITS: Final = 31
"""PDQ's own advice: up to so many of 256 bits, two hashes are of one picture."""
HASH_BYTES: Final = 32

STATE: Final = "SELECT count(*), max(added_at) FROM media_hashes"
ALL: Final = "SELECT hash, list FROM media_hashes ORDER BY list = %s DESC, list"
ADD: Final = """
INSERT INTO media_hashes (hash, list, source, added_at) SELECT hash, %s, %s, now() FROM unnest(%s) AS batch (hash)
ON CONFLICT DO NOTHING
"""

COUNTS: Final = """
SELECT list, count(*), (SELECT count(*) FROM media WHERE matched = list) FROM media_hashes GROUP BY list ORDER BY list
"""
MATCHED: Final = "SELECT facts::text FROM media WHERE matched = %s ORDER BY created_at DESC LIMIT %s"


@dataclass(frozen=True, slots=True)
class Match:
    """The listed hash that is nearest; the child-abuse list comes before nearer ones of others."""

    name: str
    distance: int


@dataclass(frozen=True, slots=True)
class BlockLists:
    """``hashes`` (n, 4) uint64 and the index of each one's list in ``names``; the child-abuse list first."""

    hashes: NDArray[np.uint64]
    lists: NDArray[np.int64]
    names: tuple[str, ...]

    def match(self, asked: Sequence[str]) -> Match | None:
        """The first list that holds one of the hashes (hex), or one like it."""
        if not asked or not len(self.hashes):
            return None
        wanted = np.frombuffer(bytes.fromhex("".join(asked)), np.uint64).reshape(-1, 4)
        nearest = np.full(len(self.hashes), 256, np.int64)
        for vector in wanted:
            np.minimum(nearest, np.bitwise_count(self.hashes ^ vector).sum(axis=1, dtype=np.int64), out=nearest)
        near = nearest <= NEAR_BITS
        if not near.any():
            return None
        first = self.lists[near].min()
        distance = int(nearest[near & (self.lists == first)].min())
        return Match(self.names[first], distance)


EMPTY: Final = BlockLists(np.zeros((0, 4), np.uint64), np.zeros(0, np.int64), ())


class KeptLists:
    """The lists as the rows have them, read again when they have changed. Belongs to one thread."""

    def __init__(self) -> None:
        self._state: tuple[int, datetime | None] | None = None
        self.lists = EMPTY

    def fresh(self, conn: Connection) -> BlockLists:
        """The lists now."""
        row = conn.execute(STATE).fetchone()
        assert row is not None
        if self._state != (row[0], row[1]):
            self.lists = loaded(conn)
            self._state = (row[0], row[1])
        return self.lists


def loaded(conn: Connection) -> BlockLists:
    """Every list, from rows."""
    rows = conn.execute(ALL, (CSAM,)).fetchall()
    names = tuple(dict.fromkeys(name for _, name in rows))
    places = {name: place for place, name in enumerate(names)}
    return BlockLists(
        np.frombuffer(b"".join(bytes(value) for value, _ in rows), np.uint64).reshape(-1, 4),
        np.array([places[name] for _, name in rows], np.int64), names,
    )


def add(conn: Connection, name: str, source: str, hashes: Sequence[str]) -> int:
    """Puts hashes (hex) on a list; returns how many were not on it. Raises ValueError: one is not a PDQ hash."""
    values = [bytes.fromhex(text) for text in hashes]
    if any(len(value) != HASH_BYTES for value in values):
        raise ValueError("a PDQ hash has 64 hex digits")
    return conn.execute(ADD, (name, source, columns.byte_strings(values))).rowcount


def remove(conn: Connection, name: str, source: str) -> int:
    """Takes what came from a source off a list; returns how many went."""
    return conn.execute("DELETE FROM media_hashes WHERE list = %s AND source = %s", (name, source)).rowcount


def counts(conn: Connection) -> list[tuple[str, int, int]]:
    """(list, its hashes, media that were found on it)."""
    return [(name, hashes, media) for name, hashes, media in conn.execute(COUNTS).fetchall()]


def matches(conn: Connection, name: str, limit: int) -> list[MediaRow]:
    """Media that were found on a list, newest first."""
    return [read_media_row(facts) for (facts,) in conn.execute(MATCHED, (name, limit)).fetchall()]
