"""Who has blocked whom, in rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from writers.connections import Connection

BLOCKED: Final = """
SELECT user_id::text, blocked_id::text FROM blocks JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (one, other)
     ON user_id = one AND blocked_id = other
WHERE active
"""


def blocked(conn: Connection, pairs: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Those of the pairs of whom one blocks the other, in both orders."""
    if not pairs:
        return frozenset()
    ways = [*pairs, *((other, one) for one, other in pairs)]
    rows = conn.execute(BLOCKED, ([one for one, _ in ways], [other for _, other in ways])).fetchall()
    return frozenset(rows) | {(other, one) for one, other in rows}
