"""Bodies and answers of the media routes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, StrictStr, model_validator

from configs.contracts.media import (
    IMAGE_TYPES,
    PHOTOS,
    VIDEO_TYPES,
    MediaKind,
    MediaRecord,
    MediaState,
    Review,
)
from serve_apps.fields import UUID_PATTERN, Answer, Body, Time
from serve_apps.media.urls import MediaUrls, MediaView

MediaIdText = Annotated[StrictStr, Field(pattern=UUID_PATTERN)]
ContentType = Literal[
    "image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "video/mp4", "video/quicktime", "video/webm"
]


class UploadBody(Body):
    """What is going to be uploaded: exactly so many bytes, whose SHA-256 is this."""

    kind: MediaKind
    content_type: ContentType
    bytes: Annotated[StrictInt, Field(ge=1, le=1 << 40, description="size of the file")]
    sha256: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$", description="of the file, in hex")]

    @model_validator(mode="after")
    def _type_of_kind(self) -> Self:
        if self.content_type not in (IMAGE_TYPES if self.kind == "image" else VIDEO_TYPES):
            raise ValueError("contentType is not one of this kind")
        return self


class UploadRequest(Answer):
    """One request to make as it is: with these headers, and a body of exactly ``bytes``."""

    method: Literal["PUT"]
    url: str
    headers: dict[str, str]
    bytes: int


class Upload(Answer):
    """An upload that was granted. ``requests``: one, or one for each part of the file, in order.

    When all were answered 200, call ``complete``. Nothing works after ``expiresAt``.
    """

    media_id: str
    state: MediaState
    requests: list[UploadRequest]
    expires_at: Time


class OwnMedia(Answer):
    """A media as its owner, or whoever may get it, sees it. ``view`` is there once it is ready.

    Others see it once ``review`` is approved. ``reason``: why it was rejected or removed.
    """

    media_id: str
    kind: MediaKind
    state: MediaState
    review: Review
    reason: str | None
    view: MediaView | None

    @classmethod
    def of(cls, record: MediaRecord, urls: MediaUrls) -> Self:
        """The media with everything that is there of it."""
        return cls(
            media_id=record.media_id, kind=record.kind, state=record.state, review=record.review, reason=record.reason,
            view=urls.full(record) if record.state == "ready" else None,
        )


class PhotosBody(Body):
    """Ids of one's own images, in order; none takes all photos off the profile."""

    media_ids: Annotated[list[MediaIdText], Field(max_length=PHOTOS)]

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.media_ids)) != len(self.media_ids):
            raise ValueError("mediaIds must differ")
        return self


class Photos(Answer):
    """The profile's photos in order. Others see those that are approved; the first of those is the avatar."""

    photos: list[OwnMedia]
