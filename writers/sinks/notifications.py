"""notification_sent, notification_read, notifications_read -> notifications: one row a notification, however often derived."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from configs.contracts.events import NotificationRead, NotificationSent, NotificationsRead
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

INSERT = """
INSERT INTO notifications (user_id, id, kind, title, body, data, created_at, version)
SELECT user_id, id, kind, title, body, data::jsonb, created_at, version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s) AS batch (user_id, id, kind, title, body, data, created_at, version)
ON CONFLICT (user_id, id) DO NOTHING
"""
RENEW = """
UPDATE notifications AS stored
SET title = batch.title, body = batch.body, data = batch.data::jsonb, created_at = batch.created_at, read_at = NULL,
    version = batch.version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s) AS batch (user_id, id, kind, title, body, data, created_at, version)
WHERE stored.user_id = batch.user_id AND stored.id = batch.id AND stored.version < batch.version
  AND stored.title <> batch.title
"""
"""Saying the same again, as a repeated derivation does, is nothing new. One that was cut off after it was appended may say more
the next time, of a larger batch: so whatever comes under a known id counts, not only what was meant to renew it."""
READ = """
UPDATE notifications AS stored SET read_at = batch.read_at, version = batch.version
FROM unnest(%s, %s, %s, %s) AS batch (user_id, id, read_at, version)
WHERE stored.user_id = batch.user_id AND stored.id = batch.id AND stored.version < batch.version
  AND stored.read_at IS NULL
"""
READ_AT_ONCE = """
UPDATE notifications AS stored SET read_at = batch.read_at, version = batch.version
FROM unnest(%s, %s, %s) AS batch (user_id, read_at, version)
WHERE stored.user_id = batch.user_id AND stored.version < batch.version AND stored.read_at IS NULL
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    """Sent first, then renewed, then read: versions tell what came later."""
    sent = [fact for fact in facts if isinstance(fact.event.payload, NotificationSent) and fact.event.payload.in_list]
    at_once = {fact.event.payload.user_id: fact for fact in facts if isinstance(fact.event.payload, NotificationsRead)}
    read = {
        (fact.event.payload.user_id, fact.event.payload.notification_id): fact
        for fact in reversed(facts)
        if isinstance(fact.event.payload, NotificationRead)
    }
    if sent:
        cur.execute(INSERT, _rows(sent))
        if cur.rowcount < len(sent):
            newest = {(fact.event.payload.user_id, fact.event.payload.notification_id): fact for fact in sent}
            cur.execute(RENEW, _rows(list(newest.values())))
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
    if at_once:
        cur.execute(
            READ_AT_ONCE,
            (
                columns.uuids(list(at_once)),
                columns.timestamps([fact.event.occurred_at for fact in at_once.values()]),
                columns.bigints([fact.version for fact in at_once.values()]),
            ),
        )
    return len(sent) + len(read) + len(at_once)


def _rows(sent: Sequence[Fact]) -> tuple[columns.Column, ...]:
    payloads = [fact.event.payload for fact in sent]
    return (
        columns.uuids([payload.user_id for payload in payloads]),
        columns.uuids([payload.notification_id for payload in payloads]),
        columns.texts(payload.kind for payload in payloads),
        columns.texts(payload.title for payload in payloads),
        columns.texts(payload.body for payload in payloads),
        columns.texts(msgspec.json.encode(payload.data).decode() for payload in payloads),
        columns.timestamps([fact.event.occurred_at for fact in sent]),
        columns.bigints([fact.version for fact in sent]),
    )


SINK = Sink("notifications", (NotificationSent, NotificationRead, NotificationsRead), write)
