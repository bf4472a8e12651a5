"""Media: the record that the read model holds of each upload, and the names of what is stored of it.

keys of the store: ``quarantine/{media}`` what was uploaded, until it is processed · ``media/{media}/{name}`` derivatives
· ``preview/{derived id}.webp`` the blurred preview, whose name tells nobody which media it is of · ``preserved/{media}``
evidence, never served · ``withheld/{media}/{name}`` what was served until a decision that may be reversed. The upload itself is not kept: it holds what a camera wrote into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from configs.contracts.ids import derived_id

MediaKind = Literal["image", "video"]
MediaState = Literal["pending", "uploaded", "ready", "rejected", "removed"]
"""pending: the upload is open · uploaded: complete, being processed · ready: derivatives exist."""
Review = Literal["pending", "approved", "rejected"]
RejectReason = Literal[
    "checksum_mismatch", "size_mismatch", "type_mismatch", "unreadable", "too_large", "too_long", "blocked", "abandoned"
]
"""Why it was not accepted. ``blocked``: it is on a block list, or the classifier refuses it."""
RemoveReason = Literal["owner", "moderation", "intimate_image", "account_deleted"]

IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif")
VIDEO_TYPES: Final = ("video/mp4", "video/quicktime", "video/webm")
PHOTOS: Final = 9
"""Photos that a profile shows at most."""

LARGE: Final = "large.webp"
"""An image as subscribers see it."""
THUMB: Final = "thumb.webp"
"""An image, or a video's first picture, for lists and avatars."""
POSTER: Final = "poster.webp"
"""What a video shows before it plays."""
SEGMENTS: Final = "{height}p.mp4"
"""One rendition of a video: fragmented MP4 in one object, whose segments are byte ranges."""


class Rendition(msgspec.Struct, frozen=True, rename="camel"):
    """One step of a video's ladder. ``segments``: ``milliseconds:bytes`` of each, in order, separated by commas."""

    name: str
    width: int
    height: int
    bandwidth: int
    """Bits a second at the peak."""
    codecs: str
    init_bytes: int
    """Length of the part before the first segment."""
    segments: str


class MediaRecord(msgspec.Struct, frozen=True, rename="camel"):
    """One upload as the API sees it. Never sent out whole: ``serve_apps.media.urls`` says what a viewer may get."""

    media_id: str
    owner_id: str
    kind: MediaKind
    state: MediaState = "pending"
    review: Review = "pending"
    content_type: str = ""
    """As declared; once ready, the real one."""
    size: int = 0
    """Bytes of the upload."""
    sha256: str = ""
    width: int = 0
    height: int = 0
    duration_ms: int = 0
    derivatives: tuple[str, ...] = ()
    """Names that exist under ``derivative_key``."""
    renditions: tuple[Rendition, ...] = ()
    reason: str | None = None
    """Why it was rejected or removed."""
    created_at: str = ""

    @property
    def published(self) -> bool:
        """Whether anybody but its owner and moderators may get it: processed, and approved by the moderation."""
        return self.state == "ready" and self.review == "approved"


def quarantine_key(media_id: str) -> str:
    return f"quarantine/{media_id}"


def preserved_key(media_id: str) -> str:
    return f"preserved/{media_id}"


def derivatives_folder(media_id: str) -> str:
    """What all derivatives of a media are below."""
    return f"media/{media_id}"


def derivative_key(media_id: str, name: str) -> str:
    return f"{derivatives_folder(media_id)}/{name}"


def preview_key(media_id: str) -> str:
    """Where the blurred preview is; nobody derives the media from it."""
    return f"preview/{derived_id(media_id, 'preview')}.webp"


def withheld_key(media_id: str, key: str) -> str:
    """Where what was served of a media under a key waits for the end of a decision."""
    return f"withheld/{media_id}/{key.rpartition('/')[2]}"


def best_derivative(record: MediaRecord) -> str:
    """The name of what shows most of a media that has derivatives."""
    return LARGE if record.kind == "image" else record.derivatives[-1]


def stored_keys(record: MediaRecord) -> Iterator[str]:
    """Everything that is served of a media."""
    for name in record.derivatives:
        yield derivative_key(record.media_id, name)
    yield preview_key(record.media_id)
