"""What people may be told of, by which channel, and when they want silence: pure, shared by the API and the writers."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from configs.contracts.events import Platform
from configs.contracts.ids import derived_id

Kind = Literal["match", "message", "like", "super_like", "system", "subscriber", "post", "tip", "purchase"]
Channel = Literal["list", "push"]

KINDS: Final[tuple[Kind, ...]] = ("match", "message", "like", "super_like", "system", "subscriber", "post", "tip", "purchase")
_KINDS: Final[dict[str, Kind]] = {kind: kind for kind in KINDS}
DEVICES_A_PERSON: Final = 10
"""The most recently registered ones; with one more the oldest is removed."""
ZONE_LENGTH: Final = 64
_ZONE: Final = re.compile(r"(?!posix/|right/)[A-Za-z]+(/[A-Za-z0-9_+-]+){1,2}")


class Preferences(msgspec.Struct, frozen=True, rename="camel"):
    """What one person wants, decoded from their record (or the preferences column); what was never set is wanted.

    Messages stand in no list but their conversation's; system notifications always stand in the list.
    """

    push_match: bool = True
    push_message: bool = True
    push_like: bool = True
    push_super_like: bool = True
    push_system: bool = True
    push_subscriber: bool = True
    push_post: bool = True
    push_tip: bool = True
    push_purchase: bool = True
    list_match: bool = True
    list_like: bool = True
    list_super_like: bool = True
    list_subscriber: bool = True
    list_post: bool = True
    list_tip: bool = True
    list_purchase: bool = True
    quiet_hours: str = ""
    """``HH:MM-HH:MM`` on the person's clock; empty: none."""
    time_zone: str = ""
    """IANA name; empty: UTC."""
    show_content: bool = False
    """Whether names and texts may appear on a lock screen."""
    mail_reminders: bool = False
    """Whether a mail may say, once in an absence, that something is new."""

    def wants(self, kind: Kind, channel: Channel) -> bool:
        return bool(getattr(self, f"{channel}_{kind}", channel == "list" and kind == "system"))

    def quiet(self, at: datetime) -> bool:
        """Whether the instant lies in the person's quiet hours, by the wall clock of their zone."""
        hours = read_quiet_hours(self.quiet_hours)
        if hours is None:
            return False
        local = at.astimezone(zone_of(self.time_zone))
        minute, (start, end) = local.hour * 60 + local.minute, hours
        return start <= minute < end if start < end else minute >= start or minute < end


DEFAULTS: Final = Preferences()
_PREFERENCES: Final = msgspec.json.Decoder(Preferences)


def read_preferences(record: bytes) -> Preferences:
    """The preferences in a person's record; its other fields are passed over."""
    return _PREFERENCES.decode(record)


def kind_of(name: str) -> Kind:
    """The kind under which preferences list a notification; whatever a service names itself is ``system``."""
    return _KINDS.get(name, "system")


def read_quiet_hours(text: str) -> tuple[int, int] | None:
    """(start, end) in minutes since midnight; None: no quiet hours."""
    start, _, end = text.partition("-")
    try:
        (from_hour, from_minute), (to_hour, to_minute) = (map(int, part.split(":")) for part in (start, end))
    except ValueError:
        return None
    hours = from_hour * 60 + from_minute, to_hour * 60 + to_minute
    return None if hours[0] == hours[1] else hours


def is_zone(name: str) -> bool:
    """Whether it is an IANA name of a time zone: UTC, or area and place. Reads one file, once a name."""
    return name == "UTC" or (_ZONE.fullmatch(name) is not None and zone_of(name).key == name)


@lru_cache(maxsize=1_024)
def zone_of(name: str) -> ZoneInfo:
    """The zone; UTC for a name that this machine's database does not have."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def device_id(platform: Platform, token: str) -> str:
    """What names a device everywhere but at its provider: the token cannot be told from it."""
    return derived_id(f"{platform}:{token}", "device")
