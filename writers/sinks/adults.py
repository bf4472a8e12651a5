"""age_assessed -> assessments, consent_changed -> consents: what shows that everybody depicted is an adult and agreed."""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.events import AgeAssessed, ConsentChanged
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

ASSESSED = """
INSERT INTO assessments AS stored (user_id, id, provider, method, status, changed_at, version)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (user_id, id) DO UPDATE
SET method = excluded.method, status = excluded.status, changed_at = excluded.changed_at, version = excluded.version
WHERE stored.version < excluded.version AND excluded.status <> 'pending'
"""
"""A check that is reported as begun after its result keeps the result."""
CONSENTED = """
INSERT INTO consents AS stored (person_id, creator_id, given, changed_at, version)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (person_id, creator_id) DO UPDATE
SET given = excluded.given, changed_at = excluded.changed_at, version = excluded.version
WHERE stored.version < excluded.version
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    assessed, consented = [], []
    for event, version, _ in facts:
        payload, at = event.payload, event.occurred_at
        if isinstance(payload, AgeAssessed):
            assessed.append((
                payload.user_id, payload.assessment_id, payload.provider, payload.method, payload.status, at, version
            ))
        else:
            consented.append((payload.user_id, payload.creator_id, payload.given, at, version))
    if assessed:
        cur.executemany(ASSESSED, assessed)
    if consented:
        cur.executemany(CONSENTED, consented)
    return len(facts)


SINK = Sink("adults", (AgeAssessed, ConsentChanged), write)
