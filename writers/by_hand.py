"""What money people have to move themselves: for the metrics that alarm and for the status."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from cluster.connections.postgres import translated
from configs.settings import Settings
from writers.connections import Connection, open_rows

TOLD_FOR: Final = timedelta(days=7)
"""So long after it came back a refund is told of: what was done about it outside of the processor nobody records."""
PAYOUTS: Final = """
SELECT count(*), coalesce(extract(epoch FROM now() - min(due)), 0)::bigint
FROM payouts WHERE due IS NOT NULL AND state -> 'asked' ->> 'accountId' = ''
"""
"""Without an account staff pays them."""
REFUNDS: Final = """
SELECT count(*), coalesce(extract(epoch FROM now() - min(back_at)), 0)::bigint
FROM (
    SELECT max(as_of) AS back_at
    FROM (
        SELECT owner_id, object_id, as_of, total, max(total) OVER (PARTITION BY owner_id, object_id) AS most
        FROM (
            SELECT known.owner_id, known.object_id, known.as_of, (known.fact ->> 'refundedMinor')::bigint AS total
            FROM (
                SELECT DISTINCT owner_id, object_id FROM provider_facts WHERE kind = 'refunded' AND as_of > now() - %s
            ) AS told
            JOIN provider_facts AS known ON known.owner_id = told.owner_id AND known.object_id = told.object_id
            WHERE known.kind = 'refunded'
        ) AS totals
    ) AS steps
    GROUP BY owner_id, object_id
    HAVING max(as_of) FILTER (WHERE total < most) > max(as_of) FILTER (WHERE total = most)
) AS back
"""
"""The last total is less than one before, so a bank sent a refund back; made again it is as great as before."""


def by_hand(settings: Settings) -> dict[str, dict[str, int]]:
    """Of ``payouts`` that staff makes and ``refunds`` that came back: how many (``waiting``), and since when the oldest
    (``oldest_s``). Raises DependencyUnavailable."""
    with open_rows(settings, "by-hand") as conn, translated():
        return {"payouts": _counted(conn, PAYOUTS), "refunds": _counted(conn, REFUNDS, TOLD_FOR)}


def _counted(conn: Connection, statement: str, *values: object) -> dict[str, int]:
    found = conn.execute(statement, values).fetchone()
    assert found is not None
    return {"waiting": int(found[0]), "oldest_s": int(found[1])}
