"""Posts: the record that the read model holds of each, and its keys.

All keys of a post share the hash tag ``{post id}``: ``post:{p}`` the record · ``post:n:{p}`` how many likes and comments ·
``post:c:z|h:{p}`` its newest comments. ``media:p:{m}`` names the posts of a media. A creator's posts are the listing ``post`` of the creator, what
others do not see the listing ``draft``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from configs.contracts.changes import rfc3339
from configs.contracts.events import (
    ContentPublished,
    ContentRemoved,
    ContentRestored,
    ContentType,
    ContentUpdated,
    Event,
    Payload,
    PostAccess,
    Visibility,
)
from configs.contracts.positions import version_text
from configs.contracts.read_model import Listing, Operation, put_entry, read_versioned

CAPTION_LENGTH: Final = 4_000
MEDIA_A_POST: Final = 10
COMMENT_LENGTH: Final = 1_000
COMMENTS_SHOWN: Final = 200
"""Newest comments of a post that the read model keeps; older ones stay in rows only."""
DECISIONS: Final = 16
"""Decisions beside the first that a removed post remembers."""
FOLLOWS: Final = 5_000
"""Creators that one person follows at most (the bound of the listing ``follow``)."""

PostState = Literal["draft", "scheduled", "published", "unlisted", "removed"]
"""unlisted: only its creator and those who bought it find it · removed: nobody does, for good."""
PostReview = Literal["pending", "approved", "rejected"]


class PostRecord(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One post. Never sent out whole: the API shows each viewer what they are entitled to.

    Times are RFC 3339 in UTC. What it costs is what stands here, never what a client says.
    """

    post_id: str
    creator_id: str
    content_type: ContentType = "text"
    caption: str = ""
    media_ids: tuple[str, ...] = ()
    depicted: tuple[str, ...] = ()
    """People in the pictures beside the creator; each has given consent when it is published."""
    visibility: Visibility = "subscribers"
    required_tier_id: str | None = None
    """With visibility tier_specific."""
    required_rank: int = 0
    """Rank of that tier when the visibility was set: a subscription to one of equal or higher rank opens the post."""
    price_minor: int = 0
    """With visibility ppv, in the currency's smallest unit."""
    currency: str = ""
    state: PostState = "draft"
    review: PostReview = "pending"
    recipient_id: str | None = None
    """Who alone finds it, in a message that names it. Said when it is created, and never changed."""
    sold: bool = False
    """Whether it was ever on sale: somebody may have bought it, so it can be unlisted, not deleted by its creator."""
    created_at: str = ""
    published_at: str | None = None
    """When it was published first."""
    scheduled_at: str | None = None
    schedule_id: str | None = None
    """Id of the event that scheduled it."""
    removed_by: str | None = None
    """The decision that removed it."""
    also_removed_by: tuple[str, ...] = ()
    """Decisions that would have removed it since, about it or what it shows: it comes back when all are reversed."""
    removed_from: tuple[PostState, PostReview] | None = None
    """What it was before that."""
    request_digest: str = ""
    """What tells the body of the request that created it from another one."""
    version: int = 0

    @property
    def exists(self) -> bool:
        """Whether it can be shown to anybody but its creator: published once, approved, and not removed."""
        return self.review == "approved" and self.state in ("published", "unlisted")

    @property
    def listed(self) -> bool:
        """Whether it stands in feeds and on its creator's page."""
        return self.review == "approved" and self.state == "published" and self.recipient_id is None

    def found_by(self, viewer_id: str) -> bool:
        """Whether this person, who has not bought it, finds it."""
        return self.review == "approved" and self.state == "published" and self.recipient_id in (None, viewer_id)

    @property
    def for_sale(self) -> bool:
        """Whether somebody who finds it and has not bought it may do so now."""
        return self.review == "approved" and self.state == "published" and self.visibility == "ppv" and self.price_minor > 0


def post_key(post_id: str) -> str:
    """Versioned JSON ``PostRecord``; no such key: unknown until the writers have warmed it."""
    return f"post:{{{post_id}}}"


def put_post(record: PostRecord) -> Operation:
    """Puts a post into the read model unless a newer state of it is there."""
    return Operation("string", (post_key(record.post_id),), (version_text(record.version), msgspec.json.encode(record)))


def media_posts_key(media_id: str) -> str:
    """Hash whose fields are the posts that show a media, or did before they were changed: a post's record is what counts.

    It lies in the slot of the media's record, which is there before any post names the media: with it the set is known.
    """
    return f"media:p:{{{media_id}}}"


def put_media_posts(record: PostRecord) -> tuple[Operation, ...]:
    """Names a post under each of its media."""
    return tuple(
        Operation("field", (media_posts_key(media_id),), (record.post_id, version_text(record.version), ""))
        for media_id in dict.fromkeys(record.media_ids)
    )


