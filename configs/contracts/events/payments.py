"""What payers asked for, and what payment providers reported: the raw webhooks, and the facts that they prove."""

from __future__ import annotations

from typing import ClassVar, Literal

from configs.contracts import topics
from configs.contracts.events.base import Id, Instant, Payload
from configs.contracts.payment_facts import PaymentFact, SubscriptionFact
from configs.contracts.topics import Topic


class PaymentRequested(Payload, frozen=True, kw_only=True):
    """A tip or a purchase began; amount and payee, of our own records, hold until ``checkout_until``. Keyed by payer.

    ``payment_id`` comes from the request's Idempotency-Key, which it holds for good.
    """

    TYPE: ClassVar[str] = "payment_requested"
    payment_id: Id
    payer_id: Id
    payee_id: Id
    purpose: Literal["tip", "post"]
    post_id: Id | None = None
    amount_minor: int
    currency: str
    fee_minor: int
    account_id: str
    payment_method_id: str
    message: str | None = None
    checkout_until: Instant
    body_digest: str


class PaymentAbandoned(Payload, frozen=True, kw_only=True):
    """The provider refused the payment, or ended it once its time was over; nothing was paid."""

    TYPE: ClassVar[str] = "payment_abandoned"
    payment_id: Id
    payer_id: Id
    reason: Literal["declined", "provider_refused"]


class RefundRequested(Payload, frozen=True, kw_only=True):
    """Staff wants some or all of a payment given back. ``refund_id`` comes from the request's Idempotency-Key, which it holds for good.

    ``all_left``: the platform itself wants back whatever is left when the processor is asked; ``amount_minor`` is what its rows
    told then, which know nothing yet of a refund of the same moment.
    """

    TYPE: ClassVar[str] = "refund_requested"
    refund_id: Id
    payment_id: Id
    payer_id: Id
    amount_minor: int
    reason: str
    requested_by: str
    body_digest: str
    all_left: bool = False


class RefundAnswered(Payload, frozen=True, kw_only=True):
    """The provider has made the refund, or will not. What came back says a fact about the payment."""

    TYPE: ClassVar[str] = "refund_answered"
    refund_id: Id
    payment_id: Id
    payer_id: Id
    made: bool


class PayoutRequested(Payload, frozen=True, kw_only=True):
    """A creator wants some of what they earned. Keyed by creator. ``payout_id`` comes from the request's Idempotency-Key.

    ``account_id`` is the creator's at the provider; empty: staff pays by hand.
    """

    TYPE: ClassVar[str] = "payout_requested"
    payout_id: Id
    creator_id: Id
    amount_minor: int
    currency: str
    provider: str
    account_id: str
    livemode: bool
    body_digest: str


class PayoutAnswered(Payload, frozen=True, kw_only=True):
    """The provider has begun the payout (``object_id`` names it there), or will not. Facts say how it went on."""

    TYPE: ClassVar[str] = "payout_answered"
    payout_id: Id
    creator_id: Id
    object_id: str | None = None


PayoutOutcome = Literal["paid", "refused", "returned"]


class PayoutRecorded(Payload, frozen=True, kw_only=True):
    """Staff says what became of a payout that no provider makes. ``returned``: the bank sent back what had been paid.

    ``reference`` is what the transfer is called at the bank, or why there was none.
    """

    TYPE: ClassVar[str] = "payout_recorded"
    payout_id: Id
    creator_id: Id
    outcome: PayoutOutcome
    reference: str
    recorded_by: str


class WebhookReceived(Payload, frozen=True, kw_only=True):
    """A webhook with a good signature, as it came. The event id is derived from provider and ``provider_event_id``."""

    TYPE: ClassVar[str] = "webhook_received"
    provider: str
    provider_event_id: str
    object_id: str
    kind: str
    livemode: bool
    created_at: Instant
    body: str


class PaymentObserved(Payload, frozen=True, kw_only=True):
    """A provider's fact about money, keyed by payer; about payouts and accounts by creator.

    The same fact may stand in the log again under the same event id.
    """

    TYPE: ClassVar[str] = "payment_observed"
    owner_id: Id
    fact: PaymentFact


class SubscriptionObserved(Payload, frozen=True, kw_only=True):
    """A provider's fact about a subscription or its money, keyed by subscriber; of several of one object and kind the greatest ``fact.order`` counts.

    Money facts stand on payment.completed too, for the ledger; the event here is derived from the one there.
    """

    TYPE: ClassVar[str] = "subscription_observed"
    owner_id: Id
    fact: SubscriptionFact


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.PAYMENT_WEBHOOKS, WebhookReceived),
    (topics.PAYMENT_COMPLETED, PaymentRequested),
    (topics.PAYMENT_COMPLETED, PaymentAbandoned),
    (topics.PAYMENT_COMPLETED, RefundRequested),
    (topics.PAYMENT_COMPLETED, RefundAnswered),
    (topics.PAYMENT_COMPLETED, PayoutRequested),
    (topics.PAYMENT_COMPLETED, PayoutAnswered),
    (topics.PAYMENT_COMPLETED, PayoutRecorded),
    (topics.PAYMENT_COMPLETED, PaymentObserved),
    (topics.SUBSCRIPTION_CREATED, SubscriptionObserved),
)
