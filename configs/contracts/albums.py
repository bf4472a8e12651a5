"""What a person's media add up to: one fold, for the shard that decides and for the rows that remember.

The read model holds ``media:{m}`` a ``MediaRecord`` each, and in the owner's record the ids of the photos that are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import msgspec

from configs.contracts.changes import rfc3339
from configs.contracts.events import (
    Event,
    MediaProcessed,
    MediaRejected,
    MediaRemoved,
    MediaRequested,
    MediaRestored,
    MediaReviewed,
    MediaUploaded,
    PhotosArranged,
)
from configs.contracts.media import PHOTOS, MediaRecord, Review
from configs.contracts.positions import version_text
from configs.contracts.read_model import Operation, put_record, read_versioned

REQUESTS: Final = 16
"""Arrangements of photos that are remembered by their Idempotency-Key, for 24 hours."""
OPEN_FOR: Final = timedelta(days=2)
"""After this an upload that was never completed is forgotten; none may be open for longer than a day."""
REMOVED: Final = 4_096
"""Ids of what is gone for good that are remembered, the newest: more than one may hold and begin to upload in a day, so that
none is forgotten whose Idempotency-Key is a day old or younger. Rows know them all: whatever is uploaded under one that was
forgotten is never processed nor shown."""
EVIDENCE: Final = ("moderation", "intimate_image")
"""Reasons of a removal after which what was shown is kept as evidence, where nobody gets it."""
MediaEvent = MediaRequested | MediaUploaded | MediaProcessed | MediaRejected | MediaReviewed | MediaRemoved | MediaRestored


class MediaRow(msgspec.Struct, frozen=True, rename="camel"):
    """One media as the rows and its shard know it; ``version``: of the newest event that changed it."""

    record: MediaRecord
    requested_at: datetime
    version: int = 0
    multipart: str | None = None
    hashes: tuple[str, ...] = ()
    scores: dict[str, float] = {}
    matched: str | None = None
    distance: int | None = None
    preserved: bool = False
    blocked: bool = False
    """Its hashes are on the block list ``removed``."""
    decision_id: str | None = None
    removed_by: str | None = None
    """The decision that removed it and may be reversed."""
    removed_from: Review | None = None
    """How it had been reviewed before that."""


class ArrangeRequest(msgspec.Struct, frozen=True, rename="camel"):
    """A remembered arrangement of photos."""

    key: str
    body_digest: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Album:
    """All of one person's media that are not removed, and the profile's photos in order.

    ``withheld``: what a decision removed and its reversal would bring back; counts for nothing until then. ``removed``: ids of
    what is gone for good, under which nothing is uploaded again: the newest ``REMOVED``, oldest first.
    """

    owner_id: str
    version: int = 0
    """Of the person's newest event on media.uploaded."""
    photos: tuple[str, ...] = ()
    requests: tuple[ArrangeRequest, ...] = ()
    media: Mapping[str, MediaRow] = field(default_factory=dict)
    withheld: Mapping[str, MediaRow] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def shown(self) -> tuple[str, ...]:
        """The photos that others see."""
        return shown_photos(self.photos, {media_id: row.record for media_id, row in self.media.items()})


def shown_photos(photos: Iterable[str], records: Mapping[str, MediaRecord]) -> tuple[str, ...]:
    """Those of the photos that are approved images, in order, as many as a profile shows."""
    return tuple(
        media_id for media_id in photos
        if (record := records.get(media_id)) is not None and record.published and record.kind == "image"
    )[:PHOTOS]


