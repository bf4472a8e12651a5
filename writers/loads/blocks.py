"""Who has blocked whom, in rows, and which matches that has not ended yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from configs.contracts.ids import pair
from writers.connections import Connection

BLOCKED: Final = """
SELECT user_id::text, blocked_id::text FROM blocks JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (one, other)
     ON user_id = one AND blocked_id = other
WHERE active
"""

GENERATIONS: Final = """
SELECT member_id::text, other_id::text, generation, status = 'blocked'
FROM matches JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (low_id, high_id) ON member_id = low_id AND other_id = high_id
"""


def blocked(conn: Connection, pairs: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Those of the pairs of whom one blocks the other, in both orders."""
    if not pairs:
        return frozenset()
    ways = [*pairs, *((other, one) for one, other in pairs)]
    rows = conn.execute(BLOCKED, ([one for one, _ in ways], [other for _, other in ways])).fetchall()
    return frozenset(rows) | {(other, one) for one, other in rows}


def unended(conn: Connection, pairs: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
    """By (low id, high id) the generation of the pair's match, 0 if there was none; without pairs that rows know to be
    ended by a block."""
    found = dict.fromkeys((pair(one, other) for one, other in pairs), 0)
    if not found:
        return found
    for low, high, generation, over in conn.execute(GENERATIONS, ([low for low, _ in found], [high for _, high in found])):
        if over:
            del found[low, high]
        else:
            found[low, high] = generation
    return found
