"""What a subscriber's shard is asked, and what it answers. Every request is named for good by its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from actors.idempotency import IdempotencyConflict
from configs.contracts.events.subscriptions import Terms
from configs.contracts.payment_facts import SubscriptionFact
from configs.contracts.subscribers import Subscriber
from configs.contracts.subscriptions import Subscription

__all__ = [
    "SERVICE", "Abandon", "AlreadySubscribed", "AnswerBillRefund", "Cancel", "Change", "ChangeMethod", "Find",
    "IdempotencyConflict", "NotPossible", "NotRefundable", "Observe", "Observed", "RefundBill", "Resume", "Subscribe", "SubscriptionStands", "Unknown",
]

SERVICE = "subscriptions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """Begin a checkout. ``request_id``, derived from subscriber and Idempotency-Key, becomes the subscription's id."""

    subscriber_id: str
    request_id: str
    body_digest: str
    creator_id: str
    account_id: str
    payment_method_id: str
    terms: Terms
    checkout_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """What became of a request; Unknown: it was never recorded."""

    subscriber_id: str
    request_id: str
    body_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """The checkout came to nothing. Changes nothing while the provider says that the subscription lives."""

    subscriber_id: str
    subscription_id: str
    reason: Literal["declined", "offer_refused", "provider_refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Another tier, or a longer time: at once when that is higher and costs no less, or else from the next period on."""

    subscriber_id: str
    request_id: str
    body_digest: str
    subscription_id: str
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Let it end with what is paid for."""

    subscriber_id: str
    request_id: str
    body_digest: str
    subscription_id: str
    reason: Literal["subscriber", "blocked", "account"] = "subscriber"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Let it be renewed after all."""

    subscriber_id: str
    request_id: str
    body_digest: str
    subscription_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeMethod:
    """Take the next payments from another payment method."""

    subscriber_id: str
    request_id: str
    body_digest: str
    subscription_id: str
    payment_method_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """Take in facts that the provider's answer proved; the same facts may come by webhook too."""

    subscriber_id: str
    facts: tuple[SubscriptionFact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundBill:
    """Give some of a paid bill back. Without ``bill_id`` the newest one; without an amount all that is left of it.

    ``refund_id`` is derived from subscription, staff and Idempotency-Key.
    """

    subscriber_id: str
    subscription_id: str
    refund_id: str
    body_digest: str
    bill_id: str | None
    amount_minor: int | None
    reason: str
    requested_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBillRefund:
    """The provider has made a refund, or refused it; with the facts that its answer proved."""

    subscriber_id: str
    subscription_id: str
    refund_id: str
    made: bool
    facts: tuple[SubscriptionFact, ...] = ()


@dataclass(frozen=True, slots=True)
class SubscriptionStands:
    """The request is durable; the subscription as it is now, and its subscriber.

    ``replayed``: it was recorded before. ``now``: of a change, whether it is an upgrade.
    """

    subscriber: Subscriber
    subscription: Subscription
    replayed: bool
    now: bool = False
    version: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """The facts are durable; None: none is about a subscription that we know."""

    subscriber: Subscriber | None


@dataclass(frozen=True, slots=True)
class AlreadySubscribed:
    """A subscription to this creator is live; nothing was recorded."""

    subscription_id: str


@dataclass(frozen=True, slots=True)
class NotRefundable:
    """Not as much of the bill may be given back; nothing was recorded."""

    left_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class NotPossible:
    """The subscription is in no state for that; nothing was recorded. ``code`` is that of the problem."""

    code: Literal["subscription_not_active", "same_tier", "not_offered"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """The subscriber has no such subscription."""
