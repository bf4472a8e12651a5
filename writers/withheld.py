"""Files that wait for the reversal of a decision go for good once there can be none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, cast

from cluster.connections.kafka import Record
from configs.contracts.events import Event, MediaRemoved, encode
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.media import RemoveReason
from configs.contracts.moderation import APPEAL_WINDOW
from configs.contracts.topics import MEDIA_UPLOADED
from configs.settings import Settings
from writers import columns
from writers.connections import Connection
from writers.consumers.deriving import Appending

AT_ONCE: Final = 1_000
FIRST: Final = "00000000-0000-0000-0000-000000000000"

WITHHELD: Final = """
SELECT owner_id::text, id::text, facts ->> 'removedBy', facts -> 'record' ->> 'reason'
FROM media WHERE facts ->> 'removedBy' IS NOT NULL AND id > %s ORDER BY id LIMIT %s
"""
FINAL: Final = """
SELECT decisions.target_id::text, decisions.id::text
FROM decisions LEFT JOIN appeals ON appeals.target_id = decisions.target_id AND appeals.decision_id = decisions.id
WHERE decisions.target_id = ANY(%s)
  AND (appeals.outcome = 'upheld' OR (appeals.id IS NULL AND decisions.decided_at < %s))
"""
"""Upheld on appeal, or nobody appealed in time; an appeal that waits is waited for."""


def end_withheld(settings: Settings, conn: Connection, now: datetime | None = None) -> int:
    """Appends the final removal of every media whose removal can no longer be reversed; how many.

    The media's consumer deletes the files, its owner's shard forgets it. Appending one twice changes nothing.
    Raises DependencyUnavailable, psycopg.Error: call again.
    """
    now = now or datetime.now(UTC)
    appending, after, ended = Appending(settings, "withheld"), FIRST, 0
    try:
        while page := conn.execute(WITHHELD, (after, AT_ONCE)).fetchall():
            after = page[-1][1]
            settled = set(conn.execute(FINAL, (columns.uuids([media for _, media, _, _ in page]), now - APPEAL_WINDOW)).fetchall())
            due = [_removal(settings, owner, media, decision, reason, now)
                   for owner, media, decision, reason in page if (media, decision) in settled]
            appending.append(due)
            ended += len(due)
    finally:
        appending.close()
    return ended


def _removal(settings: Settings, owner: str, media: str, decision: str, reason: str, now: datetime) -> Record:
    payload = MediaRemoved(media_id=media, owner_id=owner, reason=cast(RemoveReason, reason))
    event = Event(derived_id(decision, f"final {media}"), now, owner, payload)
    return Record(MEDIA_UPLOADED.name, partition_of(owner, settings.log.partitions), owner, encode(event))
