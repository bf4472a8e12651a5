"""Profiles, preferences, locations, blocks and reports."""

from __future__ import annotations

from typing import ClassVar, Literal

from configs.contracts import topics
from configs.contracts.events.base import Gender, Instant, Payload, ReportCategory, Role, Standing, Verification
from configs.contracts.topics import Topic


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
    push_subscriber: bool | None = None
    push_post: bool | None = None
    push_tip: bool | None = None
    push_purchase: bool | None = None
    list_match: bool | None = None
    list_like: bool | None = None
    list_super_like: bool | None = None
    list_subscriber: bool | None = None
    list_post: bool | None = None
    list_tip: bool | None = None
    list_purchase: bool | None = None
    quiet_hours: str | None = None
    time_zone: str | None = None
    show_content: bool | None = None
    mail_reminders: bool | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None


class PaymentPartiesChanged(Payload, frozen=True, kw_only=True):
    """Who the person is at a payment processor: as a payer, as a payee. Each ``processor:id``; only the fields that were sent."""

    TYPE: ClassVar[str] = "payment_parties_changed"
    user_id: str
    payment_customer: str | None = None
    payment_account: str | None = None
    payment_method: str | None = None
    """What the person pays with unless they say otherwise."""
    currency_customers: dict[str, str] = {}  # noqa: RUF012 - msgspec copies an empty default
    """Currency -> who they are where they pay subscriptions in it apart from others; only those that were sent."""
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


class AgeAssessed(Payload, frozen=True, kw_only=True):
    """What an age-assurance service is asked or has found; never a document, nor what stood in one.

    A check's first result counts, and ``verified`` stands whatever another check says.
    """

    TYPE: ClassVar[str] = "age_assessed"
    user_id: str
    assessment_id: str
    status: Verification
    provider: str
    method: str = ""
    """How the service looked: document, face, card … ; its own word."""
    idempotency_key: str | None = None
    body_digest: str | None = None


class StandingChanged(Payload, frozen=True, kw_only=True):
    """The person is shown nowhere unless active; derived from the decision. See ``StandingSet`` for ``number``."""

    TYPE: ClassVar[str] = "standing_changed"
    user_id: str
    status: Standing
    number: int
    cause_id: str


class ConsentChanged(Payload, frozen=True, kw_only=True):
    """``user_id`` lets a creator publish pictures of them, or no longer."""

    TYPE: ClassVar[str] = "consent_changed"
    user_id: str
    creator_id: str
    given: bool
    idempotency_key: str | None = None
    body_digest: str | None = None


class UserErased(Payload, frozen=True, kw_only=True):
    """The tombstone: nothing of the person counts any more, whether it came before or comes later."""

    TYPE: ClassVar[str] = "user_erased"
    user_id: str
    email_hash: str = ""
    """Of their account; empty: not known to whoever asked."""


class UserReported(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "user_reported"
    report_id: str
    reporter_id: str
    target_type: Literal["user", "message", "post", "comment", "media"]
    target_id: str
    category: ReportCategory
    text: str | None = None
    context_id: str | None = None
    """Of a message: its conversation."""
    idempotency_key: str | None = None
    body_digest: str | None = None


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.USER_CREATED, UserCreated),
    (topics.USER_UPDATED, ProfileChanged),
    (topics.USER_UPDATED, PreferencesChanged),
    (topics.USER_UPDATED, NotificationPreferencesChanged),
    (topics.USER_UPDATED, PaymentPartiesChanged),
    (topics.USER_UPDATED, LocationChanged),
    (topics.USER_UPDATED, WasActive),
    (topics.USER_UPDATED, UserBlocked),
    (topics.USER_UPDATED, UserUnblocked),
    (topics.USER_UPDATED, AgeAssessed),
    (topics.USER_UPDATED, StandingChanged),
    (topics.USER_UPDATED, ConsentChanged),
    (topics.USER_UPDATED, UserErased),
    (topics.USER_REPORTED, UserReported),
)
