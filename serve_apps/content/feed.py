"""The home feed: the newest posts of whom one follows, each as one may see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from configs.contracts.errors import ReadModelUnknown
from configs.contracts.home import LARGE_CREATORS, home_key, home_member, read_member
from configs.contracts.read_model import MARKER, listing_keys
from serve_apps.content.creators import ACTIVE
from serve_apps.content.models import Posts
from serve_apps.dependencies import Dependencies
from serve_apps.fields import CURSOR_PATTERN
from serve_apps.hot import HotRequest, HotRoute, query_values, refused
from serve_apps.pages import DEFAULT_LIMIT, EXTRA, HIGHEST_LIMIT, Place
from serve_apps.problems import SIGNED_IN, Refused

USE: Final = b"home"
Member = tuple[int, str]
"""(when it was published in Unix ms, post and creator): a feed is in falling order of these."""
FILLINGS: Final = 4
"""A feed is dropped while it is being filled when its reader has just followed somebody: the projection follows the route."""
_PLACES: Final = msgspec.msgpack.Decoder(Place)


class FeedQuery(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=HIGHEST_LIMIT)] = DEFAULT_LIMIT
    cursor: Annotated[str, msgspec.Meta(pattern=CURSOR_PATTERN)] | None = None


async def feed(dependencies: Dependencies, request: HotRequest) -> bytes:
    """Reads a page of the viewer's feed; its cost follows the page's length."""
    query = FeedQuery()
    if request.query:
        try:
            query = msgspec.convert(query_values(request.query), FeedQuery, strict=False)
        except msgspec.ValidationError as error:
            raise refused(error, "query") from error
    viewer_id = request.person.user_id
    after = None if query.cursor is None else _place(dependencies, viewer_id, query.cursor)
    members = await _members(dependencies, viewer_id, query.limit, after)
    shown = members[: query.limit]
    seen = await dependencies.contents.page(viewer_id, [read_member(member) for _, member in shown])
    rendered = [dependencies.rendering.json(item) for item in seen if item.record.listed]
    following = b"null"
    if len(members) > query.limit:
        at_ms, member = shown[-1]
        place = msgspec.msgpack.encode(Place(viewer_id, at_ms, member))
        following = b'"' + dependencies.seals.seal(USE, place).encode() + b'"'
    return b'{"posts":[' + b",".join(rendered) + b'],"nextCursor":' + following + b"}"


async def _members(dependencies: Dependencies, viewer_id: str, limit: int, after: Member | None) -> list[Member]:
    """At least one more than the page holds, when there are more."""
    key, start = home_key(viewer_id), "+inf" if after is None else after[0]
    count = limit + 1 + (EXTRA if after else 0)
    newest = ("BYSCORE", "REV", "LIMIT", 0, count, "WITHSCORES")
    commands = (("ZRANGE", key, start, "(0", *newest), ("ZSCORE", key, MARKER), ("SMEMBERS", LARGE_CREATORS))
    for left in reversed(range(FILLINGS)):
        ranked, complete, large = await dependencies.reads.read(*commands)
        if complete is not None:
            break
        if not left:
            raise ReadModelUnknown("the feed is not filled yet")
        await dependencies.warm_homes.ensure((viewer_id,))
    found = {member: at_ms for at_ms, member in _scored(ranked)}
    if large:
        names = [name.decode() for name in large]
        (follows,) = await dependencies.reads.read(("HMGET", listing_keys("follow", viewer_id)[1], *names))
        asked = [name for name, value in zip(names, follows, strict=True) if value is not None and ACTIVE in value]
        replies = await dependencies.reads.read(
            *(("ZRANGE", listing_keys("post", name)[0], start, "(0", *newest) for name in asked)
        ) if asked else ()
        for name, reply in zip(asked, replies, strict=True):
            found |= {home_member(post_id, name): at_ms for at_ms, post_id in _scored(reply)}
    members = sorted(((at_ms, member) for member, at_ms in found.items()), reverse=True)
    return members if after is None else [item for item in members if item < after]


def _scored(ranked: Sequence[Any]) -> list[Member]:
    return [(int(float(ranked[i + 1])), ranked[i].decode()) for i in range(0, len(ranked), 2)]


def _place(dependencies: Dependencies, viewer_id: str, cursor: str) -> Member:
    body = dependencies.seals.open(USE, cursor)
    if body is None:
        raise Refused("cursor_invalid")
    try:
        place = _PLACES.decode(body)
    except msgspec.MsgspecError as error:
        raise Refused("cursor_invalid") from error
    if place.reader_id != viewer_id:
        raise Refused("cursor_invalid")
    return place.at_ms, place.entry_id


FEED: Final = HotRoute(
    method="GET", path="/content/feed", operation_id="getFeed", tag="content",
    summary="The newest posts of whom you follow, each as you may see it.", handler=feed, answer=Posts, query=FeedQuery,
    codes=(*SIGNED_IN, "cursor_invalid"),
)
