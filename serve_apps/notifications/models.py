"""Bodies and answers of the notifications routes."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictStr, model_validator

from configs.contracts.notifying import ZONE_LENGTH, is_zone
from serve_apps.fields import UUID_PATTERN, Answer, Body, Text, UserIdText


def _few(data: dict[str, str]) -> dict[str, str]:
    if len(data) > 20:
        raise ValueError("must have at most 20 members")
    return data


def _zone(name: str) -> str:
    if not is_zone(name):
        raise ValueError("is not an IANA time zone")
    return name


Data = Annotated[
    dict[Annotated[Text, Field(min_length=1, max_length=64)], Annotated[Text, Field(max_length=500)]], AfterValidator(_few)
]
ClockTime = Annotated[StrictStr, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["22:30"])]
Zone = Annotated[StrictStr, Field(max_length=ZONE_LENGTH, examples=["Europe/Berlin"]), AfterValidator(_zone)]
Key = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{16,128}={0,2}$")]
DeviceIdText = Annotated[StrictStr, Field(pattern=UUID_PATTERN)]


class SendBody(Body):
    user_id: UserIdText
    type: Annotated[StrictStr, Field(pattern=r"^[a-z][a-z0-9_.]{0,63}$")]
    title: Annotated[Text, Field(min_length=1, max_length=200)]
    body: Annotated[Text, Field(max_length=2_000)] | None = None
    data: Data = Field(default_factory=dict, max_length=20)


class Sent(Answer):
    notification_id: str


class Notification(Answer):
    notification_id: str
    type: str
    title: str
    body: str | None
    data: dict[str, str]
    created_at: datetime
    read: bool


class Notifications(Answer):
    notifications: list[Notification]
    unread_count: int = Field(description="of the newest 500, without those that are left out")
    next_cursor: str | None = None


class ChannelsBody(Body):
    """Channels that are absent or null stay as they are."""

    in_app: StrictBool | None = None
    push: StrictBool | None = None


class PushBody(Body):
    push: StrictBool | None = None


class KindsBody(Body):
    """Messages stand in their conversations only, and system notifications always in the list."""

    match: ChannelsBody = ChannelsBody()
    like: ChannelsBody = ChannelsBody()
    super_like: ChannelsBody = ChannelsBody()
    subscriber: ChannelsBody = Field(ChannelsBody(), description="somebody subscribes to you")
    post: ChannelsBody = Field(ChannelsBody(), description="somebody to whom you subscribe has published something")
    tip: ChannelsBody = ChannelsBody()
    purchase: ChannelsBody = Field(ChannelsBody(), description="somebody buys a post of yours")
    message: PushBody = PushBody()
    system: PushBody = PushBody()


class QuietHoursBody(Body):
    """On the clock of the person's time zone; they may pass midnight. Equal times: no quiet hours."""

    start: ClockTime
    end: ClockTime


class PreferencesBody(Body):
    """Fields that are absent or null stay as they are."""

    kinds: KindsBody = KindsBody()
    quiet_hours: QuietHoursBody | None = None
    time_zone: Zone | None = None
    show_content: StrictBool | None = None
    mail_reminders: StrictBool | None = None


class Channels(Answer):
    in_app: bool
    push: bool


class QuietHours(Answer):
    start: str
    end: str


class NotificationPreferences(Answer):
    """What one is told of. During quiet hours nothing is pushed, later neither: it waits in the app."""

    kinds: dict[str, Channels]
    quiet_hours: QuietHours | None
    time_zone: str
    show_content: bool = Field(description="whether names and texts may appear on a lock screen")
    mail_reminders: bool = Field(description="whether a mail may say, once in an absence of a day or more, that something is new")


class DeviceBody(Body):
    """`fcm` and `apns`: the token. `webpush`: the subscription's endpoint as token, and its keys."""

    platform: Literal["fcm", "apns", "webpush"]
    token: Annotated[StrictStr, Field(min_length=8, max_length=2_048, pattern=r"^[\x21-\x7e]+$")]
    p256dh: Key | None = Field(None, alias="p256dh")
    auth: Key | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.platform == "webpush") != (self.p256dh is not None and self.auth is not None):
            raise ValueError("webpush needs p256dh and auth, other platforms have neither")
        if self.platform == "apns" and re.fullmatch(r"(?:[0-9A-Fa-f]{2}){32,100}", self.token) is None:
            raise ValueError("an APNs token is hexadecimal")
        return self


class WebPushKey(Answer):
    public_key: str = Field(description="uncompressed point on P-256, base64url without padding")


class Device(Answer):
    device_id: str
