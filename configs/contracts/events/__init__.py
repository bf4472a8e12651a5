"""Every event: one frozen struct a type, encoded as camelCase JSON inside one envelope; a file a feature.

Adding a type: define the struct in its feature's file, add it to that file's ``EVENTS`` with its topic, give it a sink
(writers/sinks) and a golden file (tests/contracts/golden); the completeness test names what is missing. Fields are only
ever added, with defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import (
    accounts,
    content,
    matching,
    media,
    messages,
    moderation,
    notifications,
    payments,
    people,
    subscriptions,
    tiers,
)
from configs.contracts.events.accounts import (
    AccountRegistered,
    AddressChanged,
    AddressChangeRequested,
    AddressClaim,
    AddressClaimed,
    AddressMove,
    AddressReleased,
    AddressTokenRequested,
    AddressVerified,
    IdentityClaimed,
    IdentityLinked,
    IdentityUsed,
    PasskeyAdded,
    PasskeyRemoved,
    PasskeyUsed,
    PasswordRehashed,
    PasswordSet,
    ProviderIdentity,
    RoleGranted,
    SecondFactorUsed,
    SessionRevoked,
    SessionRotated,
    SessionsEnded,
    SessionStarted,
    StandingSet,
    TotpDisabled,
    TotpEnabled,
)
from configs.contracts.events.base import (
    Action,
    Barrier,
    Gender,
    Id,
    Instant,
    MailTemplate,
    Outcome,
    Payload,
    PermissionRole,
    ReportCategory,
    Role,
    Standing,
    StandingAfter,
    TargetType,
    Verification,
)
from configs.contracts.events.checking import canonical, lister
from configs.contracts.events.content import (
    CommentDeleted,
    CommentRestored,
    ContentCommented,
    ContentLiked,
    ContentPublished,
    ContentRemoved,
    ContentRestored,
    ContentType,
    ContentUnliked,
    ContentUpdated,
    Followed,
    PostAccess,
    RemovalReason,
    Unfollowed,
    Visibility,
)
from configs.contracts.events.matching import (
    CardsSeen,
    CardsServed,
    Matched,
    MatchEnd,
    RankingConfigured,
    SwipeAction,
    Swiped,
    SwipeUndone,
    Unmatched,
)
from configs.contracts.events.media import (
    MediaProcessed,
    MediaRejected,
    MediaRemoved,
    MediaRequested,
    MediaRestored,
    MediaReviewed,
    MediaUploaded,
    PhotosArranged,
)
from configs.contracts.events.messages import (
    MessageRead,
    MessageSent,
)
from configs.contracts.events.moderation import (
    AppealDecided,
    CaseDecided,
    DecisionAppealed,
    EvidenceSeen,
    RemovalRequested,
)
from configs.contracts.events.notifications import (
    DeviceRegistered,
    DeviceRemoved,
    MailRequested,
    NotificationRead,
    NotificationSent,
    NotificationsRead,
    Platform,
)
from configs.contracts.events.payments import (
    PaymentAbandoned,
    PaymentObserved,
    PaymentRequested,
    PayoutAnswered,
    PayoutOutcome,
    PayoutRecorded,
    PayoutRequested,
    RefundAnswered,
    RefundRequested,
    SubscriptionObserved,
    WebhookReceived,
)
from configs.contracts.events.people import (
    AgeAssessed,
    ConsentChanged,
    LocationChanged,
    NotificationPreferencesChanged,
    PaymentPartiesChanged,
    PreferencesChanged,
    ProfileChanged,
    StandingChanged,
    UserBlocked,
    UserCreated,
    UserErased,
    UserReported,
    UserUnblocked,
    WasActive,
)
from configs.contracts.events.subscriptions import (
    BillRefundAnswered,
    BillRefundRequested,
    SubscriptionAbandoned,
    SubscriptionCancelled,
    SubscriptionChangeRequested,
    SubscriptionMethodRequested,
    SubscriptionRequested,
    SubscriptionResumed,
)
from configs.contracts.events.tiers import (
    OfferRedeemed,
    OfferReleased,
    PromoCodeChanged,
    TierChanged,
)
from configs.contracts.topics import Topic

__all__ = [
    "BY_TYPE",
    "EVENTS",
    "TOPIC_OF",
    "AccountRegistered",
    "Action",
    "AddressChangeRequested",
    "AddressChanged",
    "AddressClaim",
    "AddressClaimed",
    "AddressMove",
    "AddressReleased",
    "AddressTokenRequested",
    "AddressVerified",
    "AgeAssessed",
    "AppealDecided",
    "Barrier",
    "BillRefundAnswered",
    "BillRefundRequested",
    "CardsSeen",
    "CardsServed",
    "CaseDecided",
    "CommentDeleted",
    "CommentRestored",
    "ConsentChanged",
    "ContentCommented",
    "ContentLiked",
    "ContentPublished",
    "ContentRemoved",
    "ContentRestored",
    "ContentType",
    "ContentUnliked",
    "ContentUpdated",
    "DecisionAppealed",
    "DeviceRegistered",
    "DeviceRemoved",
    "Envelope",
    "Event",
    "EvidenceSeen",
    "Followed",
    "Gender",
    "Id",
    "IdentityClaimed",
    "IdentityLinked",
    "IdentityUsed",
    "Instant",
    "LocationChanged",
    "MailRequested",
    "MailTemplate",
    "MatchEnd",
    "Matched",
    "MediaProcessed",
    "MediaRejected",
    "MediaRemoved",
    "MediaRequested",
    "MediaRestored",
    "MediaReviewed",
    "MediaUploaded",
    "MessageRead",
    "MessageSent",
    "NotificationPreferencesChanged",
    "NotificationRead",
    "NotificationSent",
    "NotificationsRead",
    "OfferRedeemed",
    "OfferReleased",
    "Outcome",
    "PasskeyAdded",
    "PasskeyRemoved",
    "PasskeyUsed",
    "PasswordRehashed",
    "PasswordSet",
    "Payload",
    "PaymentAbandoned",
    "PaymentObserved",
    "PaymentPartiesChanged",
    "PaymentRequested",
    "PayoutAnswered",
    "PayoutOutcome",
    "PayoutRecorded",
    "PayoutRequested",
    "PermissionRole",
    "PhotosArranged",
    "Platform",
    "PostAccess",
    "PreferencesChanged",
    "ProfileChanged",
    "PromoCodeChanged",
    "ProviderIdentity",
    "RankingConfigured",
    "RefundAnswered",
    "RefundRequested",
    "RemovalReason",
    "RemovalRequested",
    "ReportCategory",
    "Role",
    "RoleGranted",
    "SecondFactorUsed",
    "SessionRevoked",
    "SessionRotated",
    "SessionStarted",
    "SessionsEnded",
    "Standing",
    "StandingAfter",
    "StandingChanged",
    "StandingSet",
    "SubscriptionAbandoned",
    "SubscriptionCancelled",
    "SubscriptionChangeRequested",
    "SubscriptionMethodRequested",
    "SubscriptionObserved",
    "SubscriptionRequested",
    "SubscriptionResumed",
    "SwipeAction",
    "SwipeUndone",
    "Swiped",
    "TargetType",
    "TierChanged",
    "TotpDisabled",
    "TotpEnabled",
    "Unfollowed",
    "Unmatched",
    "UserBlocked",
    "UserCreated",
    "UserErased",
    "UserReported",
    "UserUnblocked",
    "Verification",
    "Visibility",
    "WasActive",
    "WebhookReceived",
    "decode",
    "decode_many",
    "encode",
]

EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    *accounts.EVENTS,
    *people.EVENTS,
    *moderation.EVENTS,
    *matching.EVENTS,
    *messages.EVENTS,
    *notifications.EVENTS,
    *content.EVENTS,
    *media.EVENTS,
    *payments.EVENTS,
    *tiers.EVENTS,
    *subscriptions.EVENTS,
)
"""Every event with its topic. ``Barrier`` may stand on any topic and is skipped by every reader but its author."""

BY_TYPE: dict[str, type[Payload]] = {payload.TYPE: payload for _, payload in EVENTS} | {Barrier.TYPE: Barrier}
TOPIC_OF: dict[type[Payload], Topic] = {payload: topic for topic, payload in EVENTS}


class Envelope(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What every record's value holds; ``payload`` stays raw JSON until its type is known."""

    event_id: str
    type: str
    version: int
    occurred_at: Instant
    key: str
    payload: msgspec.Raw


