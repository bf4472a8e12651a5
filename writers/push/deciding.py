"""Which event is worth a push, to whom, and what may stand on a lock screen: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from configs.contracts.events import Event, MessageSent, NotificationSent
from configs.contracts.ids import derived_id
from configs.contracts.notifying import DEFAULTS, Kind, Preferences, kind_of
from writers.push.provider import Message

WORTH: Final = timedelta(hours=1)
"""A push that is older is not sent: a restored backup, or a provider back after hours, must not repeat the past."""
RUN: Final = timedelta(seconds=30)
"""Messages of one conversation within so long are one push."""
PREVIEW_CHARACTERS: Final = 200
_ID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

SAFE: Final[Mapping[Kind, str]] = {
    "match": "You have a new match", "message": "You have a new message", "like": "Someone likes you",
    "super_like": "Someone super liked you", "system": "You have a new notification",
    "subscriber": "You have a new notification", "post": "You have a new notification", "tip": "You have a new notification",
    "purchase": "You have a new notification",
}
"""What stands on a lock screen unless the person allowed more: no names, no texts, and not that somebody sells or buys."""

Skipped = Literal["too_old", "gone", "blocked", "unwanted", "quiet", "acknowledged", "read", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Occasion:
    """Something that a person might be pushed. ``push_id`` is its idempotency key."""

    push_id: str
    collapse: str
    user_id: str
    kind: Kind
    at: datetime
    data: Mapping[str, str]
    title: str = field(repr=False, default="")
    body: str | None = field(repr=False, default=None)
    notification_id: str | None = None
    conversation_id: str | None = None
    seq: int = 0
    message_id: str | None = None
    other_id: str | None = None
    """Whom it is about: their name may be shown to those who allowed it."""


def occasion(event: Event) -> Occasion | None:
    """What a person might be pushed because of an event; None: nothing."""
    payload = event.payload
    if isinstance(payload, NotificationSent) and not payload.renews:
        kind, other = kind_of(payload.kind), payload.data.get("userId", "")
        return Occasion(
            payload.notification_id, payload.notification_id, payload.user_id, kind, event.occurred_at,
            {"kind": payload.kind, "notificationId": payload.notification_id, **payload.data}, payload.title, payload.body,
            notification_id=payload.notification_id if payload.in_list else None,
            other_id=other if _ID.fullmatch(other) else None,
        )
    if isinstance(payload, MessageSent):
        run = int(event.occurred_at.timestamp() // RUN.total_seconds())
        return Occasion(
            derived_id(f"{payload.conversation_id}:{payload.recipient_id}:{run}", "push"), payload.conversation_id,
            payload.recipient_id, "message", event.occurred_at,
            {"kind": "message", "conversationId": payload.conversation_id}, "", payload.content or None,
            conversation_id=payload.conversation_id, seq=payload.seq, message_id=payload.message_id,
            other_id=payload.sender_id,
        )
    return None


def newest(occasions: list[Occasion]) -> list[Occasion]:
    """One of each push, the last: of a run of messages the newest text."""
    return list({one.push_id: one for one in occasions}.values())


@dataclass(frozen=True, slots=True)
class Facts:
    """What rows and Redis say of the occasions of a batch."""

    wishes: Mapping[str, Preferences | None]
    names: Mapping[str, str]
    blocked: frozenset[tuple[str, str]]
    """(person, whom the occasion is about) where one of them blocks the other."""
    read: frozenset[str]
    """Ids of notifications that were read."""
    standing: frozenset[str]
    """Ids of messages that are in rows."""
    read_up_to: Mapping[tuple[str, str], int]
    """(conversation, reader) -> seq."""
    delivered_up_to: Mapping[tuple[str, str], int]
    """(conversation, person) -> seq that one of their devices holds."""
    acknowledged: frozenset[tuple[str, str]]
    """(person, notification) that a device acknowledged."""


def skipped(one: Occasion, facts: Facts, now: datetime) -> Skipped | None:
    """Why an occasion is not pushed; None: it is. A push that quiet hours hold back is dropped: it waits in the app."""
    if now - one.at > WORTH:
        return "too_old"
    wish = facts.wishes.get(one.user_id, DEFAULTS)
    if wish is None:
        return "gone"
    if one.other_id is not None and (one.user_id, one.other_id) in facts.blocked:
        return "blocked"
    if not wish.wants(one.kind, "push"):
        return "unwanted"
    if one.conversation_id is not None:
        place = (one.conversation_id, one.user_id)
        if one.message_id not in facts.standing:
            return "withdrawn"
        if facts.read_up_to.get(place, 0) >= one.seq:
            return "read"
        if facts.delivered_up_to.get(place, 0) >= one.seq:
            return "acknowledged"
    if one.notification_id is not None:
        if one.notification_id in facts.read:
            return "read"
        if (one.user_id, one.notification_id) in facts.acknowledged:
            return "acknowledged"
    return "quiet" if wish.quiet(now) else None


def message(one: Occasion, facts: Facts) -> Message:
    """What the person's devices show."""
    wish = facts.wishes.get(one.user_id, DEFAULTS)
    title, body = SAFE[one.kind], None
    name = facts.names.get(one.other_id or "", "")
    if wish is not None and wish.show_content:
        if one.kind == "message":
            title, body = name or title, _preview(one.body)
        elif one.kind == "match":
            title = f"It's a match with {name}!" if name else title
        elif one.kind not in ("like", "super_like"):
            title, body = one.title, _preview(one.body)
    return Message(one.push_id, one.collapse, title, body, dict(one.data), one.at + WORTH)


def _preview(text: str | None) -> str | None:
    if text is None or len(text) <= PREVIEW_CHARACTERS:
        return text
    return text[: PREVIEW_CHARACTERS - 1] + "…"
