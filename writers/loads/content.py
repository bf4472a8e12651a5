"""Posts, comments, likes and follows as rows hold them, and as operations on the read model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from configs.contracts.changes import rfc3339
from configs.contracts.content import (
    COMMENTS_SHOWN,
    CommentEntry,
    PostRecord,
    put_comment,
    put_count,
    put_media_posts,
    put_post,
)
from configs.contracts.read_model import Operation
from writers.connections import Connection

COLUMNS: Final = (
    "creator_id::text, id::text, content_type, caption, media_ids::text[], depicted::text[], visibility, "
    "required_tier_id::text, required_rank, price_minor, currency, state, review, sold, created_at, published_at, "
    "scheduled_at, schedule_id::text, removed_by::text, also_removed_by::text[], removed_from, request_digest, version, recipient_id::text"
)
_NAMED: Final = f"""
SELECT {COLUMNS} FROM posts JOIN unnest(%s::uuid[], %s::uuid[]) AS wanted (owner, name) ON creator_id = owner AND id = name
"""  # noqa: S608 - constants
_BY_ID: Final = f"SELECT {COLUMNS} FROM posts WHERE id = ANY(%s::uuid[])"  # noqa: S608 - constants
_COUNTS: Final = """
SELECT post_id::text, likes, comments, likes_version, comments_version FROM post_counts WHERE post_id = ANY(%s::uuid[])
"""
_COMMENTS: Final = """
SELECT post.id::text, newest.id::text, author_id::text, text, commented_at, version
FROM unnest(%s::uuid[]) AS post (id), LATERAL (
    SELECT * FROM comments WHERE post_id = post.id AND deleted_at IS NULL ORDER BY commented_at DESC, id DESC LIMIT %s
) AS newest
"""
_SHOWING: Final = """
SELECT posts.id::text FROM media JOIN posts ON posts.creator_id = media.owner_id AND media.id = ANY(posts.media_ids)
WHERE media.id = ANY(%s::uuid[])
"""
_PAGE: Final = "SELECT id FROM posts WHERE id > %s ORDER BY id LIMIT %s"
FIRST_ID: Final = UUID(int=0)


def instant(text: str | None) -> datetime | None:
    """The time of a record's text."""
    return None if text is None else datetime.fromisoformat(text)


