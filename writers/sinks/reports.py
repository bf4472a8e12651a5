"""user_reported -> reports: one row a report, for the review queue; one that a decision has overtaken is settled by it."""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.events import UserReported
from configs.contracts.moderation import due_at
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

INSERT = """
INSERT INTO reports (target_id, id, target_type, reporter_id, category, body, created_at, version, due_at, context_id,
                     decision_id, status)
SELECT batch.*, decided.id, CASE WHEN decided.id IS NULL THEN 'open' ELSE 'decided' END
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
     AS batch (target_id, id, kind, reporter, category, body, at, version, due, context)
LEFT JOIN LATERAL (
    SELECT id FROM decisions WHERE decisions.target_id = batch.target_id AND decided_at >= batch.at ORDER BY decided_at LIMIT 1
) AS decided ON true
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
            columns.timestamps([due_at(fact.event.payload.category, fact.event.occurred_at) for fact in facts]),
            columns.uuids([payload.context_id for payload in payloads]),
        ),
    )
    return len(facts)


SINK = Sink("reports", (UserReported,), write)
