"""Every event: one frozen struct a type, encoded as camelCase JSON inside one envelope.

Adding a type: define the struct, add it to ``EVENTS`` with its topic, give it a sink (writers/sinks) and a golden
file (tests/contracts/golden); the completeness test names what is missing. Fields are only ever added, with defaults.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from configs.contracts import topics
from configs.contracts.errors import InvalidEvent
from configs.contracts.ranking import RankingConfiguration
from configs.contracts.topics import Topic

Role = Literal["sugar_baby", "sugar_daddy"]
Gender = Literal["woman", "man", "non_binary"]
Platform = Literal["fcm", "apns", "webpush"]
SwipeAction = Literal["like", "pass", "super_like"]
MatchEnd = Literal["unmatched", "blocked", "undone"]
MailTemplate = Literal["verify_address", "reset_password", "address_in_use", "password_changed", "sign_in_changed"]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its offset; one without is refused, since it could not be compared with any other."""


Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", max_length=36)]
"""An id in canonical text, checked when a record is decoded: shards compute with its digits."""


class Payload(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Base of all payloads; unset optional fields are not written. Trees, so the collector need not look at them."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1


class ProviderIdentity(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """Who an identity provider said somebody is, with the token's nonce, which works once, until ``nonce_until``."""

    issuer: str
    subject: str
    nonce_hash: str
    nonce_until: Instant


class AccountRegistered(Payload, frozen=True, kw_only=True):
    """The one event of a registration: claim on the address, identity, credential and first session."""

    TYPE: ClassVar[str] = "account_registered"
    user_id: str
    email: str
    email_hash: str
    password_hash: str | None = None
    role: Role
    display_name: str
    birth_date: str
    family_id: str | None = None
    session_expires_at: Instant | None = None
    verification_expires_at: Instant | None = None
    """Set: a token to confirm the address is mailed; until then nobody signs in. Its id is the event's."""
    address_verified: bool = False
    identity: ProviderIdentity | None = None
    """Registered by way of a provider, which vouches for the address."""
    displaces: str | None = None
    """The person whose unconfirmed claim on the address ends by this one."""
    idempotency_key: str | None = None
    body_digest: str | None = None


class PasswordRehashed(Payload, frozen=True, kw_only=True):
    """The stored hash was renewed with today's parameters after a successful sign-in."""

    TYPE: ClassVar[str] = "password_rehashed"
    user_id: str
    email_hash: str
    password_hash: str


class AddressTokenRequested(Payload, frozen=True, kw_only=True):
    """A single-use token is to be mailed to an address, if somebody holds it: whether or not, the event is the same.

    The token's id is the event's. The token itself is in no event: whoever mails or checks it derives it from a key.
    """

    TYPE: ClassVar[str] = "address_token_requested"
    user_id: str | None = None
    email_hash: str
    purpose: Literal["verify", "reset"]
    cause: Literal["asked", "registration"] = "asked"
    """``registration``: somebody tried to register the address."""
    expires_at: Instant


class AddressVerified(Payload, frozen=True, kw_only=True):
    """Whoever holds the account has read mail that was sent to its address."""

    TYPE: ClassVar[str] = "address_verified"
    user_id: str
    email_hash: str
    token_id: str


class PasswordSet(Payload, frozen=True, kw_only=True):
    """Another password from now on. Every session has ended, except ``kept_family_id``.

    ``token_id``: it was set with a mailed token, which is used up and proves the address.
    """

    TYPE: ClassVar[str] = "password_set"
    user_id: str
    email_hash: str
    password_hash: str
    token_id: str | None = None
    kept_family_id: str | None = None


class SessionsEnded(Payload, frozen=True, kw_only=True):
    """Every session of the account has ended, except ``kept_family_id``."""

    TYPE: ClassVar[str] = "sessions_ended"
    user_id: str
    email_hash: str
    kept_family_id: str | None = None


class IdentityLinked(Payload, frozen=True, kw_only=True):
    """The account can be signed in to by way of a provider that vouches for its address."""

    TYPE: ClassVar[str] = "identity_linked"
    user_id: str
    email_hash: str
    identity: ProviderIdentity


class TotpEnabled(Payload, frozen=True, kw_only=True):
    """Signing in needs a time-based code (RFC 6238) from now on.

    ``sealed_secret`` is encrypted with a key that is in no event; ``step`` is that of the code that proved the device.
    """

    TYPE: ClassVar[str] = "totp_enabled"
    user_id: str
    email_hash: str
    sealed_secret: str
    step: int
    recovery_hashes: tuple[str, ...]


class TotpDisabled(Payload, frozen=True, kw_only=True):
    """Signing in needs no code any more."""

    TYPE: ClassVar[str] = "totp_disabled"
    user_id: str
    email_hash: str


class SecondFactorUsed(Payload, frozen=True, kw_only=True):
    """A sign-in was completed by a code (of ``step``) or a recovery code; it, and the challenge, are used up."""

    TYPE: ClassVar[str] = "second_factor_used"
    user_id: str
    email_hash: str
    challenge_id: str
    challenge_until: Instant
    step: int | None = None
    recovery_hash: str | None = None


class PasskeyAdded(Payload, frozen=True, kw_only=True):
    """A WebAuthn credential signs in to the account from now on; the challenge of its ceremony is used up."""

    TYPE: ClassVar[str] = "passkey_added"
    user_id: str
    email_hash: str
    credential_id: str
    public_key: str
    sign_count: int
    name: str
    challenge_id: str
    challenge_until: Instant


class PasskeyUsed(Payload, frozen=True, kw_only=True):
    """Somebody signed in with a passkey; the challenge is used up."""

    TYPE: ClassVar[str] = "passkey_used"
    user_id: str
    email_hash: str
    credential_id: str
    sign_count: int
    challenge_id: str
    challenge_until: Instant


class PasskeyRemoved(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "passkey_removed"
    user_id: str
    email_hash: str
    credential_id: str


class IdentityClaimed(Payload, frozen=True, kw_only=True):
    """A provider's identity belongs to an account; the first in the log counts. Derived from what linked it."""

    TYPE: ClassVar[str] = "identity_claimed"
    identity_hash: str
    user_id: str
    email_hash: str
    identity: ProviderIdentity


class IdentityUsed(Payload, frozen=True, kw_only=True):
    """Somebody signed in with a provider's token; its nonce is used up."""

    TYPE: ClassVar[str] = "identity_used"
    identity_hash: str
    user_id: str
    identity: ProviderIdentity


class SessionStarted(Payload, frozen=True, kw_only=True):
    """A token family exists; ``counter`` 0 is its first refresh token.

    ``sessions_from``: the account's when the person signed in (``contracts.accounts``), which tells a session that
    began before all were ended from one that began after.
    """

    TYPE: ClassVar[str] = "session_started"
    family_id: str
    user_id: str
    token_hash: str
    expires_at: Instant
    email_hash: str | None = None
    sessions_from: int = 0
    signed_in_at: Instant | None = None
    client: str | None = None


class SessionRotated(Payload, frozen=True, kw_only=True):
    """The family's refresh token number ``counter`` replaced its predecessor."""

    TYPE: ClassVar[str] = "session_rotated"
    family_id: str
    user_id: str
    counter: int
    token_hash: str
    expires_at: Instant


class SessionRevoked(Payload, frozen=True, kw_only=True):
    """No token of the family is valid any more."""

    TYPE: ClassVar[str] = "session_revoked"
    family_id: str
    user_id: str
    reason: Literal["logout", "reuse", "password_changed", "administrator"]


class UserCreated(Payload, frozen=True, kw_only=True):
    """A person exists; derived from account_registered with id ``derived_id(event_id, "user")``."""

    TYPE: ClassVar[str] = "user_created"
    user_id: str
    role: Role
    display_name: str
    birth_date: str


class ProfileChanged(Payload, frozen=True, kw_only=True):
    """Only the fields that were sent; an empty text clears the field."""

    TYPE: ClassVar[str] = "profile_changed"
    user_id: str
    display_name: str | None = None
    bio: str | None = None
    gender: Gender | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None


class PreferencesChanged(Payload, frozen=True, kw_only=True):
    """Only the fields that were sent."""

    TYPE: ClassVar[str] = "preferences_changed"
    user_id: str
    age_min: int | None = None
    age_max: int | None = None
    max_distance_km: int | None = None
    roles: tuple[Role, ...] | None = None
    genders: tuple[Gender, ...] | None = None
    hide_distance: bool | None = None
    discoverable: bool | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None


class NotificationPreferencesChanged(Payload, frozen=True, kw_only=True):
    """What a person wants to hear of, and where; only the fields that were sent. An empty text clears the field."""

    TYPE: ClassVar[str] = "notification_preferences_changed"
    user_id: str
    push_match: bool | None = None
    push_message: bool | None = None
    push_like: bool | None = None
    push_super_like: bool | None = None
    push_system: bool | None = None
    list_match: bool | None = None
    list_like: bool | None = None
    list_super_like: bool | None = None
    quiet_hours: str | None = None
    time_zone: str | None = None
    show_content: bool | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None


class LocationChanged(Payload, frozen=True, kw_only=True):
    """The centre of the person's H3 resolution-6 cell; the true position is never in an event."""

    TYPE: ClassVar[str] = "location_changed"
    user_id: str
    latitude: float
    longitude: float
    cell: str
    idempotency_key: str | None = None
    body_digest: str | None = None


class WasActive(Payload, frozen=True, kw_only=True):
    """Coalesced activity: at most one a person in 15 minutes from one API replica."""

    TYPE: ClassVar[str] = "was_active"
    user_id: str
    active_at: Instant


class UserBlocked(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "user_blocked"
    user_id: str
    blocked_id: str
    idempotency_key: str | None = None
    body_digest: str | None = None


class UserUnblocked(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "user_unblocked"
    user_id: str
    blocked_id: str
    idempotency_key: str | None = None
    body_digest: str | None = None


class UserReported(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "user_reported"
    report_id: str
    reporter_id: str
    target_type: Literal["user", "message", "post", "comment", "media"]
    target_id: str
    category: Literal["spam", "harassment", "fake", "underage", "nudity", "violence", "scam", "other"]
    text: str | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None


class Swiped(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "swiped"
    swiper_id: Id
    swiped_id: Id
    action: SwipeAction
    idempotency_key: str | None = None
    impression_id: str | None = None


class SwipeUndone(Payload, frozen=True, kw_only=True):
    """The swiper's last swipe is withdrawn: the pair is as if it had never been swiped from this side."""

    TYPE: ClassVar[str] = "swipe_undone"
    swiper_id: Id
    swiped_id: Id
    undone_action: SwipeAction
    idempotency_key: str | None = None


class Barrier(Payload, frozen=True, kw_only=True):
    """Appended by a restoring shard: whoever reads it back has read everything before it. No row follows."""

    TYPE: ClassVar[str] = "barrier"
    nonce: str


class Matched(Payload, frozen=True, kw_only=True):
    """A mutual like. The event's id is ``derived_id(match_id, f"matched:{generation}")``."""

    TYPE: ClassVar[str] = "matched"
    match_id: Id
    low_id: Id
    high_id: Id
    generation: int


class Unmatched(Payload, frozen=True, kw_only=True):
    """The pair's match has ended, or (blocked) can never begin. ``generation`` is the one that ended."""

    TYPE: ClassVar[str] = "unmatched"
    match_id: Id
    low_id: Id
    high_id: Id
    generation: int
    ended_by: Id
    reason: MatchEnd


class MessageSent(Payload, frozen=True, kw_only=True):
    """Message ``seq`` of its conversation. The event's id is ``message_id``, derived from conversation, sender and
    ``client_message_id``.

    ``epoch`` is that of the conversation's shard: a message does not count when one of a later epoch has the same or a
    lower ``seq`` (a replaced shard wrote it last, and nobody was told). ``ordinal``: how many of the messages up to this
    one, itself included, are the sender's.
    """

    TYPE: ClassVar[str] = "message_sent"
    message_id: Id
    conversation_id: Id
    sender_id: Id
    recipient_id: Id
    seq: int
    ordinal: int
    epoch: int
    client_message_id: str
    content: str


class MessageRead(Payload, frozen=True, kw_only=True):
    """The reader has read up to message ``seq``; of several marks the highest counts.

    ``ordinal``: how many of the messages up to there are the other's.
    """

    TYPE: ClassVar[str] = "message_read"
    conversation_id: Id
    reader_id: Id
    other_id: Id
    seq: int
    ordinal: int


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
    data: dict[str, str] = {}
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
    """

    TYPE: ClassVar[str] = "device_registered"
    device_id: Id
    user_id: Id
    platform: Platform
    token: str
    public_key: str | None = None
    auth_secret: str | None = None
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


class CardsServed(Payload, frozen=True, kw_only=True):
    """One response of cards; the envelope's id is the response's. The tuples have one order, that of the response.

    ``positions`` from 0 in the deck; ``propensities``: the probability with which a card stands where it stands.
    ``decided_at``: when the deck was ranked, which is what features describe. Of a stated sample of decks
    ``feature_values`` holds a row of ``feature_names`` for each card, one after another.
    """

    TYPE: ClassVar[str] = "cards_served"
    viewer_id: Id
    configuration: int
    model_version: str
    experiment: str | None = None
    arm: str | None = None
    decided_at: Instant
    candidate_ids: tuple[Id, ...]
    positions: tuple[int, ...]
    scores: tuple[float, ...]
    propensities: tuple[float, ...]
    feature_names: tuple[str, ...] = ()
    feature_values: tuple[float, ...] = ()


class CardsSeen(Payload, frozen=True, kw_only=True):
    """Cards that the person's device has shown; the tuples have one order. Reporting one again changes nothing."""

    TYPE: ClassVar[str] = "cards_seen"
    viewer_id: Id
    response_ids: tuple[Id, ...]
    candidate_ids: tuple[Id, ...]
    positions: tuple[int, ...]


class RankingConfigured(Payload, frozen=True, kw_only=True):
    """What ranks cards from now on. Only the first event with a number above all before it counts."""

    TYPE: ClassVar[str] = "ranking_configured"
    configuration: RankingConfiguration
    reason: Literal["deploy", "rollback", "experiment", "refresh"]


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.AUTH_ACCOUNTS, AccountRegistered),
    (topics.AUTH_ACCOUNTS, PasswordRehashed),
    (topics.AUTH_ACCOUNTS, AddressTokenRequested),
    (topics.AUTH_ACCOUNTS, AddressVerified),
    (topics.AUTH_ACCOUNTS, PasswordSet),
    (topics.AUTH_ACCOUNTS, SessionsEnded),
    (topics.AUTH_ACCOUNTS, IdentityLinked),
    (topics.AUTH_ACCOUNTS, TotpEnabled),
    (topics.AUTH_ACCOUNTS, TotpDisabled),
    (topics.AUTH_ACCOUNTS, SecondFactorUsed),
    (topics.AUTH_ACCOUNTS, PasskeyAdded),
    (topics.AUTH_ACCOUNTS, PasskeyUsed),
    (topics.AUTH_ACCOUNTS, PasskeyRemoved),
    (topics.AUTH_IDENTITIES, IdentityClaimed),
    (topics.AUTH_IDENTITIES, IdentityUsed),
    (topics.AUTH_SESSIONS, SessionStarted),
    (topics.AUTH_SESSIONS, SessionRotated),
    (topics.AUTH_SESSIONS, SessionRevoked),
    (topics.USER_CREATED, UserCreated),
    (topics.USER_UPDATED, ProfileChanged),
    (topics.USER_UPDATED, PreferencesChanged),
    (topics.USER_UPDATED, NotificationPreferencesChanged),
    (topics.USER_UPDATED, LocationChanged),
    (topics.USER_UPDATED, WasActive),
    (topics.USER_UPDATED, UserBlocked),
    (topics.USER_UPDATED, UserUnblocked),
    (topics.USER_REPORTED, UserReported),
    (topics.MATCHING_SWIPE, Swiped),
    (topics.MATCHING_SWIPE, SwipeUndone),
    (topics.MATCHING_CARDS_SERVED, CardsServed),
    (topics.MATCHING_CARDS_SERVED, CardsSeen),
    (topics.MATCHING_MATCHED, Matched),
    (topics.MATCHING_MATCHED, Unmatched),
    (topics.MESSAGING_MESSAGE_SENT, MessageSent),
    (topics.MESSAGING_MESSAGE_READ, MessageRead),
    (topics.NOTIFICATION_SEND, NotificationSent),
    (topics.NOTIFICATION_SEND, NotificationRead),
    (topics.NOTIFICATION_SEND, NotificationsRead),
    (topics.NOTIFICATION_DEVICES, DeviceRegistered),
    (topics.NOTIFICATION_DEVICES, DeviceRemoved),
    (topics.NOTIFICATION_MAIL, MailRequested),
    (topics.RANKING_CONFIGURED, RankingConfigured),
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
_PAYLOADS = {name: msgspec.json.Decoder(payload) for name, payload in BY_TYPE.items()}


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
    decoder = _PAYLOADS.get(envelope.type)
    if decoder is None:
        raise InvalidEvent("unknown event type", type=envelope.type[:64])
    if envelope.version > BY_TYPE[envelope.type].VERSION:
        raise InvalidEvent("event version is newer than this code", type=envelope.type, version=envelope.version)
    try:
        payload = decoder.decode(envelope.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent("payload does not fit its type", type=envelope.type) from error
    return Event(envelope.event_id, envelope.occurred_at, envelope.key, payload)
