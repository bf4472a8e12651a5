"""What a payment provider reports, in words that no provider owns.

A fact says what the provider knows at a moment of its own clock, with full state or a total so far: never "5 more". So
facts may come twice, late and in any order. Of one object and kind the fact with the greatest ``order`` counts, and a
reader that keeps the greatest ends in the same state after every permutation with repetitions.
Money is in minor units with an upper-case ISO 4217 currency. Ids of ours come back from metadata that we set; facts
about objects without them are not made: this platform did not make those objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""The provider's time, with its offset."""
SubscriptionStatus = Literal["incomplete", "trialing", "active", "past_due", "expired"]
Interval = Literal["month", "year"]
MONTHS: Final[Mapping[Interval, int]] = {"month": 1, "year": 12}

_STATUS_RANK: Final[Mapping[str, int]] = {"incomplete": 0, "trialing": 1, "active": 2, "past_due": 3, "expired": 4}


class Fact(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="fact", gc=False):
    """Base of all facts. ``event_id`` names the provider's report, or the look-up that found it.

    ``rank`` orders reports of one second, the resolution of providers' clocks.
    """

    provider: str
    livemode: bool
    event_id: str
    object_id: str
    as_of: Moment
    rank: int = 0

    @property
    def kind(self) -> str:
        """What is told: the ``fact`` of the JSON."""
        return str(self.__struct_config__.tag)

    @property
    def order(self) -> tuple[datetime, int, str]:
        """Of two facts about one object the greater one is newer; the same on every reader."""
        return self.as_of, self.rank, self.event_id


class SubscriptionState(Fact, frozen=True, kw_only=True, tag="subscription_state", gc=False):
    """The whole state of a subscription. ``object_id`` is the provider's subscription.

    ``tier_id``, ``interval`` (so many at once as ``interval_count``), ``amount_minor`` say what is paid for now: an
    upgrade shows only once it is paid.
    ``request_id`` is the durable request that began it.
    """

    status: SubscriptionStatus
    subscriber_id: str
    creator_id: str
    request_id: str
    tier_id: str
    interval: Interval
    amount_minor: int
    currency: str
    period_start: Moment
    period_end: Moment
    interval_count: int = 1
    trial_end: Moment | None = None
    cancel_at_period_end: bool = False
    cancelled_at: Moment | None = None
    ended_at: Moment | None = None
    latest_invoice_id: str | None = None
    pending_tier_id: str | None = None
    """The tier of an upgrade whose invoice is not paid yet."""

    @property
    def order(self) -> tuple[datetime, int, str]:
        """Within a second an ended subscription is newest, and an incomplete one oldest."""
        return self.as_of, self.rank * 8 + _STATUS_RANK[self.status], self.event_id


class MoneyFact(Fact, frozen=True, kw_only=True, gc=False):
    """About money of one payment. ``payment_id`` is the provider's payment, the same in charge, refund and dispute.

    ``payer_id`` is the person who pays, ``payee_id`` the creator. ``request_id`` is the durable request that caused the
    payment; for a subscription's payments the one that began the subscription, with ``subscription_id`` beside it.
    """

    payment_id: str
    payer_id: str
    payee_id: str
    request_id: str
    currency: str
    subscription_id: str | None = None


class PaymentSucceeded(MoneyFact, frozen=True, kw_only=True, tag="payment_succeeded", gc=False):
    """A single payment (tip, pay-per-view) was charged. ``object_id`` is the payment.

    ``fee_minor`` is what the platform kept of it, ``processor_fee_minor`` what the provider charged the platform where
    it says so, in the payment's currency.
    """

    amount_minor: int
    fee_minor: int
    processor_fee_minor: int | None = None


class PaymentFailed(MoneyFact, frozen=True, kw_only=True, tag="payment_failed", gc=False):
    """An attempt failed, or (``final``) the payment was given up and can no longer succeed."""

    amount_minor: int
    code: str
    final: bool = False


