"""Uploads of a person, what became of them, and which of them are the profile's photos. All in one order a person."""

from __future__ import annotations

from typing import ClassVar, Literal

from configs.contracts import topics
from configs.contracts.events.base import Id, Payload
from configs.contracts.media import MediaKind, RejectReason, RemoveReason, Rendition, Review
from configs.contracts.topics import Topic


class MediaRequested(Payload, frozen=True, kw_only=True):
    """An upload was granted: ``size`` bytes whose SHA-256 (hex) is ``sha256``. ``multipart``: it is made in parts."""

    TYPE: ClassVar[str] = "media_requested"
    media_id: Id
    owner_id: Id
    kind: MediaKind
    content_type: str
    size: int
    sha256: str
    multipart: str | None = None


class MediaUploaded(Payload, frozen=True, kw_only=True):
    """The upload is whole and waits to be processed."""

    TYPE: ClassVar[str] = "media_uploaded"
    media_id: Id
    owner_id: Id


class MediaProcessed(Payload, frozen=True, kw_only=True):
    """Derivatives are stored. ``hashes``: PDQ of the picture and of crops of it (hex), for block lists.

    ``review`` is what the classifier says; pending: a person decides.
    """

    TYPE: ClassVar[str] = "media_processed"
    media_id: Id
    owner_id: Id
    content_type: str
    width: int
    height: int
    duration_ms: int = 0
    derivatives: tuple[str, ...] = ()
    renditions: tuple[Rendition, ...] = ()
    hashes: tuple[str, ...] = ()
    scores: dict[str, float] = {}  # noqa: RUF012 - msgspec copies an empty default
    review: Review = "pending"


class MediaRejected(Payload, frozen=True, kw_only=True):
    """It was not accepted, and what was uploaded is gone.

    ``matched``: the block list that it is on, ``distance`` bits away; ``preserved``: the upload is kept for the authorities.
    """

    TYPE: ClassVar[str] = "media_rejected"
    media_id: Id
    owner_id: Id
    reason: RejectReason
    matched: str | None = None
    distance: int | None = None
    preserved: bool = False
    hashes: tuple[str, ...] = ()


class MediaReviewed(Payload, frozen=True, kw_only=True):
    """The moderation has decided about a processed media; the newest decision counts. Derived from ``decision_id``."""

    TYPE: ClassVar[str] = "media_reviewed"
    media_id: Id
    owner_id: Id
    verdict: Literal["approved", "rejected"]
    decision_id: Id


class MediaRemoved(Payload, frozen=True, kw_only=True):
    """Nobody gets a URL from now on, and nothing that was served of it is there any more.

    ``block``: its hashes go on the block list ``removed``, so that it cannot be uploaded again. ``decision_id``: what the
    moderation decided; unless it is blocked, the end of that decision brings it back. Otherwise it is gone for good.
    """

    TYPE: ClassVar[str] = "media_removed"
    media_id: Id
    owner_id: Id
    reason: RemoveReason
    block: bool = False
    decision_id: Id | None = None


class MediaRestored(Payload, frozen=True, kw_only=True):
    """The decision that removed it was reversed: it is as it was before. Says nothing of any other removal."""

    TYPE: ClassVar[str] = "media_restored"
    media_id: Id
    owner_id: Id
    decision_id: Id


class PhotosArranged(Payload, frozen=True, kw_only=True):
    """The profile's photos, in order; those that are not approved yet are shown once they are."""

    TYPE: ClassVar[str] = "photos_arranged"
    owner_id: Id
    media_ids: tuple[Id, ...]
    idempotency_key: str | None = None
    body_digest: str | None = None


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.MEDIA_UPLOADED, MediaRequested),
    (topics.MEDIA_UPLOADED, MediaUploaded),
    (topics.MEDIA_UPLOADED, MediaProcessed),
    (topics.MEDIA_UPLOADED, MediaRejected),
    (topics.MEDIA_UPLOADED, MediaReviewed),
    (topics.MEDIA_UPLOADED, MediaRemoved),
    (topics.MEDIA_UPLOADED, MediaRestored),
    (topics.MEDIA_UPLOADED, PhotosArranged),
)