def _text(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def record_of(row: Sequence[Any]) -> PostRecord:
    """The post of a row of ``COLUMNS``."""
    (
        creator_id, post_id, content_type, caption, media_ids, depicted, visibility, tier_id, rank, price_minor, currency,
        state, review, sold, created_at, published_at, scheduled_at, schedule_id, removed_by, also_removed_by, removed_from, request_digest,
        version, recipient_id,
    ) = row
    return PostRecord(
        post_id=post_id, creator_id=creator_id, content_type=content_type, caption=caption, media_ids=tuple(media_ids),
        depicted=tuple(depicted), visibility=visibility, required_tier_id=tier_id, required_rank=rank,
        price_minor=price_minor, currency=currency, state=state, review=review, sold=sold, created_at=rfc3339(created_at),
        published_at=_text(published_at), scheduled_at=_text(scheduled_at), schedule_id=schedule_id,
        removed_by=removed_by, also_removed_by=tuple(also_removed_by), removed_from=None if removed_from is None else tuple(removed_from),
        request_digest=request_digest, version=version, recipient_id=recipient_id,
    )


def posts(conn: Connection, names: Sequence[str]) -> dict[str, PostRecord]:
    """Posts by ``creator id/post id``; only those that exist."""
    places = [name.split("/") for name in names]
    rows = conn.execute(_NAMED, ([creator for creator, _ in places], [post for _, post in places])).fetchall()
    return {f"{record.creator_id}/{record.post_id}": record for record in map(record_of, rows)}


@dataclass(slots=True)
class Post:
    """Everything that the read model holds under a post's own keys. ``record`` None: its own event is not in rows yet."""

    record: PostRecord | None = None
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """``likes`` or ``comments`` -> (number, version)."""
    comments: dict[str, tuple[CommentEntry, int]] = field(default_factory=dict)
    """The newest ones: id -> (comment, version)."""


def load_posts(conn: Connection, post_ids: Sequence[str]) -> dict[str, Post]:
    """One entry for every id asked for."""
    found = {post_id: Post() for post_id in post_ids}
    ids = list(post_ids)
    for record in map(record_of, conn.execute(_BY_ID, (ids,)).fetchall()):
        found[record.post_id].record = record
    for post_id, likes, comments, likes_version, comments_version in conn.execute(_COUNTS, (ids,)).fetchall():
        if likes_version:
            found[post_id].counts["likes"] = (likes, likes_version)
        if comments_version:
            found[post_id].counts["comments"] = (comments, comments_version)
    for post_id, comment_id, author_id, text, at, version in conn.execute(_COMMENTS, (ids, COMMENTS_SHOWN)).fetchall():
        found[post_id].comments[comment_id] = (CommentEntry(comment_id, author_id, text, rfc3339(at)), version)
    return found


def operations(post_id: str, post: Post) -> Iterator[Operation]:
    """A post as the read model has it; last the record, which says that the rest is known."""
    for what, (count, version) in post.counts.items():
        yield put_count(post_id, "likes" if what == "likes" else "comments", count, version)
    for entry, version in post.comments.values():
        yield put_comment(post_id, entry, version=version, deleted=False)
    if post.record is not None:
        yield from put_media_posts(post.record)
        yield put_post(post.record)


def post_operations(conn: Connection, post_ids: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the ids of posts that exist, their operations)."""
    found = {post_id: post for post_id, post in load_posts(conn, post_ids).items() if post.record is not None}
    return list(found), [step for post_id, post in found.items() for step in operations(post_id, post)]


def posts_of_media(conn: Connection, media_ids: Sequence[str]) -> list[Operation]:
    """The operations that name the posts of these media."""
    posts = [row[0] for row in conn.execute(_SHOWING, (list(media_ids),)).fetchall()]
    records = map(record_of, conn.execute(_BY_ID, (posts,)).fetchall()) if posts else ()
    return [step for record in records for step in put_media_posts(record)]


def pages_of_posts(conn: Connection, size: int) -> Iterator[list[str]]:
    """The ids of all posts, in order, a page at a time."""
    after = FIRST_ID
    while True:
        page = [row[0] for row in conn.execute(_PAGE, (after, size)).fetchall()]
        if page:
            yield [str(post_id) for post_id in page]
        if len(page) < size:
            return
        after = page[-1]


_LIKED: Final = """
SELECT post_id::text, user_id::text, liked, changed_at, version
FROM post_likes JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (post, who) ON post_id = post AND user_id = who
"""
_COMMENTED: Final = """
SELECT post_id::text, id::text, author_id::text, text, commented_at, deleted_at IS NOT NULL, version
FROM comments JOIN unnest(%s::uuid[], %s::uuid[]) AS named (post, name) ON post_id = post AND id = name
"""
_FOLLOWED: Final = """
SELECT user_id::text, creator_id::text, active, changed_at, version
FROM follows JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (who, whom) ON user_id = who AND creator_id = whom
"""


def likes_of(conn: Connection, pairs: Iterable[tuple[str, str]]) -> list[Any]:
    """(post, person, whether it stands, when, version) of each (post, person)."""
    return _joined(conn, _LIKED, pairs)


def comments_of(conn: Connection, names: Iterable[tuple[str, str]]) -> list[Any]:
    """(post, comment, author, text, when, whether deleted, version) of each (post, comment)."""
    return _joined(conn, _COMMENTED, names)


def follows_of(conn: Connection, pairs: Iterable[tuple[str, str]]) -> list[Any]:
    """(person, creator, whether it stands, when, version) of each (person, creator)."""
    return _joined(conn, _FOLLOWED, pairs)


def counts_of(conn: Connection, post_ids: Iterable[str]) -> Mapping[str, tuple[int, int, int, int]]:
    """Post -> likes, comments, version of each."""
    rows = conn.execute(_COUNTS, (list(post_ids),)).fetchall()
    return {post_id: (likes, comments, liked, commented) for post_id, likes, comments, liked, commented in rows}


def _joined(conn: Connection, query: str, pairs: Iterable[tuple[str, str]]) -> list[Any]:
    named = list(pairs)
    return conn.execute(query, ([one for one, _ in named], [other for _, other in named])).fetchall()
