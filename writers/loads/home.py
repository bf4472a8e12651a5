"""Home feeds from rows, and who is followed by whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg

from configs.contracts.home import HOME_POSTS, LARGE_BOUND, fill_home, home_member, put_large
from configs.contracts.read_model import Operation
from writers.connections import Connection

_HOME: Final = """
SELECT person.id::text, newest.id::text, newest.creator_id::text, at
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT posts.id, follows.creator_id, posts.published_at AS at
    FROM follows, LATERAL (
        SELECT id, published_at FROM posts
        WHERE creator_id = follows.creator_id AND state = 'published' AND review = 'approved'
          AND recipient_id IS NULL
        ORDER BY published_at DESC LIMIT %s
    ) AS posts
    WHERE user_id = person.id AND active
    ORDER BY posts.published_at DESC LIMIT %s
) AS newest
"""
A_CREATOR: Final = 50
"""Newest posts of each creator that a feed begins with."""
_FOLLOWERS: Final = "SELECT user_id FROM follows WHERE creator_id = %s AND active AND user_id > %s ORDER BY user_id LIMIT %s"
_MORE_THAN: Final = "SELECT count(*) FROM (SELECT FROM follows WHERE creator_id = %s AND active LIMIT %s) AS counted"
_LARGE: Final = "SELECT creator_id::text FROM large_creators ORDER BY since LIMIT %s"


def home_operations(conn: Connection, tokens: Sequence[tuple[str, str]]) -> list[Operation]:
    """Fills the feed of each (person, token)."""
    posts: dict[str, list[tuple[str, int]]] = {user_id: [] for user_id, _ in tokens}
    rows = conn.execute(_HOME, (list(posts), A_CREATOR, HOME_POSTS)).fetchall()
    for user_id, post_id, creator_id, at in rows:
        posts[user_id].append((home_member(post_id, creator_id), int(at.timestamp() * 1_000)))
    return [fill_home(user_id, token, posts[user_id]) for user_id, token in tokens]


def large_operations(conn: Connection) -> list[Operation]:
    """The creators whose posts feeds ask for."""
    return [put_large(creator_id) for (creator_id,) in conn.execute(_LARGE, (LARGE_BOUND,)).fetchall()]


def is_large(conn: psycopg.Connection[Any], creator_id: str, followers: int) -> bool:
    """Whether a creator has more followers than that."""
    row = conn.execute(_MORE_THAN, (creator_id, followers + 1)).fetchone()
    return row is not None and row[0] > followers


def pages_of_followers(conn: psycopg.Connection[Any], creator_id: str, size: int) -> Iterator[list[str]]:
    """Who follows a creator, in order of id, a page at a time."""
    after = UUID(int=0)
    while True:
        page = [row[0] for row in conn.execute(_FOLLOWERS, (creator_id, after, size)).fetchall()]
        if page:
            yield [str(user_id) for user_id in page]
        if len(page) < size:
            return
        after = page[-1]
