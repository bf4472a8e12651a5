"""Home feeds in the read model: a cache a person of the newest posts of whom they follow.

``home:{u}`` sorted set: post and its creator -> when it was published (Unix ms); the member ``*`` at 0 says that it is complete. A
feed that nobody reads is not kept: publishing adds a post only to feeds that are there, and who reads without one has
the writers fill it. Filling begins with a token in the set, before rows are read: whatever is published meanwhile is
added beside it, and whoever dropped the feed meanwhile (follow, unfollow) took the token away.
``large`` set: creators with so many followers that their posts are added to nobody's feed and asked for instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from configs.contracts.read_model import Operation

LARGE_CREATORS: Final = "large"
LARGE_BOUND: Final = 64
"""Creators whose posts feeds ask for; further large ones are added to feeds like everybody's."""
HOME_POSTS: Final = 200
"""Newest posts of a feed; it ends there."""
HOME_TTL_S: Final = 14 * 86_400
"""After filling: a feed that is still read then is filled anew."""

def home_key(user_id: str) -> str:
    return f"home:{{{user_id}}}"


def home_member(post_id: str, creator_id: str) -> str:
    """A post in a feed: with its creator, whose facts are read together with it."""
    return f"{post_id}/{creator_id}"


def read_member(member: str) -> tuple[str, str]:
    """(post, creator)."""
    post_id, _, creator_id = member.partition("/")
    return post_id, creator_id


def begin_home(user_id: str, token: str) -> Operation:
    """Begins to fill a feed that is not complete, in place of whoever had begun before."""
    return Operation("home_begin", (home_key(user_id),), (f"~{token}",))


def fill_home(user_id: str, token: str, posts: Sequence[tuple[str, int]]) -> Operation:
    """Puts (member, Unix ms) into the feed and says that it is complete, unless the token is gone."""
    args: list[str | int] = [f"~{token}", HOME_TTL_S]
    for member, at_ms in posts:
        args += (member, at_ms)
    return Operation("home_fill", (home_key(user_id),), tuple(args))


def push_home(user_id: str, member: str, at_ms: int) -> Operation:
    """Adds a post to a feed that is there."""
    return Operation("home_push", (home_key(user_id),), (member, at_ms, HOME_POSTS))


def drop_home(user_id: str) -> Operation:
    """Forgets a feed: it is filled anew when it is read next."""
    return Operation("drop", (home_key(user_id),), ())


def put_large(creator_id: str) -> Operation:
    """Says that feeds ask for the creator's posts, while there is room for another one."""
    return Operation("large", (LARGE_CREATORS,), (creator_id, LARGE_BOUND))
