"""What reaches a person: notifications, devices and mail."""

from __future__ import annotations

from typing import ClassVar, Literal

from configs.contracts import topics
from configs.contracts.events.base import Id, Instant, MailTemplate, Payload
from configs.contracts.topics import Topic

Platform = Literal["fcm", "apns", "webpush"]


class NotificationSent(Payload, frozen=True, kw_only=True):
    """``renews``: the notification of this id says something new; it is unread again and is not pushed again.

    ``in_list`` False: it is pushed, and stands in no list.
    """

    TYPE: ClassVar[str] = "notification_sent"
    notification_id: str
    user_id: str
    kind: str
    title: str
    body: str | None = None
    data: dict[str, str] = {}  # noqa: RUF012 - msgspec copies an empty default
    renews: bool = False
    in_list: bool = True
    idempotency_key: str | None = None
    body_digest: str | None = None


class MailRequested(Payload, frozen=True, kw_only=True):
    """A mail is to be sent; ``mail_id`` is its idempotency key. Derived from what it tells about.

    A token that it carries is derived from a key, ``email_hash`` and ``token_id`` when it is sent.
    """

    TYPE: ClassVar[str] = "mail_requested"
    mail_id: str
    user_id: str
    email_hash: str
    address: str
    template: MailTemplate
    token_id: str | None = None
    expires_at: Instant | None = None


class NotificationRead(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "notification_read"
    notification_id: str
    user_id: str
    idempotency_key: str | None = None
    body_digest: str | None = None


class NotificationsRead(Payload, frozen=True, kw_only=True):
    """Everything that stands before this event in the person's notifications is read."""

    TYPE: ClassVar[str] = "notifications_read"
    user_id: str
    idempotency_key: str | None = None
    body_digest: str | None = None


class DeviceRegistered(Payload, frozen=True, kw_only=True):
    """The device is the person's, and nobody else's any more: a device has the owner of its newest registration.

    ``device_id`` is derived from platform and token, and is the record's key. ``token``: FCM registration token, APNs
    device token, or the endpoint of a Web Push subscription, whose keys are ``public_key`` and ``auth_secret``.
    ``family_id``: the session that registered it; the registration ends with it.
    """

    TYPE: ClassVar[str] = "device_registered"
    device_id: Id
    user_id: Id
    platform: Platform
    token: str
    public_key: str | None = None
    auth_secret: str | None = None
    family_id: Id | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None


class DeviceRemoved(Payload, frozen=True, kw_only=True):
    """The person's device gets nothing more; says nothing when the device is somebody else's by now.

    ``registration`` is the id of the device_registered event that it ends: a newer one stays.
    """

    TYPE: ClassVar[str] = "device_removed"
    device_id: Id
    user_id: Id
    reason: Literal["signed_out", "unregistered", "too_many"]
    registration: Id | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.NOTIFICATION_SEND, NotificationSent),
    (topics.NOTIFICATION_SEND, NotificationRead),
    (topics.NOTIFICATION_SEND, NotificationsRead),
    (topics.NOTIFICATION_DEVICES, DeviceRegistered),
    (topics.NOTIFICATION_DEVICES, DeviceRemoved),
    (topics.NOTIFICATION_MAIL, MailRequested),
)