class InvoicePaid(MoneyFact, frozen=True, kw_only=True, tag="invoice_paid", gc=False):
    """A subscription's bill was paid. ``object_id`` is the invoice; ``amount_minor`` may be 0 (trial, whole discount)."""

    amount_minor: int
    fee_minor: int
    reason: Literal["first", "renewal", "change", "other"]
    tier_id: str
    period_start: Moment
    period_end: Moment
    processor_fee_minor: int | None = None


class InvoiceFailed(MoneyFact, frozen=True, kw_only=True, tag="invoice_failed", gc=False):
    """An attempt to collect a subscription's bill failed. None: the provider tries no more by itself."""

    amount_minor: int
    attempt: int
    next_attempt_at: Moment | None = None
    action_required: bool = False
    """The payer can complete it (strong authentication)."""


class Refunded(MoneyFact, frozen=True, kw_only=True, tag="refunded", gc=False):
    """What was given back of a payment so far. ``object_id`` is the charge.

    ``fee_refunded_minor`` is the platform's share of it; the rest came back from the creator. A total that is less than one
    before, zero included, says that a bank sent a refund back.
    """

    amount_minor: int
    refunded_minor: int
    fee_refunded_minor: int

    @property
    def order(self) -> tuple[datetime, int, str]:
        """Of one moment the greater total is newer: a refund fails long after it was made."""
        return self.as_of, self.refunded_minor, self.event_id


class DisputeOpened(MoneyFact, frozen=True, kw_only=True, tag="dispute_opened", gc=False):
    """The payer's bank took the money back until it is decided. ``object_id`` is the dispute."""

    amount_minor: int
    reason: str
    fee_minor: int = 0
    """What the provider charges for the dispute, where it does so in the payment's currency."""


class DisputeClosed(MoneyFact, frozen=True, kw_only=True, tag="dispute_closed", gc=False):
    """``won``: the money came back. Closing is final, whatever comes later. ``object_id`` is the dispute."""

    amount_minor: int
    won: bool


class AccountFact(Fact, frozen=True, kw_only=True, gc=False):
    """About a creator's account at the provider."""

    account_id: str
    creator_id: str


class AccountState(AccountFact, frozen=True, kw_only=True, tag="account_state", gc=False):
    """The whole state of a creator's account. ``object_id`` is the account."""

    charges_enabled: bool
    payouts_enabled: bool
    details_submitted: bool
    due: tuple[str, ...] = ()
    """What the provider still wants to know, in its own words."""
    disabled_reason: str | None = None


class PayoutPaid(AccountFact, frozen=True, kw_only=True, tag="payout_paid", gc=False):
    """Money is on its way to the creator's bank. A bank may still send it back: ``PayoutFailed`` of the same payout wins."""

    amount_minor: int
    currency: str
    arrives_at: Moment
    request_id: str | None = None
    """None: the provider's own schedule paid it out."""


class PayoutFailed(AccountFact, frozen=True, kw_only=True, tag="payout_failed", gc=False):
    amount_minor: int
    currency: str
    code: str
    request_id: str | None = None


PaymentFact = (
    PaymentSucceeded | PaymentFailed | InvoicePaid | InvoiceFailed | Refunded | DisputeOpened | DisputeClosed
    | AccountState | PayoutPaid | PayoutFailed
)
"""What the ledger follows: on payment.completed, keyed by payer; account and payout facts by creator."""
SubscriptionFact = SubscriptionState | InvoicePaid | InvoiceFailed | Refunded | DisputeOpened | DisputeClosed
"""What decides about a subscription: on subscription.created, keyed by subscriber."""
AnyFact = SubscriptionState | PaymentFact


def owner_of(fact: AnyFact) -> str:
    """Whose topic partition a fact belongs to: the subscriber, the payer, or the creator of an account."""
    if isinstance(fact, SubscriptionState):
        return fact.subscriber_id
    return fact.payer_id if isinstance(fact, MoneyFact) else fact.creator_id
