"""How people look on cards: JSON made once from a record and used again as long as the record is the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import msgspec

from configs.contracts.events import Role
from configs.contracts.people import Bucket
from configs.contracts.read_model import UserRecord, read_record
from serve_apps.media.urls import MediaUrls
from serve_apps.views import Moment, bucket_changes_at

FACES: Final = 32_768
"""Faces one replica keeps, some 1 KB each; past it the one made first is forgotten."""


class Card(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A person to swipe. ``distanceKm``: whole kilometres between grid cells, at least 2; null when hidden."""

    user_id: str
    display_name: str
    age: int
    bio: str
    avatar_url: str | None
    role: Role
    distance_km: int | None
    verified: bool
    last_active_bucket: Bucket
    impression_id: str


class Face(NamedTuple):
    """A card without what belongs to one response: ``head`` + distance + ``tail`` + impression id + ``END``.

    True of the record ``raw`` until ``until_s`` (Unix seconds), when the age or the time since the last activity may
    have changed. ``match_version``: the record's, 8 bytes big-endian.
    """

    raw: bytes
    until_s: float
    shown: bool
    match_version: bytes
    hides_distance: bool
    head: bytes
    tail: bytes


_ENCODER: Final = msgspec.json.Encoder()
_DISTANCE: Final = b',"distanceKm":null,'
"""Within a string its quotes would be escaped."""
END: Final = b'"}'
_NEVER: Final = float("inf")
NO_VERSION: Final = bytes(8)


class Faces:
    """Faces of people whom this replica has shown."""

    def __init__(self, urls: MediaUrls, limit: int = FACES) -> None:
        self._urls = urls
        self._limit = limit
        self._known: dict[str, Face] = {}
        self.made = 0

    def all(self, user_ids: Sequence[str], raws: Sequence[bytes | None], now_s: float) -> list[Face | None]:
        """``of`` for many; None for those without a record."""
        known = self._known.get
        found: list[Face | None] = []
        for user_id, raw in zip(user_ids, raws, strict=True):
            face = known(user_id)
            if raw is None:
                face = None
            elif face is None or face.raw != raw or now_s >= face.until_s:
                face = self.of(user_id, raw, now_s)
            found.append(face)
        return found

    def of(self, user_id: str, raw: bytes, now_s: float) -> Face:
        """The face of the person whose record is ``raw``."""
        known = self._known.get(user_id)
        if known is not None and known.raw == raw and now_s < known.until_s:
            return known
        self.made += 1
        if known is None and len(self._known) >= self._limit:
            del self._known[next(iter(self._known))]
        face = self._known[user_id] = made(raw, now_s, self._urls)
        return face


def made(raw: bytes, now_s: float, urls: MediaUrls) -> Face:
    """The face of a record at a time in Unix seconds."""
    record = read_record(raw)
    if not (record.exists and record.discoverable):
        return Face(raw, float("inf"), False, NO_VERSION, False, b"", b"")
    moment = Moment.about(now_s)
    head, _, tail = _ENCODER.encode(_card(record, moment, urls.avatar(record.photos, now_s))).partition(_DISTANCE)
    return Face(
        raw, min(_changes_at(record, moment), urls.changes_at(now_s) if record.photos else _NEVER), True, bytes.fromhex(record.match_version or "00" * 8), record.hide_distance,
        head + _DISTANCE[: -len(b"null,")], b"," + tail.removesuffix(END),
    )


def _card(record: UserRecord, moment: Moment, avatar_url: str | None) -> Card:
    assert record.role is not None
    return Card(
        record.user_id, record.display_name, moment.age(record), record.bio, avatar_url, record.role, None, record.verified,
        moment.bucket(record.last_active_at), "",
    )


def _changes_at(record: UserRecord, moment: Moment) -> float:
    """When the card may look different: at midnight (ages), or when the last activity falls into another bucket."""
    midnight = moment.at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return min(midnight.timestamp(), bucket_changes_at(record.last_active_at, moment))
