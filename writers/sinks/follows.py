"""followed, unfollowed -> follows: one row a person and creator; one that ended stays, inactive."""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.events import Followed, Unfollowed
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

UPSERT = """
INSERT INTO follows AS stored (user_id, creator_id, active, changed_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s)
ON CONFLICT (user_id, creator_id) DO UPDATE
SET active = excluded.active, changed_at = excluded.changed_at, version = excluded.version
WHERE stored.version < excluded.version
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    newest: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        pair = (fact.event.payload.user_id, fact.event.payload.creator_id)
        if pair not in newest or newest[pair].version < fact.version:
            newest[pair] = fact
    kept = newest.values()
    cur.execute(
        UPSERT,
        (
            columns.uuids([user for user, _ in newest]),
            columns.uuids([creator for _, creator in newest]),
            columns.booleans([isinstance(fact.event.payload, Followed) for fact in kept]),
            columns.timestamps([fact.event.occurred_at for fact in kept]),
            columns.bigints([fact.version for fact in kept]),
        ),
    )
    return len(newest)


SINK = Sink("follows", (Followed, Unfollowed), write)
