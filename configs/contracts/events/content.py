"""What creators publish, and what people say to it: posts, likes, comments, follows."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from configs.contracts import topics
from configs.contracts.events.base import Id, Instant, NestedId, Payload
from configs.contracts.topics import Topic

ContentType = Literal["text", "image", "video"]
Visibility = Literal["public", "subscribers", "tier_specific", "ppv"]
RemovalReason = Literal["creator", "moderation", "intimate_image", "account_deleted"]


class PostAccess(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Who may see a post: a tier of at least ``required_rank`` with tier_specific, a buyer with ppv."""

    visibility: Visibility
    required_tier_id: NestedId | None = None
    required_rank: int = 0
    price_minor: int = 0
    currency: str = ""


class ContentUpdated(Payload, frozen=True, kw_only=True):
    """A post that nobody else sees yet, or a change of one; fields that are not sent stay.

    ``state`` published lists an unlisted post again. ``approved`` says that the media named here passed the moderation:
    media that are changed without it take the post out of everybody's sight. ``recipient_id`` counts where the post is created.
    """

    TYPE: ClassVar[str] = "content_updated"
    post_id: Id
    creator_id: Id
    content_type: ContentType | None = None
    caption: str | None = None
    media_ids: tuple[Id, ...] | None = None
    depicted: tuple[Id, ...] | None = None
    access: PostAccess | None = None
    state: Literal["draft", "scheduled", "published", "unlisted"] | None = None
    scheduled_at: Instant | None = None
    approved: bool = False
    request_digest: str | None = None
    recipient_id: Id | None = None


class ContentPublished(Payload, frozen=True, kw_only=True):
    """A post is published for the first time; fields that are not sent stay as they are.

    Appended only after its media passed the moderation. ``schedule_id``: the event that scheduled it; when another one
    has scheduled it since, or it is not scheduled any more, this says nothing.
    """

    TYPE: ClassVar[str] = "content_published"
    post_id: Id
    creator_id: Id
    content_type: ContentType | None = None
    caption: str | None = None
    media_ids: tuple[Id, ...] | None = None
    depicted: tuple[Id, ...] | None = None
    access: PostAccess | None = None
    schedule_id: Id | None = None
    request_digest: str | None = None
    recipient_id: Id | None = None


class ContentRemoved(Payload, frozen=True, kw_only=True):
    """Nobody finds the post any more; its rows stay as evidence.

    ``decision_id``: what the moderation decided. The event's id is then derived from it, and only the end of that decision
    brings the post back.
    """

    TYPE: ClassVar[str] = "content_removed"
    post_id: Id
    creator_id: Id
    reason: RemovalReason
    decision_id: Id | None = None


class ContentRestored(Payload, frozen=True, kw_only=True):
    """The decision that removed the post was reversed: the post is as it was before. Says nothing of any other removal."""

    TYPE: ClassVar[str] = "content_restored"
    post_id: Id
    creator_id: Id
    decision_id: Id


class ContentLiked(Payload, frozen=True, kw_only=True):
    """The person likes the post; liking it again says nothing new."""

    TYPE: ClassVar[str] = "content_liked"
    post_id: Id
    creator_id: Id
    user_id: Id
    idempotency_key: str | None = None
    body_digest: str | None = None


class ContentUnliked(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "content_unliked"
    post_id: Id
    creator_id: Id
    user_id: Id
    idempotency_key: str | None = None
    body_digest: str | None = None


class ContentCommented(Payload, frozen=True, kw_only=True):
    """``comment_id`` is the event's id."""

    TYPE: ClassVar[str] = "content_commented"
    comment_id: str
    post_id: Id
    creator_id: Id
    user_id: Id
    text: str
    idempotency_key: str | None = None
    body_digest: str | None = None


class CommentDeleted(Payload, frozen=True, kw_only=True):
    """``user_id`` wrote the comment or is the post's creator; from anybody else it says nothing.

    ``decision_id``: what the moderation decided about it, whose end brings it back unless somebody else deleted it too.
    """

    TYPE: ClassVar[str] = "comment_deleted"
    comment_id: Id
    post_id: Id
    creator_id: Id
    user_id: Id
    idempotency_key: str | None = None
    body_digest: str | None = None
    decision_id: Id | None = None


class CommentRestored(Payload, frozen=True, kw_only=True):
    """The decision that removed the comment was reversed: it stands again. Says nothing of any other deletion."""

    TYPE: ClassVar[str] = "comment_restored"
    comment_id: Id
    post_id: Id
    creator_id: Id
    decision_id: Id


class Followed(Payload, frozen=True, kw_only=True):
    """The person wants the creator's posts in their feed; free, and no right to anything."""

    TYPE: ClassVar[str] = "followed"
    user_id: Id
    creator_id: Id
    idempotency_key: str | None = None
    body_digest: str | None = None


class Unfollowed(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "unfollowed"
    user_id: Id
    creator_id: Id
    idempotency_key: str | None = None
    body_digest: str | None = None


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.CONTENT_PUBLISHED, ContentPublished),
    (topics.CONTENT_PUBLISHED, ContentUpdated),
    (topics.CONTENT_PUBLISHED, ContentRemoved),
    (topics.CONTENT_PUBLISHED, ContentRestored),
    (topics.CONTENT_LIKED, ContentLiked),
    (topics.CONTENT_LIKED, ContentUnliked),
    (topics.CONTENT_COMMENTED, ContentCommented),
    (topics.CONTENT_COMMENTED, CommentDeleted),
    (topics.CONTENT_COMMENTED, CommentRestored),
    (topics.CONTENT_FOLLOWED, Followed),
    (topics.CONTENT_FOLLOWED, Unfollowed),
)
