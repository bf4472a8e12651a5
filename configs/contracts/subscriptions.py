"""A subscription: what was asked for, in the order of the log, and what the provider reported, in any order.

``subscription_after`` is the only place where that becomes a state: shards, rows and read model share it. Reports are
kept as facts, of each object and kind the greatest, so that every permutation with repetitions ends the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from configs.contracts.entitlements import Holding, Period
from configs.contracts.events import (
    BillRefundAnswered,
    BillRefundRequested,
    Event,
    SubscriptionAbandoned,
    SubscriptionCancelled,
    SubscriptionChangeRequested,
    SubscriptionMethodRequested,
    SubscriptionObserved,
    SubscriptionRequested,
    SubscriptionResumed,
)
from configs.contracts.events.subscriptions import Terms
from configs.contracts.money import refundable
from configs.contracts.payment_facts import (
    MONTHS,
    DisputeClosed,
    DisputeOpened,
    InvoicePaid,
    Refunded,
    SubscriptionFact,
    SubscriptionState,
    SubscriptionStatus,
)
from configs.contracts.payments import ENDS_AFTER

INVOICES: Final = 36
"""Facts of each kind that a subscription keeps: the newest. Three years of monthly payments; older ones open nothing."""
CHANGES: Final = 36
"""Changes of tier whose terms are kept."""
PERIODS_SHOWN: Final = 12
REFUNDS: Final = 50
"""Refunds of one subscription's bills that may be asked for, refused ones included."""
IN_FLIGHT: Final = timedelta(seconds=60)
"""For so long after a wish what was seen at the provider may be older than the wish's own call: longer than calls mostly take."""
LIVE: Final[frozenset[SubscriptionStatus]] = frozenset(("incomplete", "trialing", "active", "past_due"))


class Wish(msgspec.Struct, frozen=True, rename="camel"):
    """The last word about renewal that is ours; the provider's later state overrules it."""

    cancel: bool
    at: datetime
    reason: str