def media_after(row: MediaRow | None, event: Event, version: int) -> MediaRow | None:
    """The media once an event of its owner was taken in; one that comes twice, late or at the wrong time changes nothing.

    The first outcome (processed or rejected) of an upload counts, and nothing follows its removal but the end of the
    decision that removed it, and before that a removal by somebody else or a later decision.
    """
    payload = event.payload
    if isinstance(payload, MediaRequested):
        return row if row is not None else MediaRow(
            MediaRecord(
                media_id=payload.media_id, owner_id=payload.owner_id, kind=payload.kind, content_type=payload.content_type,
                size=payload.size, sha256=payload.sha256, created_at=rfc3339(event.occurred_at),
            ),
            event.occurred_at, version, payload.multipart,
        )
    if row is None or version <= row.version or row.record.owner_id != payload.owner_id:
        return row
    state = row.record.state
    change = msgspec.structs.replace
    if isinstance(payload, MediaUploaded) and state == "pending":
        return change(row, version=version, record=change(row.record, state="uploaded"))
    if isinstance(payload, MediaProcessed) and state == "uploaded":
        return change(
            row, version=version, hashes=payload.hashes, scores=payload.scores,
            record=change(
                row.record, state="ready", review=payload.review, content_type=payload.content_type, width=payload.width,
                height=payload.height, duration_ms=payload.duration_ms, derivatives=payload.derivatives,
                renditions=payload.renditions,
            ),
        )
    if isinstance(payload, MediaRejected) and state in ("pending", "uploaded"):
        return change(
            row, version=version, hashes=payload.hashes, matched=payload.matched, distance=payload.distance,
            preserved=payload.preserved, record=change(row.record, state="rejected", reason=payload.reason),
        )
    if isinstance(payload, MediaReviewed) and state == "ready":
        return change(
            row, version=version, decision_id=payload.decision_id, record=change(row.record, review=payload.verdict)
        )
    final = isinstance(payload, MediaRemoved) and (payload.decision_id is None or payload.block)
    if isinstance(payload, MediaRemoved) and (state != "removed" or (row.removed_by is not None and final)):
        reversible = state == "ready" and not final
        return change(
            row, version=version, blocked=payload.block, preserved=row.preserved or payload.reason in EVIDENCE,
            record=change(row.record, state="removed", reason=payload.reason),
            removed_by=payload.decision_id if reversible else None, removed_from=row.record.review if reversible else None,
        )
    if isinstance(payload, MediaRemoved) and row.removed_by not in (None, payload.decision_id):
        return change(row, version=version, removed_by=payload.decision_id)  # the last word about it counts
    if isinstance(payload, MediaRemoved) and payload.reason in EVIDENCE and not (row.preserved and row.blocked >= payload.block):
        # Its owner was faster: what was kept of it stays, and its hashes are blocked all the same.
        return change(row, version=version, preserved=True, blocked=row.blocked or payload.block)
    if isinstance(payload, MediaRestored) and row.removed_from is not None and row.removed_by == payload.decision_id:
        return change(
            row, version=version, removed_by=None, removed_from=None,
            record=change(row.record, state="ready", review=row.removed_from, reason=None),
        )
    return row


def album_after(album: Album | None, event: Event, version: int) -> Album | None:
    """The person's album once an event was taken in, in the log's order."""
    payload = event.payload
    if not isinstance(payload, MediaEvent | PhotosArranged):
        return album
    album = album or Album(payload.owner_id)
    if version <= album.version:
        return album
    if isinstance(payload, PhotosArranged):
        return replace(
            album, version=version, photos=payload.media_ids, requests=requests_after(album.requests, event)
        )
    if payload.media_id in album.removed:
        return replace(album, version=version)
    before = album.media.get(payload.media_id) or album.withheld.get(payload.media_id)
    after = media_after(before, event, version)
    if after is before or after is None:
        return replace(album, version=version)
    oldest = event.occurred_at - OPEN_FOR
    media = {
        media_id: row for media_id, row in album.media.items()
        if row.record.state != "pending" or row.requested_at > oldest
    }
    withheld = dict(album.withheld)
    stands, reversible = after.record.state != "removed", after.removed_by is not None
    for place, holds in ((media, stands), (withheld, reversible)):
        place.pop(payload.media_id, None)
        if holds:
            place[payload.media_id] = after
    removed = album.removed if stands or reversible else (*album.removed, payload.media_id)[-REMOVED:]
    return replace(album, version=version, media=media, withheld=withheld, removed=removed)


def requests_after(requests: Sequence[ArrangeRequest], event: Event) -> tuple[ArrangeRequest, ...]:
    """The remembered arrangements once one was recorded."""
    payload = event.payload
    if payload.idempotency_key is None:
        return tuple(requests)
    kept = [request for request in requests if request.key != payload.idempotency_key]
    return (*kept, ArrangeRequest(payload.idempotency_key, payload.body_digest or "", event.occurred_at))[-REQUESTS:]


def media_key(media_id: str) -> str:
    """The key of its record in the read model."""
    return f"media:{{{media_id}}}"


def put_media(record: MediaRecord, version: int) -> Operation:
    """Puts a record into the read model unless a newer one is there."""
    return Operation("string", (media_key(record.media_id),), (version_text(version), msgspec.json.encode(record)))


_RECORDS: Final = msgspec.json.Decoder(MediaRecord)


def read_media(value: bytes) -> MediaRecord:
    """The record that ``put_media`` wrote."""
    return _RECORDS.decode(read_versioned(value)[1])


def put_photos(owner_id: str, photos: Sequence[str], version: int) -> Operation:
    """The photos that others see, in the owner's record; ``version``: the album's."""
    return put_record(owner_id, {"photos": photos}, version)