_RECORDS: Final = msgspec.json.Decoder(PostRecord)


def read_post(value: bytes) -> PostRecord:
    """The record that ``put_post`` wrote."""
    return _RECORDS.decode(read_versioned(value)[1])


def post_after(row: PostRecord | None, event: Event, version: int) -> PostRecord | None:
    """The post after one more of its events, in the order of the log: the same for the shard that decides and for rows."""
    payload = event.payload
    if isinstance(payload, ContentRestored):
        return _restored(row, payload.decision_id, version)
    erased = isinstance(payload, ContentRemoved) and payload.reason == "account_deleted"
    if row is not None and row.state == "removed" and not erased:
        return _removed_again(row, payload, version)
    if isinstance(payload, ContentRemoved):
        if row is None:
            row = PostRecord(post_id=payload.post_id, creator_id=payload.creator_id, created_at=rfc3339(event.occurred_at))
        review: PostReview = row.review if payload.reason in ("creator", "account_deleted") else "rejected"
        # What was scheduled is a draft again: its time may be over.
        before: PostState = "draft" if row.state == "scheduled" else row.state
        return msgspec.structs.replace(
            row, state="removed", review=review, schedule_id=None, version=version, removed_by=payload.decision_id,
            also_removed_by=(), caption="" if erased else row.caption,
            removed_from=None if payload.decision_id is None else (before, row.review),
        )
    if not isinstance(payload, ContentUpdated | ContentPublished):
        return row
    if row is None:
        row = PostRecord(
            post_id=payload.post_id, creator_id=payload.creator_id, created_at=rfc3339(event.occurred_at),
            request_digest=payload.request_digest or "", recipient_id=payload.recipient_id,
        )
    if isinstance(payload, ContentPublished):
        if row.published_at is not None or (payload.schedule_id is not None and payload.schedule_id != row.schedule_id):
            return row
        return _on_sale(msgspec.structs.replace(
            _with_fields(row, payload), state="published", review="approved", published_at=rfc3339(event.occurred_at),
            scheduled_at=None, schedule_id=None, version=version,
        ))
    changed = _with_fields(row, payload)
    if payload.media_ids is not None or payload.approved:
        changed = msgspec.structs.replace(changed, review="approved" if payload.approved else "pending")
    if payload.state is not None and (row.published_at is not None) == (payload.state in ("published", "unlisted")):
        scheduled = payload.state == "scheduled"
        changed = msgspec.structs.replace(
            changed, state=payload.state, schedule_id=event.event_id if scheduled else None,
            scheduled_at=rfc3339(payload.scheduled_at) if scheduled and payload.scheduled_at is not None else None,
        )
    return _on_sale(msgspec.structs.replace(changed, version=version))


def _restored(row: PostRecord | None, decision_id: str, version: int) -> PostRecord | None:
    """After the end of a decision: as it was before the first one, once none is left."""
    if row is None or row.removed_from is None or row.removed_by is None:
        return row
    standing = tuple(held for held in (row.removed_by, *row.also_removed_by) if held != decision_id)
    if len(standing) > len(row.also_removed_by):
        return row
    if standing:
        return msgspec.structs.replace(row, removed_by=standing[0], also_removed_by=standing[1:], version=version)
    state, review = row.removed_from
    return msgspec.structs.replace(
        row, state=state, review=review, removed_by=None, removed_from=None, scheduled_at=None, version=version
    )


def _removed_again(row: PostRecord, payload: Payload, version: int) -> PostRecord:
    """A removed post after one more removal: what nobody will reverse ends it for good, as do more than DECISIONS."""
    if not isinstance(payload, ContentRemoved) or row.removed_by is None:
        return row
    if payload.decision_id in (row.removed_by, *row.also_removed_by):
        return row
    if payload.decision_id is None or len(row.also_removed_by) >= DECISIONS:
        return msgspec.structs.replace(row, removed_by=None, also_removed_by=(), removed_from=None, version=version)
    return msgspec.structs.replace(row, also_removed_by=(*row.also_removed_by, payload.decision_id), version=version)


def incomplete(record: PostRecord) -> Literal["post_incomplete"] | None:
    """Why a post cannot be published as it is: text without words, pictures without media, a price or tier that is missing,
    or what one person alone is to find and need not pay for."""
    whole = bool(record.caption.strip()) and not record.media_ids if record.content_type == "text" else bool(record.media_ids)
    named = record.visibility != "tier_specific" or record.required_tier_id is not None
    priced = record.visibility != "ppv" or (record.price_minor > 0 and bool(record.currency))
    sendable = record.recipient_id is None or record.visibility == "ppv"
    return None if whole and named and priced and sendable else "post_incomplete"