class BillRefund(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """A refund that staff or the platform asked for. ``made``: None until the provider has answered."""

    refund_id: str
    bill_id: str
    amount_minor: int
    body_digest: str
    asked_at: datetime
    made: bool | None = None
    all_left: bool = False

    @property
    def wanted_minor(self) -> int | None:
        """What the provider is asked for; None: all that is left."""
        return None if self.all_left else self.amount_minor


class Subscription(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """One subscription of one subscriber to one creator."""

    subscription_id: str
    subscriber_id: str
    creator_id: str
    account_id: str
    payment_method_id: str
    """The one that was asked for last; empty where its payer pays on the provider's own page."""
    terms: Terms
    """Of the checkout."""
    changes: tuple[Terms, ...] = ()
    """Terms of the tiers it was asked to change to, oldest first."""
    requested_at: datetime
    checkout_until: datetime
    body_digest: str
    abandoned: str | None = None
    wish: Wish | None = None
    facts: tuple[SubscriptionFact, ...] = ()
    refunds: tuple[BillRefund, ...] = ()
    version: int

    @property
    def observed(self) -> SubscriptionState | None:
        """The provider's newest state."""
        return next((fact for fact in self.facts if isinstance(fact, SubscriptionState)), None)

    @property
    def provider_id(self) -> str | None:
        """The provider's name of it; None: it is not known to have one."""
        return None if (seen := self.observed) is None else seen.object_id

    @property
    def livemode(self) -> bool | None:
        return None if (seen := self.observed) is None else seen.livemode

    @property
    def status(self) -> SubscriptionStatus:
        """As it was reported, without regard to the time that has passed since."""
        seen = self.observed
        if seen is not None:
            return seen.status
        return "incomplete" if self.abandoned is None else "expired"

    def status_at(self, now: datetime) -> SubscriptionStatus:
        """The status with what time alone has ended: checkouts, cancelled periods."""
        seen, status = self.observed, self.status
        if status == "incomplete" and now >= self.checkout_until:
            return "expired"
        if seen is not None and status in ("trialing", "active") and seen.cancel_at_period_end and now >= seen.period_end:
            return "expired"
        return status

    def live_at(self, now: datetime) -> bool:
        """Whether it is the one subscription that this subscriber may have to this creator.

        A checkout past its time may still be paid until it is ended at the provider; where nobody ends it, it is waited for
        as long again.
        """
        if self.status == "incomplete":
            return now < self.checkout_until + 2 * ENDS_AFTER
        return self.status_at(now) in LIVE

    @property
    def unsettled(self) -> bool:
        """Whether somebody has to act: about its checkout, what that took of the shop, its renewal, or a refund."""
        return self.renewal_due or self.offer_due or any(refund.made is None for refund in self.refunds)

    @property
    def offer_due(self) -> bool:
        """Whether a checkout took something of the shop, is over without any bill or trial, and was not given up yet.

        Whoever gives it up gives back before what it took.
        """
        seen = self.observed
        took = self.terms.promo_id is not None or self.terms.trial_days > 0
        return took and self.status == "expired" and self.abandoned is None and (seen is None or seen.trial_end is None) and not any(
            isinstance(fact, InvoicePaid) for fact in self.facts
        )

    @property
    def renewal_due(self) -> bool:
        """Whether its checkout is open, or renewal is not as it was asked for."""
        if self.status == "incomplete":
            return True
        seen, wish = self.observed, self.wish
        if seen is None or wish is None or self.status == "expired":
            return False
        if wish.cancel:
            return not seen.cancel_at_period_end
        return seen.cancel_at_period_end and wish.at > seen.as_of

    @property
    def parted(self) -> bool:
        """Whether a block or an account's end stopped it: nobody takes that back, and nothing more is charged."""
        return self.wish is not None and self.wish.cancel and self.wish.reason in ("blocked", "account")

    @property
    def cancel_at_period_end(self) -> bool:
        seen, wish = self.observed, self.wish
        # A look at the provider may be answered before a call that began earlier does what the wish says.
        if wish is not None and (seen is None or wish.at > seen.as_of - IN_FLIGHT):
            return wish.cancel
        return seen is not None and seen.cancel_at_period_end

    @property
    def current_terms(self) -> Terms:
        """Of the tier that is paid for now."""
        seen = self.observed
        if seen is None:
            return self.terms
        months = MONTHS[seen.interval] * seen.interval_count
        return self.terms_of(seen.tier_id, months) or self.terms_of(seen.tier_id) or self.terms

    def terms_of(self, tier_id: str, months: int | None = None) -> Terms | None:
        """The newest that were agreed for a tier, for payments of so many months if they are named."""
        return next((
            terms for terms in (*reversed(self.changes), self.terms)
            if terms.tier_id == tier_id and months in (None, terms.months)
        ), None)

    def refund(self, refund_id: str) -> BillRefund | None:
        return next((refund for refund in self.refunds if refund.refund_id == refund_id), None)

    @property
    def bills(self) -> tuple[InvoicePaid, ...]:
        """The bills that cost something and were paid, newest first; older ones than are kept cannot be given back."""
        found = [fact for fact in self.facts if isinstance(fact, InvoicePaid) and fact.amount_minor > 0]
        return tuple(sorted(found, key=lambda bill: (bill.period_end, bill.period_start, bill.object_id), reverse=True))

    def refundable_minor(self, bill: InvoicePaid) -> int:
        """What may still be given back of a bill: what neither the provider has given back nor staff has asked for.

        Nothing while a dispute is open, or after it was lost: the bank has the money.
        """
        won = {fact.object_id for fact in self.facts if isinstance(fact, DisputeClosed) and fact.won}
        for fact in self.facts:
            if isinstance(fact, DisputeOpened | DisputeClosed) and fact.payment_id == bill.payment_id and fact.object_id not in won:
                return 0
        own = [refund for refund in self.refunds if refund.bill_id == bill.object_id]
        return refundable(
            bill.amount_minor, back=max((
                fact.refunded_minor for fact in self.facts if isinstance(fact, Refunded) and fact.payment_id == bill.payment_id
            ), default=None),
            made=sum(refund.amount_minor for refund in own if refund.made),
            asked=sum(refund.amount_minor for refund in own if refund.made is None),
        )

    @property
    def periods(self) -> tuple[Period, ...]:
        """What each payment bought, and the trial while it runs, or until it is followed by a payment; the latest ends first.

        The first begins with the request: the provider's clock may be ahead of ours.
        """
        revoked = self._revoked
        found = [
            Period(
                self._rank(fact.tier_id),
                min(fact.period_start, self.requested_at) if fact.reason == "first" else fact.period_start,
                fact.period_end, fact.payment_id in revoked,
            )
            for fact in self.facts if isinstance(fact, InvoicePaid) and not self._is_trial(fact)
        ]
        seen = self.observed
        if seen is not None and seen.status == "trialing":
            found.append(Period(self._rank(seen.tier_id), seen.period_start, seen.trial_end or seen.period_end))
        elif seen is not None and seen.status == "active" and seen.trial_end is not None and not found:
            found.append(Period(self.terms.rank, self.requested_at, seen.trial_end))
        found.sort(key=lambda period: (period.ends_at, period.starts_at, period.rank, period.revoked), reverse=True)
        return tuple(found)

    @property
    def holding(self) -> Holding:
        """What it is worth to the function that decides on access; the same at every moment."""
        periods = self.periods[:PERIODS_SHOWN]
        return Holding(self.status, periods, self._renewing(periods))

    def given_back_at(self, now: datetime) -> bool:
        """Whether nothing is open at this moment, or a payment for a period that runs was given back or is disputed."""
        return self.holding.rank_at(now) is None or any(
            period.revoked and period.starts_at <= now < period.ends_at for period in self.periods
        )

    def _renewing(self, periods: tuple[Period, ...]) -> bool:
        """Whether the provider has begun a period that nobody has paid for yet, and is about to charge it."""
        seen = self.observed
        if seen is None or seen.status != "active" or self.cancel_at_period_end:
            return False
        return bool(periods) and periods[0].ends_at < seen.period_end

    @property
    def entitled_until(self) -> datetime | None:
        return self.holding.entitled_until

    def _rank(self, tier_id: str) -> int:
        """The rank that was agreed. A tier of which nothing is known counts as the lowest that was ever agreed."""
        terms = self.terms_of(tier_id)
        return terms.rank if terms is not None else min(known.rank for known in (self.terms, *self.changes))

    def _is_trial(self, fact: InvoicePaid) -> bool:
        """A trial's invoice over nothing buys nothing: the trial lasts only as long as the provider says it runs."""
        return self.terms.trial_days > 0 and fact.reason == "first" and fact.amount_minor == 0

    @property
    def _revoked(self) -> frozenset[str]:
        """Payments refunded in full, or disputed and not won back."""
        won = {fact.object_id for fact in self.facts if isinstance(fact, DisputeClosed) and fact.won}
        lost = {fact.payment_id for fact in self.facts if isinstance(fact, DisputeClosed) and not fact.won}
        refunded = {
            fact.payment_id for fact in self.facts
            if isinstance(fact, Refunded) and fact.refunded_minor >= fact.amount_minor > 0
        }
        disputed = {
            fact.payment_id for fact in self.facts if isinstance(fact, DisputeOpened) and fact.object_id not in won
        }
        return frozenset(refunded | disputed | lost)


def subscription_after(before: Subscription | None, event: Event, version: int) -> Subscription | None:
    """The subscription once an event of its own has been taken in; an older one than it holds changes nothing."""
    payload = event.payload
    if before is None:
        if not isinstance(payload, SubscriptionRequested):
            return None
        return Subscription(
            subscription_id=payload.subscription_id, subscriber_id=payload.subscriber_id, creator_id=payload.creator_id,
            account_id=payload.account_id, payment_method_id=payload.payment_method_id, terms=payload.terms,
            requested_at=event.occurred_at, checkout_until=payload.checkout_until, body_digest=payload.body_digest,
            version=version,
        )
    if version <= before.version:
        return before
    # Also by an event that says nothing new: a shard that takes two of them in the other order answers with the later one's version.
    return msgspec.structs.replace(_taken_in(before, event), version=version)


def _taken_in(before: Subscription, event: Event) -> Subscription:
    """The subscription by one more event of its own, of the old version."""
    payload = event.payload
    replace = msgspec.structs.replace
    if isinstance(payload, SubscriptionAbandoned):
        return replace(before, abandoned=payload.reason)
    if isinstance(payload, SubscriptionChangeRequested):
        return replace(before, changes=(*before.changes, payload.terms)[-CHANGES:])
    if isinstance(payload, SubscriptionMethodRequested):
        return replace(before, payment_method_id=payload.payment_method_id)
    if isinstance(payload, SubscriptionCancelled):
        return replace(before, wish=_ended(before, payload.reason, event.occurred_at))
    if isinstance(payload, SubscriptionResumed):
        # What parted its people may stand in the log before a resumption that knew nothing of it.
        return before if before.parted else replace(before, wish=Wish(False, event.occurred_at, "subscriber"))
    if isinstance(payload, BillRefundRequested):
        return _refund_asked(before, payload, event.occurred_at)
    if isinstance(payload, BillRefundAnswered):
        known = before.refund(payload.refund_id)
        if known is None or known.made is not None:
            return before
        return replace(before, refunds=tuple(replace(item, made=payload.made) if item is known else item for item in before.refunds))
    if isinstance(payload, SubscriptionObserved):
        return replace(before, facts=with_fact(before.facts, payload.fact))
    return before


def _ended(before: Subscription, reason: str, at: datetime) -> Wish:
    """The wish to end it; what parted its people stays the reason, whoever ends it anew."""
    return Wish(True, at, before.wish.reason if before.wish is not None and before.parted else reason)


def _refund_asked(before: Subscription, payload: BillRefundRequested, at: datetime) -> Subscription:
    """A refund is asked for once. What stopped renewal before keeps its reason, and what was wished later stays."""
    if before.refund(payload.refund_id) is not None:
        return before
    asked = BillRefund(
        refund_id=payload.refund_id, bill_id=payload.bill_id, amount_minor=payload.amount_minor,
        body_digest=payload.body_digest, asked_at=at, all_left=payload.all_left,
    )
    settled = before.wish is not None and (before.wish.cancel or before.wish.at > at)
    wish = Wish(True, at, "refund") if payload.stops_renewal and not settled else before.wish
    return msgspec.structs.replace(before, refunds=(*before.refunds, asked), wish=wish)


OWN_EVENTS: Final = (
    SubscriptionRequested, SubscriptionAbandoned, SubscriptionChangeRequested, SubscriptionMethodRequested, SubscriptionCancelled,
    SubscriptionResumed, BillRefundRequested, BillRefundAnswered,
)


def subscription_of(event: Event) -> str | None:
    """The subscription that an event of subscription.created is about; None: none of ours."""
    payload = event.payload
    if isinstance(payload, SubscriptionObserved):
        return payload.fact.request_id
    return payload.subscription_id if isinstance(payload, OWN_EVENTS) else None


def with_fact(facts: tuple[SubscriptionFact, ...], fact: SubscriptionFact) -> tuple[SubscriptionFact, ...]:
    """The facts with one more: commutative, and repeating it changes nothing.

    Of one object and kind the greatest ``order`` counts; of invoices, refunds and disputes the newest 36 are kept.
    A single state of the subscription is kept, whatever the provider's object is called.
    """
    by_place: dict[tuple[str, str], SubscriptionFact] = {}
    for known in (*facts, fact):
        place = (known.kind, "" if isinstance(known, SubscriptionState) else known.object_id)
        held = by_place.get(place)
        if held is None or held.order < known.order:
            by_place[place] = known
    kept: list[SubscriptionFact] = []
    for kind in sorted({kind for kind, _ in by_place}):
        same = sorted((item for (name, _), item in by_place.items() if name == kind), key=_newness, reverse=True)
        kept += same[:INVOICES]
    return tuple(kept)


def _newness(fact: SubscriptionFact) -> tuple[object, ...]:
    return (*fact.order, fact.object_id)