class _Outgoing(msgspec.Struct, frozen=True, rename="camel", gc=False):
    event_id: str
    type: str
    version: int
    occurred_at: Instant
    key: str
    payload: Payload


class Event(msgspec.Struct, frozen=True, gc=False):
    """A decoded event: its envelope's facts and its payload."""

    event_id: str
    occurred_at: datetime
    key: str
    payload: Any
    """An instance of one of the classes in ``EVENTS`` or ``Barrier``."""


_ENCODER = msgspec.json.Encoder()
_ENVELOPES = msgspec.json.Decoder(Envelope)
_PAYLOADS = {name: (msgspec.json.Decoder(payload), lister(payload), payload.VERSION) for name, payload in BY_TYPE.items()}


def encode(event: Event) -> bytes:
    """The record's value: the envelope as JSON."""
    payload = event.payload
    return _ENCODER.encode(
        _Outgoing(event.event_id, payload.TYPE, payload.VERSION, event.occurred_at, event.key, payload)
    )


def decode(value: bytes | None) -> Event:
    """The event in a record's value.

    Raises InvalidEvent: not an envelope, an unknown type or version, or a payload that does not fit its type.
    """
    if value is None:
        raise InvalidEvent("record without a value")
    try:
        envelope = _ENVELOPES.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent("record is not an event envelope", reason=type(error).__name__) from error
    known = _PAYLOADS.get(envelope.type)
    if known is None:
        raise InvalidEvent("unknown event type", type=envelope.type[:64])
    decoder, ids, newest = known
    if envelope.version > newest:
        raise InvalidEvent("event version is newer than this code", type=envelope.type, version=envelope.version)
    try:
        payload = decoder.decode(envelope.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent("payload does not fit its type", type=envelope.type) from error
    if not canonical(ids(payload)):
        raise InvalidEvent("payload does not fit its type", type=envelope.type)
    return Event(envelope.event_id, envelope.occurred_at, envelope.key, payload)


def decode_many(values: Sequence[bytes | None]) -> list[Event | InvalidEvent]:
    """``decode`` of each, or why it is refused: their ids are looked at together, which takes a third off the time of each."""
    found: list[Event | InvalidEvent] = []
    all_ids: list[str] = []
    for value in values:
        payload = None
        try:
            envelope = _ENVELOPES.decode(value or b"")
            decoder, ids, newest = _PAYLOADS[envelope.type]
            if envelope.version <= newest:
                payload = decoder.decode(envelope.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            pass
        if payload is None:
            found.append(_decoded(value))  # says why
            continue
        all_ids += ids(payload)
        found.append(Event(envelope.event_id, envelope.occurred_at, envelope.key, payload))
    return found if canonical(all_ids) else [_decoded(value) for value in values]


def _decoded(value: bytes | None) -> Event | InvalidEvent:
    try:
        return decode(value)
    except InvalidEvent as error:
        return error
