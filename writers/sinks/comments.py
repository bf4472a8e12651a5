"""content_commented, comment_deleted -> comments: one row a comment, and post_counts: counted from those rows."""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.events import CommentDeleted, ContentCommented
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

INSERT = """
INSERT INTO comments (post_id, id, creator_id, author_id, text, commented_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (post_id, id) DO NOTHING
"""
DELETE = """
UPDATE comments AS stored SET deleted_at = first.deleted_at, deleted_by = first.deleted_by, version = first.version
FROM (
    SELECT DISTINCT ON (batch.post_id, batch.id) batch.*
    FROM unnest(%s, %s, %s, %s, %s) AS batch (post_id, id, deleted_by, deleted_at, version)
    JOIN comments AS known ON known.post_id = batch.post_id AND known.id = batch.id
         AND batch.deleted_by IN (known.author_id, known.creator_id)
    ORDER BY batch.post_id, batch.id, batch.version
) AS first
WHERE stored.post_id = first.post_id AND stored.id = first.id AND stored.deleted_at IS NULL
"""
"""The first deletion by somebody who may."""
COUNT = """
INSERT INTO post_counts AS stored (post_id, comments, comments_version)
SELECT batch.post_id, (SELECT count(*) FROM comments WHERE comments.post_id = batch.post_id AND deleted_at IS NULL),
       batch.version
FROM unnest(%s, %s) AS batch (post_id, version)
ON CONFLICT (post_id) DO UPDATE
SET comments = excluded.comments, comments_version = greatest(stored.comments_version, excluded.comments_version)
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    """Written first, then deleted: a comment stands before its deletion in the post's partition."""
    made = [fact for fact in facts if isinstance(fact.event.payload, ContentCommented)]
    deleted = [fact for fact in facts if isinstance(fact.event.payload, CommentDeleted)]
    versions: dict[str, int] = {}
    for fact in facts:
        post = fact.event.payload.post_id
        versions[post] = max(versions.get(post, 0), fact.version)
    if made:
        cur.execute(
            INSERT,
            (
                columns.uuids([fact.event.payload.post_id for fact in made]),
                columns.uuids([fact.event.payload.comment_id for fact in made]),
                columns.uuids([fact.event.payload.creator_id for fact in made]),
                columns.uuids([fact.event.payload.user_id for fact in made]),
                columns.texts(fact.event.payload.text for fact in made),
                columns.timestamps([fact.event.occurred_at for fact in made]),
                columns.bigints([fact.version for fact in made]),
            ),
        )
    if deleted:
        cur.execute(
            DELETE,
            (
                columns.uuids([fact.event.payload.post_id for fact in deleted]),
                columns.uuids([fact.event.payload.comment_id for fact in deleted]),
                columns.uuids([fact.event.payload.user_id for fact in deleted]),
                columns.timestamps([fact.event.occurred_at for fact in deleted]),
                columns.bigints([fact.version for fact in deleted]),
            ),
        )
    cur.execute(COUNT, (columns.uuids(list(versions)), columns.bigints(list(versions.values()))))
    return len(made) + len(deleted)


SINK = Sink("comments", (ContentCommented, CommentDeleted), write)
