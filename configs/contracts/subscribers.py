"""Whose subscriptions they are: one person's, and what lists show of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from configs.contracts.entitlements import Holding
from configs.contracts.events import (
    Event,
)
from configs.contracts.payment_facts import (
    SubscriptionStatus,
)
from configs.contracts.subscriptions import Subscription, subscription_after, subscription_of


class Subscriber(msgspec.Struct, frozen=True):
    """All of one person's subscriptions that matter: every live one, and the newest of the others."""

    subscriptions: Mapping[str, Subscription]
    version: int

    def live_to(self, creator_id: str, now: datetime) -> Subscription | None:
        """The newest of those to the creator that are live."""
        return newest(
            item for item in self.subscriptions.values() if item.creator_id == creator_id and item.live_at(now)
        )

    def holdings(self, creator_id: str) -> tuple[Holding, ...]:
        """What each of the subscriptions to one creator is worth, where it is worth anything."""
        found = sorted(
            (item for item in self.subscriptions.values() if item.creator_id == creator_id), key=_age, reverse=True
        )
        return tuple(item.holding for item in found if item.status not in ("incomplete", "expired"))


def newest(found: Iterable[Subscription]) -> Subscription | None:
    return max(found, key=_age, default=None)


def _age(subscription: Subscription) -> tuple[datetime, str]:
    return subscription.requested_at, subscription.subscription_id


def subscriber_after(before: Subscriber | None, event: Event, version: int) -> Subscriber | None:
    """The subscriber once an event of theirs has been taken in."""
    name = subscription_of(event)
    if name is None:
        return before
    known = {} if before is None else before.subscriptions
    held = known.get(name)
    after = subscription_after(held, event, version)
    if after is None or after is held:
        return before
    return Subscriber({**known, name: after}, max(version, 0 if before is None else before.version))


class SubscriptionEntry(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """One subscription in the subscriber's list, and in the creator's list of subscribers."""

    subscription_id: str
    subscriber_id: str
    creator_id: str
    tier_id: str
    tier_name: str
    rank: int
    status: SubscriptionStatus
    interval: str
    amount_minor: int
    currency: str
    interval_count: int = 1
    requested_at: datetime
    checkout_until: datetime
    period_start: datetime | None = None
    period_end: datetime | None = None
    entitled_until: datetime | None = None
    cancel_at_period_end: bool = False
    cancelled_at: datetime | None = None
    next_tier_id: str | None = None
    """Asked for, and not in force yet."""
    livemode: bool = False

    def status_at(self, now: datetime) -> SubscriptionStatus:
        """``Subscription.status_at`` of what the entry tells."""
        if self.status == "incomplete" and now >= self.checkout_until:
            return "expired"
        ended = self.cancel_at_period_end and self.period_end is not None and now >= self.period_end
        return "expired" if ended and self.status in ("trialing", "active") else self.status


def entry_of(item: Subscription) -> SubscriptionEntry:
    """What lists show of a subscription."""
    seen, terms = item.observed, item.current_terms
    return SubscriptionEntry(
        subscription_id=item.subscription_id, subscriber_id=item.subscriber_id, creator_id=item.creator_id,
        tier_id=terms.tier_id, tier_name=terms.tier_name, rank=terms.rank, status=item.status, interval=terms.interval,
        amount_minor=terms.amount_minor, currency=terms.currency, interval_count=terms.interval_count, requested_at=item.requested_at,
        checkout_until=item.checkout_until, period_start=None if seen is None else seen.period_start,
        period_end=None if seen is None else seen.period_end, entitled_until=item.entitled_until,
        cancel_at_period_end=item.cancel_at_period_end, cancelled_at=None if seen is None else seen.cancelled_at,
        next_tier_id=None if seen is None else seen.pending_tier_id, livemode=bool(item.livemode),
    )
