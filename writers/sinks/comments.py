"""content_commented, comment_deleted, comment_restored -> comments: one row a comment, and post_counts: counted from those rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from configs.contracts.events import CommentDeleted, CommentRestored, ContentCommented
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

INSERT = """
INSERT INTO comments (post_id, id, creator_id, author_id, text, commented_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (post_id, id) DO NOTHING
"""
READ = """
SELECT post_id::text, id::text, creator_id::text, author_id::text, deleted_at, deleted_by::text, decision_id::text, stored.version
FROM comments AS stored JOIN unnest(%s, %s) AS asked (post, name) ON post_id = post AND id = name
"""
WRITE = """
UPDATE comments AS stored SET deleted_at = batch.deleted_at, deleted_by = batch.deleted_by, decision_id = batch.decision_id,
       version = batch.version
FROM unnest(%s, %s, %s, %s, %s, %s) AS batch (post_id, id, deleted_at, deleted_by, decision_id, version)
WHERE stored.post_id = batch.post_id AND stored.id = batch.id
"""
COUNT = """
INSERT INTO post_counts AS stored (post_id, comments, comments_version)
SELECT batch.post_id, (SELECT count(*) FROM comments WHERE comments.post_id = batch.post_id AND deleted_at IS NULL),
       batch.version
FROM unnest(%s, %s) AS batch (post_id, version)
ON CONFLICT (post_id) DO UPDATE
SET comments = excluded.comments, comments_version = greatest(stored.comments_version, excluded.comments_version)
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a comment stands, as its row says."""

    creator_id: str
    author_id: str
    deleted_at: datetime | None
    deleted_by: str | None
    decision_id: str | None
    """The decision that removed it and may be reversed."""
    version: int


def standing_after(held: Standing, fact: Fact) -> Standing:
    """After a deletion or the end of a decision; late and repeated ones change nothing, nor what somebody says who may not."""
    payload = fact.event.payload
    if fact.version <= held.version:
        return held
    if isinstance(payload, CommentRestored):
        if held.deleted_at is not None and held.decision_id != payload.decision_id:
            return held
        return replace(held, deleted_at=None, deleted_by=None, decision_id=None, version=fact.version)
    if payload.user_id not in (held.author_id, held.creator_id):
        return held
    # The first deletion stands; but of decisions the last counts, and one that nobody will reverse more than any.
    if held.deleted_at is not None and held.decision_id is None:
        return held
    if held.deleted_at is not None and payload.decision_id is not None:
        return replace(held, decision_id=payload.decision_id, version=fact.version)
    return replace(
        held, deleted_at=fact.event.occurred_at, deleted_by=payload.user_id, decision_id=payload.decision_id,
        version=fact.version,
    )


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    """Written first, then ended: a comment stands before its end in the post's partition."""
    made = [fact for fact in facts if isinstance(fact.event.payload, ContentCommented)]
    ended = [fact for fact in facts if not isinstance(fact.event.payload, ContentCommented)]
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
    if ended:
        _end(cur, ended)
    cur.execute(COUNT, (columns.uuids(list(versions)), columns.bigints(list(versions.values()))))
    return len(made) + len(ended)


def _end(cur: Cursor, facts: Sequence[Fact]) -> None:
    names = sorted({(fact.event.payload.post_id, fact.event.payload.comment_id) for fact in facts})
    asked = (columns.uuids([post for post, _ in names]), columns.uuids([name for _, name in names]))
    stored = {(post, name): Standing(*rest) for post, name, *rest in cur.execute(READ, asked).fetchall()}
    after = dict(stored)
    for fact in facts:
        name = (fact.event.payload.post_id, fact.event.payload.comment_id)
        if name in after:
            after[name] = standing_after(after[name], fact)
    changed = [(name, held) for name, held in after.items() if held is not stored[name]]
    if changed:
        cur.execute(WRITE, (
            columns.uuids([post for (post, _), _ in changed]), columns.uuids([name for (_, name), _ in changed]),
            columns.timestamps([held.deleted_at for _, held in changed]), columns.uuids([held.deleted_by for _, held in changed]),
            columns.uuids([held.decision_id for _, held in changed]), columns.bigints([held.version for _, held in changed]),
        ))


SINK = Sink("comments", (ContentCommented, CommentDeleted, CommentRestored), write)
