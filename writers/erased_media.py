"""Media that came into the rows after their owner's erasure was derived are taken away too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from cluster.connections.kafka import Record
from configs.contracts.events import Event, MediaRemoved, encode
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.topics import MEDIA_UPLOADED
from configs.settings import Settings
from writers.connections import Connection
from writers.consumers.deriving import Appending

AT_ONCE: Final = 1_000
FIRST: Final = "00000000-0000-0000-0000-000000000000"

LEFT: Final = """
SELECT media.owner_id::text, media.id::text
FROM erasures JOIN media ON media.owner_id = erasures.user_id
WHERE erasures.erased_at > now() - interval '8 days'
  AND (media.state <> 'removed' OR media.facts ->> 'removedBy' IS NOT NULL)
  AND (media.owner_id, media.id) > (%s, %s)
ORDER BY media.owner_id, media.id LIMIT %s
"""
"""As long as the sweep of rows (``writers.sinks.erasures``), and for the same reason: ``derive`` sees what was in the rows
when it came to the erasure, and media are in another topic."""


def remove_left(settings: Settings, conn: Connection) -> int:
    """Appends the removal of every media that people erased lately still have; how many. Appending one twice changes nothing.

    Raises DependencyUnavailable, psycopg.Error: call again.
    """
    appending, after, removed = Appending(settings, "erased-media"), (FIRST, FIRST), 0
    try:
        while page := conn.execute(LEFT, (*after, AT_ONCE)).fetchall():
            after = page[-1]
            appending.append([_removal(settings, owner, media) for owner, media in page])
            removed += len(page)
    finally:
        appending.close()
    return removed


def _removal(settings: Settings, owner: str, media: str) -> Record:
    payload = MediaRemoved(media_id=media, owner_id=owner, reason="account_deleted")
    event = Event(derived_id(owner, f"erased:{media}"), datetime.now(UTC), owner, payload)
    return Record(MEDIA_UPLOADED.name, partition_of(owner, settings.log.partitions), owner, encode(event))
