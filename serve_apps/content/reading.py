"""Posts as one viewer stands to them: everything that decides about a page of them in two round trips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from cluster.connections.reading import Command, Reads, Warming
from configs.contracts.adults import may_see_explicit
from configs.contracts.albums import media_key, read_media
from configs.contracts.content import PostRecord, counts_key, media_posts_key, post_key, read_count, read_post
from configs.contracts.entitlements import Access, Content, Viewer, access
from configs.contracts.errors import ReadModelUnknown
from configs.contracts.read_model import (
    MARKER,
    UserRecord,
    listing_keys,
    read_blocked,
    read_record,
    record_key,
    relation_key,
)
from serve_apps.content import standing
from serve_apps.people import People
from serve_apps.problems import Refused

DECODED: Final = 8_192
"""Posts and people that one replica keeps decoded, some 1 KB each."""
POSTS_OF_A_MEDIA: Final = 50
"""That are looked at to find one that opens it."""
LIKED: Final = b'"liked":true'
Shown = Literal["open", "subscribe", "upgrade", "purchase", "verify_age"]


class Seen(NamedTuple):
    """A post that the viewer may know of, and what of it they may see."""

    raw: bytes
    record: PostRecord
    access: Shown
    creator: UserRecord
    media: tuple[bytes | None, ...]
    """Versioned records; None: there is no such media."""
    likes: int
    comments: int
    liked: bool
    own: bool

    @property
    def whole(self) -> bool:
        """Whether all of its media are there for whoever it is open to."""
        return all(value is not None and read_media(value).published for value in self.media)


T = TypeVar("T")


class Decoded(Generic[T]):
    """What was decoded last of a key, used again while its value is the same bytes; ``limit`` keys, oldest forgotten first."""

    def __init__(self, decode: Callable[[bytes], T], limit: int) -> None:
        self._decode = decode
        self._limit = limit
        self._known: dict[str, tuple[bytes, T]] = {}

    def of(self, key: str, raw: bytes) -> T:
        known = self._known.get(key)
        if known is not None and known[0] == raw:
            return known[1]
        if len(self._known) >= self._limit:
            del self._known[next(iter(self._known))]
        decoded = self._decode(raw)
        self._known[key] = raw, decoded
        return decoded


class Contents:
    """Reads posts; a post that is missing is warmed once, and then known to be absent."""

    def __init__(self, reads: Reads, people: People, posts: Warming, media: Warming) -> None:
        self._reads = reads
        self._people = people
        self._posts = posts
        self._media = media
        self._records = Decoded(read_post, DECODED)
        self._creators = Decoded(read_record, DECODED)

    async def record(self, post_id: str) -> PostRecord | None:
        """A post's record, whatever its state; None: there is none. Raises ReadModelUnknown: it is not written yet."""
        (value,) = await self._values((post_id,), await self._reads.read(("GET", post_key(post_id))))
        return None if value is None else read_post(value)

    async def own(self, creator_id: str, post_id: str) -> PostRecord:
        """The creator's own post. Raises Refused: it is not theirs, or was removed."""
        record = await self.record(post_id)
        if record is None or record.creator_id != creator_id or record.state == "removed":
            raise Refused("not_found")
        return record

    async def one(self, viewer_id: str, post_id: str) -> Seen:
        """The post as the viewer stands to it. Raises Refused: there is none for this viewer."""
        record = await self.record(post_id)
        if record is None:
            raise Refused("not_found")
        found = await self.page(viewer_id, ((post_id, record.creator_id),))
        if not found:
            raise Refused("not_found")
        return found[0]

    async def open(self, viewer_id: str, post_id: str) -> PostRecord:
        """The post, which is open to the viewer. Raises Refused: there is none for them, or it has to be paid for first."""
        seen = await self.one(viewer_id, post_id)
        if seen.access == "verify_age":
            raise Refused("age_unverified")
        if seen.access != "open":
            raise Refused("payment_needed", access=seen.access)
        return seen.record

    async def opens(self, viewer_id: str, media_id: str, creator_id: str) -> bool:
        """Whether a post that shows the creator's media is open to the viewer: one of those that were changed last.

        Raises ReadModelUnknown.
        """
        (named,) = await self._reads.read(("HGETALL", media_posts_key(media_id)))
        newest = sorted(zip(named[1::2], named[::2], strict=True), reverse=True)[:POSTS_OF_A_MEDIA]
        found = await self.page(viewer_id, [(post_id.decode(), creator_id) for _, post_id in newest])
        return any(seen.access == "open" and media_id in seen.record.media_ids for seen in found)

    async def sells(self, media_id: str) -> bool:
        """Whether a post that was ever on sale, and that nobody took away, shows the media, whose record was read before.

        Raises ReadModelUnknown.
        """
        (named,) = await self._reads.read(("HGETALL", media_posts_key(media_id)))
        post_ids = [post_id.decode() for post_id in named[::2]]
        if not post_ids:
            return False
        values = await self._values(post_ids, (await self._reads.read(("MGET", *map(post_key, post_ids))))[0])
        records = [read_post(value) for value in values if value is not None]
        return any(record.sold and record.state != "removed" and media_id in record.media_ids for record in records)

    async def page(self, viewer_id: str, names: Sequence[tuple[str, str]]) -> list[Seen]:
        """Those of the (post, creator) that the viewer may know of, in order.

        One round trip for the posts and everything that decides about them, one for their media.
        Raises ReadModelUnknown: facts about the viewer, or a post that exists, are not written yet.
        """
        if not names:
            return []
        post_ids = [post_id for post_id, _ in names]
        creators = list(dict.fromkeys(creator_id for _, creator_id in names))
        commands = self._commands(viewer_id, post_ids, creators)
        replies = await self._reads.read(*commands)
        if replies[2][0] is None:
            await self._people.sets(viewer_id, commands[2], marked=(0,))
            replies = await self._reads.read(*commands)
        values, people, relations, hearts = replies[:4]
        counts, held = replies[4 : 4 + len(names)], replies[4 + len(names) :]
        values = await self._values(post_ids, values)
        records = await self._people_of([viewer_id, *creators], people)
        viewer = records.get(viewer_id)
        if viewer is None:
            raise ReadModelUnknown("own record is not written yet")
        holds = standing.standing(creators, post_ids, held)
        marker, *fields = relations
        blocked = {
            creator_id for index, creator_id in enumerate(creators)
            if creator_id != viewer_id and read_blocked(marker, *fields[2 * index : 2 * index + 2])
        }
        now = datetime.now(UTC)
        adult = may_see_explicit(viewer)
        found: list[Seen] = []
        for index, (post_id, creator_id) in enumerate(names):
            value, creator = values[index], records.get(creator_id)
            if value is None or creator is None:
                continue
            record = self._records.of(post_id, value)
            decided = _decided(record, creator_id, viewer, creator, creator_id in blocked, holds, now)
            if decided is None:
                continue
            own = creator_id == viewer_id
            if decided == "open" and record.media_ids and not own and not adult:
                decided = "verify_age"
            likes, comments = counts[index]
            heart = hearts[index]
            found.append(Seen(
                value, record, decided, creator, (), read_count(likes), read_count(comments),
                heart is not None and LIKED in heart, own,
            ))
        return await self._with_media(found)

    async def _people_of(self, user_ids: Sequence[str], values: Sequence[bytes | None]) -> dict[str, UserRecord]:
        if None in values:
            return await self._people.completed(user_ids, values)
        return {
            user_id: self._creators.of(user_id, value)
            for user_id, value in zip(user_ids, values, strict=True) if value is not None
        }

    @staticmethod
    def _commands(viewer_id: str, post_ids: Sequence[str], creators: Sequence[str]) -> list[Command]:
        sides = [side + creator_id for creator_id in creators for side in ("b:", "by:")]
        return [
            ("MGET", *map(post_key, post_ids)),
            ("MGET", record_key(viewer_id), *map(record_key, creators)),
            ("HMGET", relation_key(viewer_id), MARKER, *sides),
            ("HMGET", listing_keys("heart", viewer_id)[1], *post_ids),
            *(("HMGET", counts_key(post_id), "likes", "comments") for post_id in post_ids),
            *standing.commands(viewer_id, creators, post_ids),
        ]

    async def _values(self, post_ids: Sequence[str], values: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """The posts' values, those that are missing although there are rows written and read."""
        if None not in values:
            return values
        missing = [post_id for post_id, value in zip(post_ids, values, strict=True) if value is None]
        warmed = list(await self._posts.ensure(missing))
        if not warmed:
            return values
        (found,) = await self._reads.read(("MGET", *map(post_key, warmed)))
        if None in found:
            raise ReadModelUnknown("post is not written yet")
        written: dict[str, bytes] = dict(zip(warmed, found, strict=True))
        return [value if value is not None else written.get(name) for name, value in zip(post_ids, values, strict=True)]

    async def _with_media(self, found: list[Seen]) -> list[Seen]:
        media_ids = [media_id for seen in found for media_id in seen.record.media_ids]
        if not media_ids:
            return found
        (values,) = await self._reads.read(("MGET", *map(media_key, media_ids)))
        if None in values:
            missing = [media_id for media_id, value in zip(media_ids, values, strict=True) if value is None]
            if await self._media.ensure(missing):
                (values,) = await self._reads.read(("MGET", *map(media_key, media_ids)))
        rest: Any = iter(values)
        return [
            seen._replace(media=tuple(next(rest) for _ in seen.record.media_ids)) if seen.record.media_ids else seen
            for seen in found
        ]


def _decided(
    record: PostRecord, creator_id: str, viewer: UserRecord, creator: UserRecord, blocked: bool,
    holds: standing.Standing, now: datetime,
) -> Shown | None:
    """What the viewer may see of a post; None: not even that it is there."""
    if record.creator_id != creator_id or record.state == "removed":
        return None
    purchased = record.post_id in holds.purchased
    content = Content(
        record.post_id, creator_id, record.visibility, record.required_rank,
        exists=record.found_by(viewer.user_id) or (record.exists and purchased),
    )
    decided: Access = access(content, Viewer(
        viewer.user_id, active=viewer.exists, creator_active=creator.exists, blocked=blocked,
        holdings=holds.holdings.get(creator_id, ()), purchased=purchased,
    ), now)
    return None if decided == "hidden" else decided
