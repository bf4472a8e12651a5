"""Publishing what was scheduled, once it is due, its media passed the moderation and its creator may publish."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from cluster.connections.kafka import Record
from cluster.connections.postgres import translated
from configs.contracts.events import ContentPublished, Event, encode
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.topics import CONTENT_PUBLISHED
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.consumers.deriving import Appending
from writers.looks import keep_looking

log = structlog.get_logger(__name__)

EVERY_S: Final = 1.0
AT_ONCE: Final = 500

DUE: Final = """
SELECT creator_id::text, posts.id::text, schedule_id::text
FROM posts JOIN users ON users.id = creator_id
WHERE state = 'scheduled' AND scheduled_at <= now()
  AND users.status = 'active' AND users.verification_status = 'verified'
  AND NOT EXISTS (
      SELECT FROM unnest(media_ids) AS wanted (id)
      LEFT JOIN media ON media.owner_id = posts.creator_id AND media.id = wanted.id AND media.state = 'ready'
           AND media.review = 'approved'
      WHERE media.id IS NULL
  )
ORDER BY scheduled_at LIMIT %s
"""
"""Whatever is not known to be in order waits."""


class Publishing:
    """Appends what publishes the posts that are due. Each names the schedule that it carries out, under an id derived
    from it: the log may hold it twice, and of a post that was changed meanwhile it says nothing."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._appending = Appending(settings, name)
        self._done: frozenset[str] = frozenset()

    def publish(self, conn: Connection, now: datetime) -> int:
        """How many were appended. Raises DependencyUnavailable: a server does not answer, or not acknowledged; call again."""
        with translated():
            due = conn.execute(DUE, (AT_ONCE,)).fetchall()
        fresh = [item for item in due if item[2] not in self._done]
        self._appending.append([self._record(creator, post, schedule, now) for creator, post, schedule in fresh])
        # Rows follow in a moment; until then these are seen again.
        self._done = frozenset(schedule_id for _, _, schedule_id in due)
        return len(fresh)

    def _record(self, creator_id: str, post_id: str, schedule_id: str, now: datetime) -> Record:
        payload = ContentPublished(post_id=post_id, creator_id=creator_id, schedule_id=schedule_id)
        event = Event(derived_id(schedule_id, "publish"), now, creator_id, payload)
        partition = partition_of(creator_id, self._settings.log.partitions)
        return Record(CONTENT_PUBLISHED.name, partition, creator_id, encode(event))

    def close(self) -> None:
        self._appending.close()


def keep_publishing(settings: Settings, stopping: threading.Event, *, fatal: Callable[[str], None]) -> None:
    """Publishes what is due until ``stopping``. ``fatal`` is told of a fault that no waiting mends."""
    publishing = Publishing(settings, "publishing")

    def look() -> None:
        with open_rows(settings, "publishing") as conn:  # kept, since it looks every second
            while not stopping.is_set():
                if count := publishing.publish(conn, datetime.now(UTC)):
                    log.info("posts_published", posts=count)
                stopping.wait(EVERY_S)

    try:
        keep_looking("publishing", look, EVERY_S, stopping, fatal=fatal)
    finally:
        publishing.close()
