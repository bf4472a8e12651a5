"""What payment providers reported: the raw webhooks, and the facts that they prove."""

from __future__ import annotations

from typing import ClassVar

from configs.contracts import topics
from configs.contracts.events.base import Id, Instant, Payload
from configs.contracts.payment_facts import PaymentFact, SubscriptionFact
from configs.contracts.topics import Topic


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
    (topics.PAYMENT_COMPLETED, PaymentObserved),
    (topics.SUBSCRIPTION_CREATED, SubscriptionObserved),
)
