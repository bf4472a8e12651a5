"""What an erased person left behind that others could still see: media, posts and comments are taken away in their logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from configs.contracts import topics
from configs.contracts.events import CommentDeleted, ContentRemoved, Event, MediaRemoved
from configs.contracts.ids import derived_id
from configs.contracts.topics import Topic
from writers.connections import Connection

MEDIA = "SELECT owner_id::text, id::text FROM media WHERE owner_id = ANY(%s::uuid[]) AND state <> 'removed'"
POSTS = "SELECT creator_id::text, id::text FROM posts WHERE creator_id = ANY(%s::uuid[]) AND state <> 'removed'"
COMMENTS = """
SELECT author_id::text, id::text, post_id::text, creator_id::text FROM comments
WHERE author_id = ANY(%s::uuid[]) AND deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Left:
    """Ids of what somebody left; of comments also their post and its creator."""

    media: Sequence[str]
    posts: Sequence[str]
    comments: Sequence[tuple[str, str, str]]


def left_by(conn: Connection, people: Sequence[str]) -> Mapping[str, Left]:
    """What the rows have of these people."""
    media, posts = (conn.execute(statement, (list(people),)).fetchall() for statement in (MEDIA, POSTS))
    comments = conn.execute(COMMENTS, (list(people),)).fetchall()
    return {
        person: Left(
            [name for owner, name in media if owner == person], [name for owner, name in posts if owner == person],
            [(name, post, creator) for author, name, post, creator in comments if author == person],
        )
        for person in people
    }


def taken_away(event: Event, user_id: str, left: Left) -> Iterator[tuple[Topic, Event]]:
    """(topic, event) of each thing's end; the same ids on every repetition. What buyers have paid for goes too."""
    def ends(name: str) -> str:
        return derived_id(event.event_id, f"erased:{name}")

    for name in left.media:
        yield topics.MEDIA_UPLOADED, Event(ends(name), event.occurred_at, user_id, MediaRemoved(
            media_id=name, owner_id=user_id, reason="account_deleted",
        ))
    for name in left.posts:
        yield topics.CONTENT_PUBLISHED, Event(ends(name), event.occurred_at, user_id, ContentRemoved(
            post_id=name, creator_id=user_id, reason="account_deleted",
        ))
    for name, post_id, creator_id in left.comments:
        yield topics.CONTENT_COMMENTED, Event(ends(name), event.occurred_at, post_id, CommentDeleted(
            comment_id=name, post_id=post_id, creator_id=creator_id, user_id=user_id,
        ))
