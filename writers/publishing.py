"""Publishing what was scheduled, once it is due, its media passed the moderation, its creator may publish and everybody
depicted still agrees."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

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
SELECT creator_id::text, posts.id::text, schedule_id::text, scheduled_at, depicted::text[]
FROM posts JOIN users ON users.id = creator_id
WHERE state = 'scheduled' AND scheduled_at <= now() AND (scheduled_at, posts.id) > (%s, %s)
  AND users.status = 'active' AND users.verification_status = 'verified'
  AND NOT EXISTS (
      SELECT FROM unnest(media_ids) AS wanted (id)
      LEFT JOIN media ON media.owner_id = posts.creator_id AND media.id = wanted.id AND media.state = 'ready'
           AND media.review = 'approved'
      WHERE media.id IS NULL
  )
ORDER BY scheduled_at, posts.id LIMIT %s
"""
"""Whatever is not known to be in order waits."""
CONSENTS: Final = """
SELECT consents.creator_id::text, person_id::text FROM consents JOIN unnest(%s::uuid[], %s::uuid[]) AS asked (creator, person)
     ON person_id = person AND consents.creator_id = creator
WHERE given
"""
"""A statement of its own: consents lie with those who give them, posts with their creators."""
FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)


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
            due = _due(conn)
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


def _due(conn: Connection) -> list[tuple[str, str, str]]:
    """(creator, post, schedule) of the first posts that may be published, past any number of those that wait for a consent."""
    after: tuple[object, object] = FIRST
    while True:
        page = conn.execute(DUE, (*after, AT_ONCE)).fetchall()
        asked = [(creator, person) for creator, _, _, _, depicted in page for person in depicted if person != creator]
        given = set(conn.execute(CONSENTS, ([one for one, _ in asked], [other for _, other in asked])).fetchall()) if asked else set()
        due = [
            (creator, post, schedule) for creator, post, schedule, _, depicted in page
            if all(person == creator or (creator, person) in given for person in depicted)
        ]
        if due or len(page) < AT_ONCE:
            return due
        after = page[-1][3], page[-1][1]


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
