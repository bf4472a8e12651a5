"""content_liked, content_unliked -> post_likes: one row a post and person, and post_counts: counted from those rows."""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.events import ContentLiked, ContentUnliked
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

UPSERT = """
INSERT INTO post_likes AS stored (post_id, user_id, creator_id, liked, changed_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s)
ON CONFLICT (post_id, user_id) DO UPDATE
SET liked = excluded.liked, changed_at = excluded.changed_at, version = excluded.version
WHERE stored.version < excluded.version
"""
COUNT = """
INSERT INTO post_counts AS stored (post_id, likes, likes_version)
SELECT batch.post_id, (SELECT count(*) FROM post_likes WHERE post_likes.post_id = batch.post_id AND liked), batch.version
FROM unnest(%s, %s) AS batch (post_id, version)
ON CONFLICT (post_id) DO UPDATE
SET likes = excluded.likes, likes_version = greatest(stored.likes_version, excluded.likes_version)
"""
"""All likes of a post stand in one partition, so no other transaction counts them meanwhile."""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    newest: dict[tuple[str, str], Fact] = {}
    versions: dict[str, int] = {}
    for fact in facts:
        payload = fact.event.payload
        pair = (payload.post_id, payload.user_id)
        if pair not in newest or newest[pair].version < fact.version:
            newest[pair] = fact
        versions[payload.post_id] = max(versions.get(payload.post_id, 0), fact.version)
    kept = newest.values()
    cur.execute(
        UPSERT,
        (
            columns.uuids([post for post, _ in newest]),
            columns.uuids([user for _, user in newest]),
            columns.uuids([fact.event.payload.creator_id for fact in kept]),
            columns.booleans([isinstance(fact.event.payload, ContentLiked) for fact in kept]),
            columns.timestamps([fact.event.occurred_at for fact in kept]),
            columns.bigints([fact.version for fact in kept]),
        ),
    )
    cur.execute(COUNT, (columns.uuids(list(versions)), columns.bigints(list(versions.values()))))
    return len(newest)


SINK = Sink("post_likes", (ContentLiked, ContentUnliked), write)
