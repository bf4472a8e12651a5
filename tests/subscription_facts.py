"""What a payment provider would report about a subscription, for tests of what is made of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from configs.contracts.events.subscriptions import Terms
from configs.contracts.payment_facts import (
    DisputeClosed,
    DisputeOpened,
    InvoicePaid,
    Refunded,
    SubscriptionFact,
    SubscriptionState,
)

CREATOR, FAN, SUBSCRIPTION = (f"0198c0de-0000-7000-8000-00000000000{n}" for n in (1, 2, 7))
TIERS = tuple(f"0198c0de-0000-7000-8000-0000000000a{n}" for n in range(4))
"""By rank."""
BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
MONTH = timedelta(days=30)


def terms(rank: int = 1, **changes: Any) -> Terms:
    fields: dict[str, Any] = {
        "tier_id": TIERS[rank], "rank": rank, "tier_name": f"Tier {rank}", "revision": 1, "interval": "month",
        "amount_minor": 1_000 * rank, "currency": "EUR",
    }
    return Terms(**{**fields, **changes})


class Reports:
    """Makes facts about one subscription, each with an event id of its own, at the provider's time ``now``."""

    def __init__(self, subscription: str = SUBSCRIPTION, subscriber: str = FAN, creator: str = CREATOR) -> None:
        self.now = BEGIN
        self._count = 0
        self._common = {"provider": "sandbox", "livemode": False, "request_id": subscription}
        self._people = (subscriber, creator)

    def _next(self, object_id: str) -> dict[str, Any]:
        self._count += 1
        return {**self._common, "event_id": f"evt_{self._count:04d}", "object_id": object_id, "as_of": self.now}

    def state(self, status: Any, rank: int = 1, **changes: Any) -> SubscriptionState:
        subscriber, creator = self._people
        fields: dict[str, Any] = {
            "status": status, "subscriber_id": subscriber, "creator_id": creator, "tier_id": TIERS[rank],
            "interval": "month", "amount_minor": 1_000 * rank, "currency": "EUR", "period_start": self.now,
            "period_end": self.now + MONTH,
        }
        return SubscriptionState(**self._next("sub_1"), **{**fields, **changes})

    def _money(self, payment: str) -> dict[str, Any]:
        subscriber, creator = self._people
        return {"payment_id": payment, "payer_id": subscriber, "payee_id": creator, "currency": "EUR", "subscription_id": "sub_1"}

    def paid(self, payment: str, rank: int = 1, reason: Any = "first", **changes: Any) -> InvoicePaid:
        fields: dict[str, Any] = {
            "amount_minor": 1_000 * rank, "fee_minor": 200 * rank, "reason": reason, "tier_id": TIERS[rank],
            "period_start": self.now, "period_end": self.now + MONTH,
        }
        return InvoicePaid(**self._next(f"in_{payment}"), **self._money(payment), **{**fields, **changes})

    def refunded(self, payment: str, part: float = 1.0, amount: int = 1_000) -> Refunded:
        given = int(amount * part)
        return Refunded(
            **self._next(f"ch_{payment}"), **self._money(payment), amount_minor=amount, refunded_minor=given,
            fee_refunded_minor=given // 5,
        )

    def disputed(self, payment: str) -> DisputeOpened:
        return DisputeOpened(**self._next(f"dp_{payment}"), **self._money(payment), amount_minor=1_000, reason="fraudulent")

    def dispute_closed(self, payment: str, *, won: bool) -> DisputeClosed:
        return DisputeClosed(**self._next(f"dp_{payment}"), **self._money(payment), amount_minor=1_000, won=won)


Facts = tuple[SubscriptionFact, ...]
