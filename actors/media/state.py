"""What one person may upload, and what became of it: pure decisions on albums, rebuilt from rows and the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from actors.entries import Entries
from actors.folded import Folded
from actors.idempotency import LIFETIME, IdempotencyConflict, request_key
from actors.media.commands import (
    Arranged,
    ArrangePhotos,
    CompleteUpload,
    FindMedia,
    Found,
    MediaUnknown,
    RemoveMedia,
    RequestUpload,
    ReviewMedia,
    UploadExpired,
    UploadLimit,
)
from actors.sharding.memory import Append, Decision
from configs.contracts.albums import Album, MediaRow, album_after, shown_photos
from configs.contracts.changes import rfc3339
from configs.contracts.events import (
    Event,
    MediaRemoved,
    MediaRequested,
    MediaReviewed,
    MediaUploaded,
    Payload,
    PhotosArranged,
)
from configs.contracts.ids import derived_id, new_id
from configs.contracts.media import MediaRecord
from configs.contracts.topics import MEDIA_UPLOADED
from configs.settings import Media

MediaCommand = RequestUpload | FindMedia | CompleteUpload | ReviewMedia | RemoveMedia | ArrangePhotos
MediaAnswer = Found | Arranged | MediaUnknown | UploadExpired | UploadLimit | IdempotencyConflict

AboutMedia = MediaRequested | MediaUploaded | MediaReviewed | MediaRemoved

GRACE_S: Final = 300
"""An upload that was begun in time may still be completed for so long."""
SCOPE: Final = "arrangePhotos"
_STORED: Final = ("pending", "uploaded", "ready")


def _album() -> Folded[Album]:
    return Folded(album_after)


class AlbumMemory:
    """Albums in memory, one a person."""

    def __init__(self, limits: Media) -> None:
        self._limits = limits
        self._albums: Entries[Folded[Album]] = Entries(_album)

    def needs(self, command: MediaCommand) -> Sequence[str]:
        return (command.owner_id,)

    def known(self, key: str) -> bool:
        album = self._albums.get(key)
        return album is not None and album.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges an ``Album``; None: the person never uploaded anything."""
        self._albums.use(key).load(row if isinstance(row, Album) else None)

    def conflict_key(self, command: MediaCommand) -> str:
        return command.owner_id

    def decide(self, command: MediaCommand, now: datetime) -> Decision[MediaAnswer]:
        folded = self._albums.get(command.owner_id)
        album = (folded.row if folded is not None else None) or Album(command.owner_id)
        if isinstance(command, ArrangePhotos):
            return self._arrange(album, command, now)
        row = album.media.get(command.media_id)
        if isinstance(command, RequestUpload):
            return self._request(album, row or album.withheld.get(command.media_id), command, now)
        if row is None:
            return _answer(MediaUnknown(command.media_id))
        if isinstance(command, FindMedia):
            return _answer(_found(album, row))
        if isinstance(command, CompleteUpload):
            return self._complete(album, row, now)
        if isinstance(command, ReviewMedia):
            if row.record.state != "ready":
                return _answer(MediaUnknown(command.media_id))
            if row.decision_id == command.decision_id:
                return _answer(_found(album, row))
            return self._decided(album, MediaReviewed(
                media_id=command.media_id, owner_id=command.owner_id, verdict=command.verdict,
                decision_id=command.decision_id,
            ), derived_id(command.decision_id, "media"), now)
        return self._decided(album, MediaRemoved(
            media_id=command.media_id, owner_id=command.owner_id, reason=command.reason, block=command.block
        ), new_id(), now)

    def _request(
        self, album: Album, row: MediaRow | None, command: RequestUpload, now: datetime
    ) -> Decision[MediaAnswer]:
        if row is not None:
            asked = (command.kind, command.content_type, command.size, command.sha256)
            record = row.record
            same = record.state != "pending" or (record.kind, record.content_type, record.size, record.sha256) == asked
            return _answer(_found(album, row) if same else IdempotencyConflict())
        if command.media_id in album.removed:
            gone = MediaRecord(
                media_id=command.media_id, owner_id=album.owner_id, kind=command.kind, state="removed", created_at=rfc3339(now)
            )
            return _answer(Found(gone, 0, None, album.shown(), album.version))
        limit = self._exceeded(album, command.size, now)
        if limit is not None:
            return _answer(limit)
        return self._decided(album, MediaRequested(
            media_id=command.media_id, owner_id=command.owner_id, kind=command.kind, content_type=command.content_type,
            size=command.size, sha256=command.sha256, multipart=command.multipart,
        ), new_id(), now)

    def _exceeded(self, album: Album, size: int, now: datetime) -> UploadLimit | None:
        lasting = timedelta(seconds=self._limits.upload_ttl_s)
        rows = [row for row in album.media.values() if row.record.state != "pending" or now - row.requested_at < lasting]
        openings = [row.requested_at for row in rows if row.record.state == "pending"]
        if len(openings) >= self._limits.open_uploads_per_user:
            return UploadLimit("open_uploads", max(1, int((min(openings) + lasting - now).total_seconds())))
        if len(rows) >= self._limits.items_per_user:
            return UploadLimit("items", 0)
        if size + sum(row.record.size for row in rows if row.record.state in _STORED) > self._limits.bytes_per_user:
            return UploadLimit("bytes", 0)
        return None

    def _complete(self, album: Album, row: MediaRow, now: datetime) -> Decision[MediaAnswer]:
        if row.record.state != "pending":
            return _answer(_found(album, row))
        if now - row.requested_at > timedelta(seconds=self._limits.upload_ttl_s + GRACE_S):
            return _answer(UploadExpired())
        return self._decided(
            album, MediaUploaded(media_id=row.record.media_id, owner_id=album.owner_id), new_id(), now
        )

    def _arrange(self, album: Album, command: ArrangePhotos, now: datetime) -> Decision[MediaAnswer]:
        if command.look:
            return _answer(_arranged(album, album.photos, 0))
        key = None if command.idempotency_key is None else request_key(SCOPE, command.idempotency_key)
        for request in album.requests:
            if key is not None and request.key == key and now - request.at < LIFETIME:
                if request.body_digest != (command.body_digest or ""):
                    return _answer(IdempotencyConflict())
                return _answer(_arranged(album, album.photos, 0))
        for media_id in command.media_ids:
            row = album.media.get(media_id)
            if row is None or row.record.kind != "image" or row.record.state not in ("uploaded", "ready"):
                return _answer(MediaUnknown(media_id))
        if command.media_ids == album.photos and key is None:
            return _answer(_arranged(album, album.photos, 0))
        payload = PhotosArranged(
            owner_id=command.owner_id, media_ids=command.media_ids, idempotency_key=key,
            body_digest=None if key is None else command.body_digest,
        )
        event = Event(new_id(), now, album.owner_id, payload)
        return Decision(
            (Append(MEDIA_UPLOADED, event.key, event),),
            lambda versions: _arranged(after := self._now(command.owner_id), after.photos, after.version),
        )

    def _now(self, owner_id: str) -> Album:
        """The album as it is: what others appended before an answer's event is in memory by then."""
        folded = self._albums.get(owner_id)
        assert folded is not None
        assert folded.row is not None
        return folded.row

    def _decided(self, album: Album, payload: AboutMedia, event_id: str, now: datetime) -> Decision[MediaAnswer]:
        """Appends one event about one media; the answer is what the fold makes of it."""
        event = Event(event_id, now, album.owner_id, payload)

        def answer(versions: tuple[int, ...]) -> MediaAnswer:
            after = self._now(album.owner_id)
            row = after.media.get(payload.media_id) or after.withheld.get(payload.media_id)
            if row is not None:
                return _found(after, row, row.version)
            if not isinstance(payload, MediaRemoved):
                return MediaUnknown(payload.media_id)
            # Gone from the album, told once more.
            record = msgspec.structs.replace(album.media[payload.media_id].record, state="removed", reason=payload.reason)
            return Found(record, versions[0], None, after.shown(), after.version)

        return Decision((Append(MEDIA_UPLOADED, event.key, event),), answer)

    def apply(self, event: Event, version: int) -> None:
        if isinstance(event.payload, Payload) and hasattr(event.payload, "owner_id"):
            self._albums.use(event.payload.owner_id).take(event, version)

    def entries(self) -> int:
        return len(self._albums)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._albums.evict(limit, lambda key, album: album.newest < committed(key))


def _answer(answer: MediaAnswer) -> Decision[MediaAnswer]:
    return Decision((), lambda versions: answer)


def _found(album: Album, row: MediaRow, version: int = 0) -> Found:
    return Found(row.record, version, row.multipart, album.shown(), album.version)


def _arranged(album: Album, photos: tuple[str, ...], version: int) -> Arranged:
    records: dict[str, MediaRecord] = {media_id: row.record for media_id, row in album.media.items()}
    return Arranged(
        tuple(records[media_id] for media_id in photos if media_id in records), shown_photos(photos, records), version
    )
