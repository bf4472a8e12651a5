"""What a viewer gets of a media, once it was decided what the viewer may see: signed URLs of at most 10 minutes,
but for a video that plays already."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import time
from typing import Final, Literal

from cluster.connections.media.signing import UrlSigner, url_signer
from configs.contracts.media import LARGE, POSTER, THUMB, MediaKind, MediaRecord, derivative_key, preview_key
from configs.settings import Settings
from serve_apps.fields import Answer, Time

PLAYLIST: Final = "/api/v1/media/{media_id}/playlist.m3u8"
MARKED: Final = "/api/v1/media/{media_id}/marked.webp"
PAUSE_S: Final = 300
"""What the URL of a video's segments outlasts the video by: to load it, to pause, to go back."""
PictureName = Literal["large", "poster", "thumb"]
PICTURES: Final[Mapping[PictureName, str]] = {"large": LARGE, "poster": POSTER, "thumb": THUMB}
"""The derivatives that are pictures, and so can be marked."""


class MediaView(Answer):
    """A media as one viewer may see it. ``access`` preview: only ``previewUrl`` is there, a blurred picture.

    URLs work for 5 to 10 minutes (``expiresAt``) and are not to be stored; ask again for new ones.
    """

    media_id: str
    kind: MediaKind
    access: Literal["full", "preview"]
    width: int
    height: int
    duration_ms: int | None
    url: str | None
    """An image, or a video's HLS playlist. A path of this API when it begins with a slash; a picture there needs the token."""
    poster_url: str | None
    thumb_url: str | None
    preview_url: str
    expires_at: Time


class PhotoView(Answer):
    """A photo of a profile; its URLs work for 5 to 10 minutes."""

    media_id: str
    url: str
    thumb_url: str


class MediaUrls:
    """Mints URLs. Signs what it is asked to: whether the viewer is entitled is decided by the caller, before."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time) -> None:
        self._signer: UrlSigner = url_signer(settings)
        self._key = bytes.fromhex(settings.media.url_key.get_secret_value())
        self._clock = clock
        self._marks = settings.media.watermark

    def full(self, record: MediaRecord) -> MediaView:
        """Everything of a media, for its owner and for who is entitled. The media is ready."""
        now_s = self._clock()
        expires_s = self._signer.expires_s(now_s)
        sealed = f"expires={expires_s}&signature={self._seal(record.media_id, expires_s)}"

        def picture(name: PictureName) -> str:
            if self._marks:
                return f"{MARKED.format(media_id=record.media_id)}?name={name}&{sealed}"
            return self._signer.get(derivative_key(record.media_id, PICTURES[name]), now_s)

        video = record.kind == "video"
        return MediaView(
            media_id=record.media_id, kind=record.kind, access="full", width=record.width, height=record.height,
            duration_ms=record.duration_ms or None,
            url=f"{PLAYLIST.format(media_id=record.media_id)}?{sealed}" if video else picture("large"),
            poster_url=picture("poster") if video else None, thumb_url=picture("thumb"),
            preview_url=self._signer.get(preview_key(record.media_id), now_s), expires_at=datetime.fromtimestamp(expires_s, UTC),
        )

    def preview(self, record: MediaRecord) -> MediaView:
        """What somebody without access gets: the blurred preview and the outline, nothing that leads to more."""
        now_s = self._clock()
        return MediaView(
            media_id=record.media_id, kind=record.kind, access="preview", width=record.width, height=record.height,
            duration_ms=record.duration_ms or None, url=None, poster_url=None, thumb_url=None,
            preview_url=self._signer.get(preview_key(record.media_id), now_s),
            expires_at=datetime.fromtimestamp(self._signer.expires_s(now_s), UTC),
        )

    def avatar(self, photos: tuple[str, ...], now_s: float | None = None) -> str | None:
        """The URL of a profile's first approved photo (``UserRecord.photos``)."""
        if not photos:
            return None
        return self._signer.get(derivative_key(photos[0], THUMB), self._clock() if now_s is None else now_s)

    def photos(self, photos: tuple[str, ...]) -> list[PhotoView]:
        """A profile's approved photos."""
        now_s = self._clock()
        return [
            PhotoView(
                media_id=media_id, url=self._signer.get(derivative_key(media_id, LARGE), now_s),
                thumb_url=self._signer.get(derivative_key(media_id, THUMB), now_s),
            )
            for media_id in photos
        ]

    def changes_at(self, now_s: float) -> float:
        """Until when the same URLs are made as now, in Unix seconds."""
        return float(self._signer.renewed_s(now_s))

    def segments(self, record: MediaRecord, name: str) -> str:
        """The URL of one rendition's object; its segments are byte ranges of it.

        It works until the video was played through once: players never read the playlist of a finished video again.
        """
        return self._signer.lasting(derivative_key(record.media_id, name), self._clock(), -(-record.duration_ms // 1_000) + PAUSE_S)

    def stored(self, key: str) -> tuple[str, int]:
        """The URL of one object as it is stored, and when it ends (Unix seconds)."""
        now_s = self._clock()
        return self._signer.get(key, now_s), self._signer.expires_s(now_s)

    def opens(self, media_id: str, expires_s: int, seal: str) -> bool:
        """Whether the URL of a playlist or a marked picture is one that ``full`` made and has not ended."""
        return expires_s > self._clock() and hmac.compare_digest(seal, self._seal(media_id, expires_s))

    def _seal(self, media_id: str, expires_s: int) -> str:
        return hmac.new(self._key, f"playlist\n{media_id}\n{expires_s}".encode(), hashlib.sha256).hexdigest()
