"""What a post shard is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from configs.contracts.content import PostRecord
from configs.contracts.events import ContentType, PostAccess, RemovalReason

SERVICE = "posts"

WantedState = Literal["draft", "scheduled", "published", "unlisted"]
Refusal = Literal["idempotency_conflict", "post_incomplete", "post_state", "post_sold", "media_not_ready"]
"""Why nothing was recorded; each is a code of the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePost:
    """Creates a post (``create``), or changes one; fields that are None stay as they are.

    ``approved_media``: media that the caller has found to be the creator's, processed and passed by the moderation.
    ``recipient_id``: who alone is to find what is created. ``request_digest`` names the body that creates: the same one again gets the first answer.
    """

    creator_id: str
    post_id: str
    create: bool = False
    content_type: ContentType | None = None
    caption: str | None = None
    media_ids: tuple[str, ...] | None = None
    depicted: tuple[str, ...] | None = None
    access: PostAccess | None = None
    state: WantedState | None = None
    scheduled_at: datetime | None = None
    approved_media: tuple[str, ...] = ()
    request_digest: str | None = None
    recipient_id: str | None = None


@dataclass(frozen=True, slots=True)
class RemovePost:
    """Takes a post away for good. One that was on sale is not its creator's to remove: it is unlisted instead."""

    creator_id: str
    post_id: str
    reason: RemovalReason = "creator"
    decision_id: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The post as it is now, durable. ``recorded``: by this command; else it was so already."""

    record: PostRecord
    recorded: bool


@dataclass(frozen=True, slots=True)
class NoPost:
    """There is no such post of this creator, or it was removed."""


@dataclass(frozen=True, slots=True)
class PostRefused:
    """Nothing was recorded."""

    code: Refusal