def _with_fields(row: PostRecord, payload: ContentUpdated | ContentPublished) -> PostRecord:
    """The post with the fields that were sent."""
    access = payload.access
    return msgspec.structs.replace(
        row,
        content_type=payload.content_type or row.content_type,
        caption=row.caption if payload.caption is None else payload.caption,
        media_ids=row.media_ids if payload.media_ids is None else payload.media_ids,
        depicted=row.depicted if payload.depicted is None else payload.depicted,
        **({} if access is None else access_fields(access)),
    )


def access_fields(access: PostAccess) -> dict[str, object]:
    """The record's fields that say who may see the post."""
    return {
        "visibility": access.visibility, "required_tier_id": access.required_tier_id,
        "required_rank": access.required_rank, "price_minor": access.price_minor, "currency": access.currency,
    }


def _on_sale(row: PostRecord) -> PostRecord:
    sold = row.sold or (row.published_at is not None and row.visibility == "ppv")
    return row if sold == row.sold else msgspec.structs.replace(row, sold=sold)


class PostEntry(msgspec.Struct, frozen=True, rename="camel"):
    """A post in its creator's listings ``post`` (everybody's) and ``draft`` (the creator's own)."""

    post_id: str


class FollowEntry(msgspec.Struct, frozen=True, rename="camel"):
    """A creator whom a person follows, in their listing ``follow``."""

    creator_id: str
    active: bool = True


class HeartEntry(msgspec.Struct, frozen=True, rename="camel"):
    """A post that a person likes, in their listing ``heart``."""

    post_id: str
    liked: bool = True


class CommentEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One comment of a post."""

    comment_id: str
    user_id: str
    text: str
    commented_at: str


def listed(record: PostRecord) -> tuple[Operation, ...]:
    """A post's place in its creator's listings."""
    entry = PostEntry(record.post_id)
    own = record.state in ("draft", "scheduled", "unlisted") or (record.state == "published" and not record.listed)
    places: tuple[tuple[Listing, int | None], ...] = (
        ("post", milliseconds(record.published_at) if record.listed and record.published_at else None),
        ("draft", milliseconds(record.created_at) if own else None),
    )
    return tuple(
        put_entry(listing, record.creator_id, record.post_id, entry, version=record.version, at_ms=at_ms)
        for listing, at_ms in places
    )


def changed(record: PostRecord) -> tuple[Operation, ...]:
    """Everything that the read model holds of a post's own state."""
    return (put_post(record), *put_media_posts(record), *listed(record))


def milliseconds(text: str) -> int:
    """RFC 3339 as Unix milliseconds."""
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


def counts_key(post_id: str) -> str:
    """Hash of versioned numbers: ``likes`` and ``comments``; a field that is missing is 0."""
    return f"post:n:{{{post_id}}}"


def put_count(post_id: str, what: Literal["likes", "comments"], count: int, version: int) -> Operation:
    """Sets one of a post's counts, as rows have it after the event of this version."""
    return Operation("field", (counts_key(post_id),), (what, version_text(version), str(count)))


def read_count(value: bytes | None) -> int:
    return 0 if value is None else int(value[16:])


def comments_keys(post_id: str) -> tuple[str, str]:
    """(order, entries) of a post's newest comments."""
    return f"post:c:z:{{{post_id}}}", f"post:c:h:{{{post_id}}}"


def put_comment(post_id: str, entry: CommentEntry, *, version: int, deleted: bool) -> Operation:
    """Puts a comment among a post's newest ones, or takes it out and remembers that for as long as few others are."""
    at: int | str = "" if deleted else milliseconds(entry.commented_at)
    value = msgspec.json.encode(msgspec.structs.replace(entry, text="") if deleted else entry)
    return Operation(
        "bounded", comments_keys(post_id), (entry.comment_id, version_text(version), value, at, COMMENTS_SHOWN)
    )


_COMMENTS: Final = msgspec.json.Decoder(CommentEntry)


def read_comment(value: bytes) -> CommentEntry:
    return _COMMENTS.decode(read_versioned(value)[1])


def followed(user_id: str, creator_id: str, *, version: int, at: datetime, active: bool) -> Operation:
    """A creator in a person's follows, or out of them."""
    at_ms = int(at.timestamp() * 1_000) if active else None
    return put_entry("follow", user_id, creator_id, FollowEntry(creator_id, active), version=version, at_ms=at_ms)


def liked(user_id: str, post_id: str, *, version: int, at: datetime, active: bool) -> Operation:
    """A post among those that a person likes, or out of them."""
    at_ms = int(at.timestamp() * 1_000) if active else None
    return put_entry("heart", user_id, post_id, HeartEntry(post_id, active), version=version, at_ms=at_ms)
