"""Who is told what: pure decisions from events, the people's preferences and what the rows say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from configs.contracts.events import DeviceRegistered, DeviceRemoved, Event, Matched, NotificationSent, SessionRevoked
from configs.contracts.ids import derived_id
from configs.contracts.notifying import DEFAULTS, Kind, Preferences

BURST: Final = timedelta(hours=1)
"""Likes of so long are told as one notification."""
LIKERS_KEPT: Final = 100
"""People told apart in one burst; of more the count says no more."""
EXACT: Final = 10
"""Up to here each like renews the notification, then every tenth does."""

Wishes = Mapping[str, Preferences | None]
"""Person -> what they want; None: not to be told anything (no longer active). Who is missing wants everything."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Likes that one person got since ``opened_at``, and the count that they were told last.

    ``likers``: who liked, as far as they may be met again; ``others``: how many more there are.
    """

    opened_at: datetime
    likers: tuple[str, ...] = ()
    told: int = 0
    others: int = 0

    def liked(self, liker: str, at: datetime) -> Burst:
        """After a like; one that comes an hour after the burst opened begins the next."""
        if at - self.opened_at >= BURST:
            return Burst(at, (liker,))
        if liker in self.likers or self.count >= LIKERS_KEPT:
            return self
        return replace(self, likers=(*self.likers, liker))

    def withdrawn(self, liker: str) -> Burst:
        """After a like was undone. What was told stays told."""
        return replace(self, likers=tuple(other for other in self.likers if other != liker))

    @property
    def count(self) -> int:
        """How many people like them, up to LIKERS_KEPT."""
        return self.others + len(self.likers)

    @property
    def is_news(self) -> bool:
        """Whether the count deserves to be told: it is higher than what was told, and not at every single like."""
        count = self.count
        return count > self.told and (count <= EXACT or count % EXACT == 0)


def likes(user_id: str, burst: Burst, cause: Event, wishes: Wishes) -> Event | None:
    """What tells a person how many people like them, never who; renews the notification that the burst began with."""
    wish = wishes.get(user_id, DEFAULTS)
    renews = burst.told > 0
    count = burst.count
    if wish is None or not burst.is_news or not _wanted(wish, "like", renews=renews):
        return None
    more = "+" if count > EXACT else ""
    return _notification(
        derived_id(f"{user_id}:{int(burst.opened_at.timestamp() * 1_000)}", "likes"), cause, user_id, "like",
        "Someone likes you" if count == 1 else f"{count}{more} people like you", {"count": str(count)}, wish,
        event_id=derived_id(cause.event_id, "notify"), renews=renews,
    )


def super_like(user_id: str, cause: Event, wishes: Wishes) -> Event | None:
    """A super like is told by itself, without who gave it."""
    wish = wishes.get(user_id, DEFAULTS)
    if wish is None or not _wanted(wish, "super_like"):
        return None
    return _notification(
        derived_id(cause.event_id, "notify"), cause, user_id, "super_like", "Someone super liked you", {}, wish
    )


def match(cause: Event, wishes: Wishes) -> list[Event]:
    """Both sides of a match are told, with the same ids on every repetition."""
    payload: Matched = cause.payload
    told = []
    for user, other in ((payload.low_id, payload.high_id), (payload.high_id, payload.low_id)):
        wish = wishes.get(user, DEFAULTS)
        if wish is not None and _wanted(wish, "match"):
            data = {"matchId": payload.match_id, "userId": other}
            told.append(_notification(
                derived_id(cause.event_id, f"notify:{user}"), cause, user, "match", "It's a match!", data, wish
            ))
    return told


def told(
    cause: Event, user_id: str, kind: Kind, title: str, data: dict[str, str], wishes: Wishes, *, notification_id: str
) -> Event | None:
    """A notification that stands by itself, with the same id on every repetition; None: the person does not want it."""
    wish = wishes.get(user_id, DEFAULTS)
    if wish is None or not _wanted(wish, kind):
        return None
    return _notification(notification_id, cause, user_id, kind, title, data, wish)


@dataclass(frozen=True, slots=True)
class Registration:
    """A device that is its owner's, by the event that made it so."""

    device_id: str
    registration: str


def crowded_out(cause: Event, too_many: Mapping[str, tuple[Registration, ...]]) -> list[Event]:
    """The removal of a person's oldest devices, when a registration made them too many."""
    payload: DeviceRegistered = cause.payload
    return [
        Event(
            derived_id(device.registration, "too_many"), cause.occurred_at, device.device_id,
            DeviceRemoved(
                device_id=device.device_id, user_id=payload.user_id, reason="too_many", registration=device.registration
            ),
        )
        for device in too_many.get(payload.user_id, ())
    ]


def signed_out(cause: Event, devices: Sequence[Registration]) -> list[Event]:
    """The removal of devices that a session had registered, when it has ended."""
    payload: SessionRevoked | DeviceRegistered = cause.payload
    return [
        Event(
            derived_id(device.registration, "signed_out"), cause.occurred_at, device.device_id,
            DeviceRemoved(
                device_id=device.device_id, user_id=payload.user_id, reason="signed_out", registration=device.registration
            ),
        )
        for device in devices
    ]


def _wanted(wish: Preferences, kind: Kind, *, renews: bool = False) -> bool:
    """A renewal shows in the list only: it is not pushed again."""
    return wish.wants(kind, "list") or (wish.wants(kind, "push") and not renews)


def _notification(
    notification: str, cause: Event, user_id: str, kind: Kind, title: str, data: dict[str, str], wish: Preferences, *,
    event_id: str | None = None, renews: bool = False,
) -> Event:
    return Event(
        event_id or notification, cause.occurred_at, user_id,
        NotificationSent(
            notification_id=notification, user_id=user_id, kind=kind, title=title, data=data, renews=renews,
            in_list=wish.wants(kind, "list"),
        ),
    )
