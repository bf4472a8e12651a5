"""What a media shard is asked, and what it answers. Its key is the owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from actors.idempotency import IdempotencyConflict
from configs.contracts.media import MediaKind, MediaRecord, RemoveReason

__all__ = [
    "SERVICE", "ArrangePhotos", "Arranged", "CompleteUpload", "FindMedia", "Found", "IdempotencyConflict", "MediaUnknown",
    "RemoveMedia", "RequestUpload", "ReviewMedia", "UploadExpired", "UploadLimit",
]

SERVICE: Final = "media"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestUpload:
    """Grant an upload, once per ``media_id``: the caller derives it from the Idempotency-Key, when there is one."""

    owner_id: str
    media_id: str
    kind: MediaKind
    content_type: str
    size: int
    sha256: str
    multipart: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindMedia:
    """The media as its shard knows it: newer than the read model."""

    owner_id: str
    media_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteUpload:
    """The upload is whole; the caller has looked at the store."""

    owner_id: str
    media_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewMedia:
    """The moderation's decision about a processed media."""

    owner_id: str
    media_id: str
    verdict: Literal["approved", "rejected"]
    decision_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMedia:
    """Take a media away for good. ``block``: nobody can upload it again."""

    owner_id: str
    media_id: str
    reason: RemoveReason
    block: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrangePhotos:
    """Put the profile's photos in this order; all are the owner's images that were not rejected.

    ``look``: leave them as they are and say how.
    """

    owner_id: str
    media_ids: tuple[str, ...]
    idempotency_key: str | None = None
    body_digest: str | None = None
    look: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The media as it is now. ``version`` 0: nothing was recorded, it was so before."""

    record: MediaRecord
    version: int
    multipart: str | None
    photos: tuple[str, ...]
    """The profile's photos that others see now."""
    album_version: int


@dataclass(frozen=True, slots=True)
class Arranged:
    """The profile's photos: all in order, and those that others see. ``version`` 0: it was so before."""

    photos: tuple[MediaRecord, ...]
    shown: tuple[str, ...]
    version: int


@dataclass(frozen=True, slots=True)
class MediaUnknown:
    """The owner has no such media (any more), or not one that this can be done with; nothing was recorded."""

    media_id: str


@dataclass(frozen=True, slots=True)
class UploadExpired:
    """The upload was open for too long; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class UploadLimit:
    """The owner has as much as one may have; nothing was recorded."""

    of: Literal["open_uploads", "items", "bytes"]
    retry_after_s: int
