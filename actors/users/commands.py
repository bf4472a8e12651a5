"""What a user shard is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from actors.idempotency import IdempotencyConflict
from configs.contracts.events import (
    AgeAssessed,
    CommentDeleted,
    ConsentChanged,
    ContentCommented,
    ContentLiked,
    ContentUnliked,
    DeviceRegistered,
    DeviceRemoved,
    Followed,
    LocationChanged,
    NotificationPreferencesChanged,
    NotificationRead,
    NotificationSent,
    NotificationsRead,
    PaymentPartiesChanged,
    PreferencesChanged,
    ProfileChanged,
    Unfollowed,
    UserBlocked,
    UserReported,
    UserUnblocked,
    WasActive,
)

__all__ = ["SERVICE", "IdempotencyConflict", "LimitReached", "Record", "RecordPayload", "Recorded"]

SERVICE = "users"

RecordPayload = (
    ProfileChanged
    | PreferencesChanged
    | PaymentPartiesChanged
    | NotificationPreferencesChanged
    | LocationChanged
    | WasActive
    | UserBlocked
    | UserUnblocked
    | UserReported
    | AgeAssessed
    | ConsentChanged
    | NotificationSent
    | NotificationRead
    | NotificationsRead
    | DeviceRegistered
    | DeviceRemoved
    | ContentLiked
    | ContentUnliked
    | ContentCommented
    | CommentDeleted
    | Followed
    | Unfollowed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Record one fact that ``user_id`` states (or, for notifications, receives), once per Idempotency-Key.

    ``topic_key`` is the record's key where the payload does not tell it.
    ``scope`` names the route, so that one client key may serve several routes.
    """

    user_id: str
    payload: RecordPayload
    topic_key: str | None = None
    scope: str = ""
    idempotency_key: str | None = None
    body_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The fact is durable. ``payload`` is what was recorded, with the ids the shard filled in.

    ``replayed``: the key names an earlier request; ``event_id`` is that one's, ``payload`` None and ``version`` 0.
    ``at``: the time of the event.
    """

    event_id: str
    version: int
    replayed: bool
    payload: RecordPayload | None
    at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Too many location changes, or comments; nothing was recorded."""

    retry_after_s: int
