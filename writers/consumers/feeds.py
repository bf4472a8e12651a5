"""The consumer ``feeds``: a post that was published, or came back, is added to the feeds of its creator's followers.

Only to feeds that somebody reads, and not of creators with so many followers that feeds ask for their posts instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeGuard

import redis

from cluster.connections.redis import apply, sync_client
from configs.contracts import topics
from configs.contracts.content import PostRecord, milliseconds
from configs.contracts.events import ContentPublished, ContentRestored, ContentUpdated, Event, Payload
from configs.contracts.home import LARGE_BOUND, home_member, push_home, put_large
from configs.settings import Settings
from writers.connections import Connection
from writers.consumers.deriving import wait_for_rows
from writers.dead_letters import without_dead
from writers.loads.content import posts
from writers.loads.home import is_large, pages_of_followers
from writers.positions import Ownership, advance
from writers.records import LogRecord, Place, decode_all, next_offsets

TOPICS = (topics.CONTENT_PUBLISHED,)
FOLLOWERS_A_TRIP: Final = 2_000

LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('large_creators'))"
ENLARGE: Final = """
INSERT INTO large_creators (creator_id, since)
SELECT %s, now() WHERE (SELECT count(*) FROM large_creators) < %s ON CONFLICT DO NOTHING
"""
KNOWN: Final = "SELECT 1 FROM large_creators WHERE creator_id = %s"


class Feeds:
    """Adds posts to feeds, then moves its position: one that is killed meanwhile adds the same posts again."""

    consumer = "feeds"

    def __init__(self, settings: Settings) -> None:
        self._followers = settings.content.fanout_followers
        self._settings = settings
        self._redis: redis.Redis | None = None
        self.figures = {"published": 0, "added": 0, "asked_for": 0}

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        wait_for_rows(conn, owned, records)
        decoded, _ = decode_all(without_dead(conn, records, owned.generations), owned.generations)
        for post in published(conn, [fact.event for _, fact in decoded]):
            self._add(conn, post)
        with conn.transaction(), conn.cursor() as cur:
            advance(cur, owned, before, next_offsets(records))

    def _add(self, conn: Connection, post: PostRecord) -> None:
        """Raises DependencyUnavailable: Redis does not answer."""
        assert post.published_at is not None
        self._redis = self._redis or sync_client(self._settings)
        self.figures["published"] += 1
        if asked_for(conn, post.creator_id, self._followers):
            self.figures["asked_for"] += 1
            apply(self._redis, [put_large(post.creator_id)])
            return
        member, at_ms = home_member(post.post_id, post.creator_id), milliseconds(post.published_at)
        for page in pages_of_followers(conn, post.creator_id, FOLLOWERS_A_TRIP):
            apply(self._redis, [push_home(user_id, member, at_ms) for user_id in page])
            self.figures["added"] += len(page)

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()
            self._redis = None


def published(conn: Connection, events: Sequence[Event]) -> list[PostRecord]:
    """The posts that these events published, listed again or restored, and that are still listed.

    What comes back is added again: a feed that was filled meanwhile lacks it, and to one that has it nothing is new.
    """
    names = [f"{payload.creator_id}/{payload.post_id}" for payload in (event.payload for event in events) if lists(payload)]
    return [post for post in posts(conn, list(dict.fromkeys(names))).values() if post.listed] if names else []


def lists(payload: Payload) -> TypeGuard[ContentPublished | ContentUpdated | ContentRestored]:
    """Whether a post that was not listed may be from then on."""
    return isinstance(payload, ContentPublished | ContentRestored) or (
        isinstance(payload, ContentUpdated) and payload.state == "published"
    )


def asked_for(conn: Connection, creator_id: str, followers: int) -> bool:
    """Whether feeds ask for the creator's posts: once so, always so. There is room for a bounded number of creators."""
    if conn.execute(KNOWN, (creator_id,)).fetchone() is not None:
        return True
    if not is_large(conn, creator_id, followers):
        return False
    with conn.transaction():
        conn.execute(LOCK)
        conn.execute(ENLARGE, (creator_id, LARGE_BOUND))
    return conn.execute(KNOWN, (creator_id,)).fetchone() is not None
