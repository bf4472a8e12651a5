"""What a subscriber asked for, and what the payment provider reported about it. Keyed by subscriber."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from configs.contracts import topics
from configs.contracts.events.base import Id, Instant, NestedId, Payload
from configs.contracts.payment_facts import MONTHS, Interval
from configs.contracts.topics import Topic


class Terms(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """What a subscriber agreed to pay, and for what, as our records had it at that moment. Never changed afterwards."""

    tier_id: NestedId
    rank: int
    tier_name: str
    revision: int
    interval: Interval
    amount_minor: int
    currency: str
    """``amount_minor`` of it are paid for ``interval_count`` intervals at once: a bundle's several months, else one."""
    interval_count: int = 1
    trial_days: int = 0
    percent_off: int = 0
    months_off: int | None = None
    """Payments with ``percent_off``; None: the first."""
    promo_id: NestedId | None = None
    """The code that gave ``percent_off``; without one, a bundle did, when bundles were paid by the month."""

    @property
    def months(self) -> int:
        """For how many each payment is."""
        return MONTHS[self.interval] * self.interval_count


class SubscriptionRequested(Payload, frozen=True, kw_only=True):
    """A checkout began; its terms and payee hold until ``checkout_until``. ``subscription_id`` comes from its request."""

    TYPE: ClassVar[str] = "subscription_requested"
    subscription_id: Id
    subscriber_id: Id
    creator_id: Id
    account_id: str
    payment_method_id: str
    terms: Terms
    checkout_until: Instant
    body_digest: str


class SubscriptionAbandoned(Payload, frozen=True, kw_only=True):
    """The checkout came to nothing, and nothing was paid."""

    TYPE: ClassVar[str] = "subscription_abandoned"
    subscription_id: Id
    subscriber_id: Id
    reason: Literal["declined", "offer_refused", "provider_refused", "expired"]


class SubscriptionChangeRequested(Payload, frozen=True, kw_only=True):
    """Another tier: ``now`` (an upgrade, in force once its invoice is paid), or from the next period on."""

    TYPE: ClassVar[str] = "subscription_change_requested"
    request_id: Id
    subscription_id: Id
    subscriber_id: Id
    terms: Terms
    now: bool
    body_digest: str


class SubscriptionCancelled(Payload, frozen=True, kw_only=True):
    """It ends with what is paid for; ``reason`` says who wished that."""

    TYPE: ClassVar[str] = "subscription_cancelled"
    request_id: Id
    subscription_id: Id
    subscriber_id: Id
    reason: Literal["subscriber", "blocked", "account"] = "subscriber"
    body_digest: str = ""


class SubscriptionResumed(Payload, frozen=True, kw_only=True):
    """Renewal goes on after all."""

    TYPE: ClassVar[str] = "subscription_resumed"
    request_id: Id
    subscription_id: Id
    subscriber_id: Id
    body_digest: str


class SubscriptionMethodRequested(Payload, frozen=True, kw_only=True):
    """The next payments are to be taken from another payment method, and what is past due at once."""

    TYPE: ClassVar[str] = "subscription_method_requested"
    request_id: Id
    subscription_id: Id
    subscriber_id: Id
    payment_method_id: str
    body_digest: str


class BillRefundRequested(Payload, frozen=True, kw_only=True):
    """Staff wants some or all of a paid bill given back. ``refund_id`` comes from the request's Idempotency-Key.

    ``stops_renewal``: all of the newest bill is to go back, so nothing more is to be charged either. ``all_left``: as in
    ``RefundRequested``.
    """

    TYPE: ClassVar[str] = "bill_refund_requested"
    refund_id: Id
    subscription_id: Id
    subscriber_id: Id
    bill_id: str
    amount_minor: int
    reason: str
    requested_by: str
    stops_renewal: bool
    body_digest: str
    all_left: bool = False


class BillRefundAnswered(Payload, frozen=True, kw_only=True):
    """The provider has made the refund, or will not. What came back says a fact about the bill's payment."""

    TYPE: ClassVar[str] = "bill_refund_answered"
    refund_id: Id
    subscription_id: Id
    subscriber_id: Id
    made: bool


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.SUBSCRIPTION_CREATED, SubscriptionRequested),
    (topics.SUBSCRIPTION_CREATED, SubscriptionAbandoned),
    (topics.SUBSCRIPTION_CREATED, SubscriptionChangeRequested),
    (topics.SUBSCRIPTION_CREATED, SubscriptionCancelled),
    (topics.SUBSCRIPTION_CREATED, SubscriptionResumed),
    (topics.SUBSCRIPTION_CREATED, SubscriptionMethodRequested),
    (topics.SUBSCRIPTION_CREATED, BillRefundRequested),
    (topics.SUBSCRIPTION_CREATED, BillRefundAnswered),
)
