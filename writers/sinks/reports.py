"""user_reported -> reports: one row a report, for the review queue."""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.events import UserReported
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

INSERT = """
INSERT INTO reports (target_id, id, target_type, reporter_id, category, body, created_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (target_id, id) DO NOTHING
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    payloads = [fact.event.payload for fact in facts]
    cur.execute(
        INSERT,
        (
            columns.uuids([payload.target_id for payload in payloads]),
            columns.uuids([payload.report_id for payload in payloads]),
            columns.texts(payload.target_type for payload in payloads),
            columns.uuids([payload.reporter_id for payload in payloads]),
            columns.texts(payload.category for payload in payloads),
            columns.texts(payload.text for payload in payloads),
            columns.timestamps([fact.event.occurred_at for fact in facts]),
            columns.bigints([fact.version for fact in facts]),
        ),
    )
    return len(facts)


SINK = Sink("reports", (UserReported,), write)
