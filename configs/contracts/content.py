"""Posts: the record that the read model holds of each, and its keys.

All keys of a post share the hash tag ``{post id}``: ``post:{p}`` the record · ``post:n:{p}`` how many likes and comments ·
``post:c:z|h:{p}`` its newest comments. A creator's posts are the listing ``post`` of the creator.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from configs.contracts.positions import version_text
from configs.contracts.read_model import Operation, read_versioned

ContentType = Literal["text", "image", "video"]
Visibility = Literal["public", "subscribers", "tier_specific", "ppv"]
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
    sold: bool = False
    """Whether it was ever on sale: somebody may have bought it, so it can be unlisted, not deleted by its creator."""
    created_at: str = ""
    published_at: str | None = None
    """When it was published first."""
    scheduled_at: str | None = None
    schedule_id: str | None = None
    """Id of the event that scheduled it."""
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
        return self.review == "approved" and self.state == "published"

    @property
    def for_sale(self) -> bool:
        """Whether somebody who has not bought it may do so now."""
        return self.listed and self.visibility == "ppv" and self.price_minor > 0


def post_key(post_id: str) -> str:
    """Versioned JSON ``PostRecord``; no such key: unknown until the writers have warmed it."""
    return f"post:{{{post_id}}}"


def put_post(record: PostRecord) -> Operation:
    """Puts a post into the read model unless a newer state of it is there."""
    return Operation("string", (post_key(record.post_id),), (version_text(record.version), msgspec.json.encode(record)))


_RECORDS: Final = msgspec.json.Decoder(PostRecord)


def read_post(value: bytes) -> PostRecord:
    """The record that ``put_post`` wrote."""
    return _RECORDS.decode(read_versioned(value)[1])
