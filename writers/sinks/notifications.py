"""notification_sent, notification_read -> notifications: one row a notification, however often it was derived."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from configs.contracts.events import NotificationRead, NotificationSent
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

INSERT = """
INSERT INTO notifications (user_id, id, kind, title, body, data, created_at, version)
SELECT user_id, id, kind, title, body, data::jsonb, created_at, version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s) AS batch (user_id, id, kind, title, body, data, created_at, version)
ON CONFLICT (user_id, id) DO NOTHING
"""
READ = """
UPDATE notifications AS stored SET read_at = batch.read_at, version = batch.version
FROM unnest(%s, %s, %s, %s) AS batch (user_id, id, read_at, version)
WHERE stored.user_id = batch.user_id AND stored.id = batch.id AND stored.version < batch.version
  AND stored.read_at IS NULL
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    """Sent first, then read: a notification cannot be read before the log holds it."""
    sent = [fact for fact in facts if isinstance(fact.event.payload, NotificationSent)]
    read = {
        (fact.event.payload.user_id, fact.event.payload.notification_id): fact
        for fact in reversed(facts)
        if isinstance(fact.event.payload, NotificationRead)
    }
    if sent:
        payloads = [fact.event.payload for fact in sent]
        cur.execute(
            INSERT,
            (
                columns.uuids([payload.user_id for payload in payloads]),
                columns.uuids([payload.notification_id for payload in payloads]),
                columns.texts(payload.kind for payload in payloads),
                columns.texts(payload.title for payload in payloads),
                columns.texts(payload.body for payload in payloads),
                columns.texts(msgspec.json.encode(payload.data).decode() for payload in payloads),
                columns.timestamps([fact.event.occurred_at for fact in sent]),
                columns.bigints([fact.version for fact in sent]),
            ),
        )
    if read:
        cur.execute(
            READ,
            (
                columns.uuids([user for user, _ in read]),
                columns.uuids([notification for _, notification in read]),
                columns.timestamps([fact.event.occurred_at for fact in read.values()]),
                columns.bigints([fact.version for fact in read.values()]),
            ),
        )
    return len(sent) + len(read)


SINK = Sink("notifications", (NotificationSent, NotificationRead), write)
