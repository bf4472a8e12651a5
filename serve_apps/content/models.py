"""What requests about posts hold and what their answers show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import Path
from pydantic import AfterValidator, Field, model_validator

from configs.contracts.adults import DEPICTED
from configs.contracts.content import CAPTION_LENGTH, COMMENT_LENGTH, MEDIA_A_POST, PostState
from configs.contracts.events import ContentType, PostAccess, Visibility
from configs.contracts.money import EXPONENTS, parse_amount
from serve_apps.fields import UUID_PATTERN, Answer, Body, Text, Time, UserIdText
from serve_apps.media.urls import MediaView

PRICE_LIMIT_MINOR = 100_000_000
"""Highest price of a post, in minor units: far above what providers take in one charge."""

PostIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a post's id")]
CommentIdPath = Annotated[str, Path(alias="commentId", pattern=UUID_PATTERN, description="a comment's id")]
CreatorIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a creator's id")]


def _distinct(values: list[str] | None) -> list[str] | None:
    if values is not None and len(set(values)) != len(values):
        raise ValueError("must not name one twice")
    return values


def _with_offset(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise ValueError("must have an offset from UTC")
    return value


Caption = Annotated[Text, Field(max_length=CAPTION_LENGTH)]
MediaIds = Annotated[list[UserIdText], Field(max_length=MEDIA_A_POST), AfterValidator(_distinct)]
Depicted = Annotated[list[UserIdText], Field(max_length=DEPICTED), AfterValidator(_distinct)]
Moment = Annotated[datetime, AfterValidator(_with_offset)]


class Price(Body):
    """A decimal amount of a currency, as text: no binary fractions."""

    amount: Annotated[str, Field(max_length=16, examples=["9.99"])]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["USD"])]

    @model_validator(mode="after")
    def _can_be_paid(self) -> Self:
        if self.currency not in EXPONENTS:
            raise ValueError("this currency is not supported")
        minor = parse_amount(self.amount, self.currency)
        if minor is None or not 0 < minor <= PRICE_LIMIT_MINOR:
            raise ValueError("is not a price in this currency")
        return self

    @property
    def minor(self) -> int:
        found = parse_amount(self.amount, self.currency)
        assert found is not None
        return found


class AccessBody(Body):
    """Who may see the post: with `tier_specific` subscribers of that tier or a higher one, with `ppv` those who pay."""

    visibility: Visibility
    required_tier_id: UserIdText | None = None
    price: Price | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.required_tier_id is not None) != (self.visibility == "tier_specific"):
            raise ValueError("requiredTierId belongs to tier_specific")
        if (self.price is not None) != (self.visibility == "ppv"):
            raise ValueError("price belongs to ppv")
        return self

    def decided(self, rank: int) -> PostAccess:
        return PostAccess(
            visibility=self.visibility, required_tier_id=self.required_tier_id, required_rank=rank,
            price_minor=0 if self.price is None else self.price.minor,
            currency="" if self.price is None else self.price.currency,
        )


class CreatePost(Body):
    content_type: ContentType
    caption: Caption = ""
    media_ids: MediaIds = Field(default_factory=list)
    depicted: Depicted = Field(default_factory=list, description="people in the pictures beside you; each has given consent")
    access: AccessBody
    state: Literal["draft", "scheduled", "published"] = "draft"
    scheduled_at: Moment | None = None
    recipient_id: UserIdText | None = Field(
        None, description="with `ppv`: only this person finds it, once a message names it (`postId` of sendMessage)"
    )

    @model_validator(mode="after")
    def _is_sold_to_its_recipient(self) -> Self:
        if self.recipient_id is not None and self.access.visibility != "ppv":
            raise ValueError("recipientId belongs to ppv")
        return self

    @model_validator(mode="after")
    def _has_its_time(self) -> Self:
        if (self.scheduled_at is not None) != (self.state == "scheduled"):
            raise ValueError("scheduledAt belongs to scheduled")
        return self


class UpdatePost(Body):
    """Fields that are not sent stay as they are."""

    content_type: ContentType | None = None
    caption: Caption | None = None
    media_ids: MediaIds | None = None
    depicted: Depicted | None = None
    access: AccessBody | None = None
    state: Literal["draft", "scheduled", "published", "unlisted"] | None = None
    scheduled_at: Moment | None = None

    @model_validator(mode="after")
    def _has_its_time(self) -> Self:
        if (self.scheduled_at is not None) != (self.state == "scheduled"):
            raise ValueError("scheduledAt belongs to scheduled")
        return self


class CommentBody(Body):
    text: Annotated[Text, Field(min_length=1, max_length=COMMENT_LENGTH)]


class PriceView(Answer):
    amount: str
    currency: str


class CreatorView(Answer):
    """A creator as posts show them."""

    user_id: str
    display_name: str
    avatar_url: str | None
    verified: bool


class PostView(Answer):
    """A post as one viewer may see it.

    `access` open: all of it. Otherwise what the viewer has to do first; `caption` is null then and `media` holds blurred
    previews only. `state` and `scheduledAt` are shown to its creator. `direct`: for one person alone, in a message.
    """

    post_id: str
    creator: CreatorView
    content_type: ContentType
    visibility: Visibility
    access: Literal["open", "subscribe", "upgrade", "purchase", "verify_age"]
    caption: str | None
    media: list[MediaView]
    media_count: int
    required_tier_id: str | None
    price: PriceView | None
    published_at: Time | None
    state: PostState | None = None
    scheduled_at: Time | None = None
    direct: bool = False
    like_count: int
    comment_count: int
    liked: bool


class Posts(Answer):
    posts: list[PostView]
    next_cursor: str | None = None


class CreatorPage(Answer):
    """A creator's page; what they sell stands in their tiers."""

    creator: CreatorView
    bio: str
    post_count: int
    following: bool


class Comment(Answer):
    comment_id: str
    user_id: str
    display_name: str
    text: str
    commented_at: Time


class Comments(Answer):
    """Newest first; of a post the newest 200 are shown."""

    comments: list[Comment]
    next_cursor: str | None = None


class Following(Answer):
    creators: list[CreatorView]
    next_cursor: str | None = None
