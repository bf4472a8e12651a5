"""What comes of a subscription's history: the same from any order of its reports, and access only for what is paid."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from subscription_facts import BEGIN, CREATOR, FAN, MONTH, SUBSCRIPTION, TIERS, Reports, terms

from configs.contracts.entitlements import GRACE, RENEWING, Content, Viewer, access
from configs.contracts.events import (
    Event,
    SubscriptionCancelled,
    SubscriptionChangeRequested,
    SubscriptionObserved,
    SubscriptionRequested,
    SubscriptionResumed,
)
from configs.contracts.events.base import Payload
from configs.contracts.ids import new_id
from configs.contracts.ledger import Transaction, subject_of, transactions_of
from configs.contracts.payment_facts import PaymentFact, SubscriptionFact, SubscriptionState
from configs.contracts.subscriptions import Subscription, subscription_after

STEPS = st.lists(
    st.sampled_from([
        "renew", "fail", "recover", "upgrade", "pay_upgrade", "downgrade", "refund", "refund_part", "dispute", "win", "lose",
        "cancel", "resume", "hour", "day", "week", "month", "draft", "collect",
    ]),
    max_size=14,
)


PROMO_PAYMENTS = 3


@dataclass
class Bought:
    """The ruler: what one payment bought, kept by the test in the plainest way."""

    payment: str
    rank: int
    begins: datetime
    ends: datetime
    refunded: bool = False
    disputed: bool = False


@dataclass
class History:
    """Plays a provider and a subscriber, and keeps what was bought beside what is reported."""

    trial_days: int
    off_percent: int = 0
    """What a promo code takes off the first payments."""
    reports: Reports = field(default_factory=Reports)
    facts: list[SubscriptionFact] = field(default_factory=list)
    asked: list[Payload] = field(default_factory=list)
    bought: list[Bought] = field(default_factory=list)
    status: str = "active"
    rank: int = 1
    next_rank: int | None = None
    upgrade: int | None = None
    begins: datetime = BEGIN
    ends: datetime = BEGIN
    trial_ends: datetime | None = None
    cancelling: bool = False
    drafted: bool = False

    def __post_init__(self) -> None:
        if self.trial_days:
            self.status, self.trial_ends = "trialing", BEGIN + timedelta(days=self.trial_days)
            self.ends = self.trial_ends
            self.facts.append(self.reports.paid("pi_0", 1, "first", amount_minor=0, fee_minor=0, period_end=self.trial_ends))
        else:
            self.pay("first")
        self.tell()

    def tell(self) -> None:
        self.facts.append(self.reports.state(
            self.status, self.rank, period_start=self.begins, period_end=self.ends, trial_end=self.trial_ends,
            cancel_at_period_end=self.cancelling,
        ))

    def pay(self, reason: str) -> None:
        """A payment for the period that begins now, or (a change) for the rest of the present one."""
        name = f"pi_{len(self.bought) + 1}"
        self.drafted = False
        if reason != "change":
            self.begins, self.ends = self.reports.now, self.reports.now + MONTH
        self.bought.append(Bought(name, self.rank, self.reports.now, self.ends))
        amount = 1_000 * (100 - self.off_percent) // 100 if len(self.bought) <= PROMO_PAYMENTS else 1_000
        self.facts.append(self.reports.paid(name, self.rank, reason, period_end=self.ends, amount_minor=amount))

    def step(self, name: str) -> None:
        self.reports.now += timedelta(seconds=1)
        getattr(self, f"_{name}", self._nothing)()
        self._time()

    def _time(self) -> None:
        """What a provider does by itself when a period is over."""
        if self.status in ("trialing", "active") and self.reports.now >= self.ends and self.cancelling:
            self.status = "expired"
            self.tell()

    def _nothing(self) -> None: ...

    def _renew(self) -> None:
        if self.status in ("trialing", "active") and self.reports.now >= self.ends and not self.cancelling:
            self.status, self.trial_ends = "active", None
            self.rank, self.next_rank = self.next_rank or self.rank, None
            self.pay("renewal")
            self.tell()

    def _draft(self) -> None:
        """The next period begins, and its bill waits to be charged."""
        if self.status in ("trialing", "active") and self.reports.now >= self.ends and not self.cancelling:
            self.status, self.drafted = "active", True
            self.rank, self.next_rank = self.next_rank or self.rank, None
            self.begins, self.ends = self.reports.now, self.reports.now + MONTH
            self.tell()

    def _collect(self) -> None:
        if self.status == "active" and self.drafted:
            self.trial_ends = None
            self.pay("renewal")
            self.tell()

    def _fail(self) -> None:
        if self.status in ("trialing", "active") and self.reports.now >= self.ends and not self.cancelling:
            self.status, self.trial_ends = "past_due", None
            self.tell()

    def _recover(self) -> None:
        if self.status == "past_due":
            self.status = "active"
            self.pay("renewal")
            self.tell()

    def _upgrade(self) -> None:
        if self.status in ("trialing", "active") and self.rank < 3 and self.upgrade is None:
            self.upgrade = self.rank + 1
            self.asked.append(SubscriptionChangeRequested(
                request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, terms=terms(self.upgrade), now=True,
                body_digest="",
            ))

    def _pay_upgrade(self) -> None:
        if self.upgrade is not None and self.status in ("trialing", "active") and self.reports.now < self.ends:
            self.rank, self.upgrade = self.upgrade, None
            trial = self.status == "trialing"
            self.status, self.trial_ends = "active", None
            self.pay("first" if trial else "change")
            self.tell()

    def _downgrade(self) -> None:
        if self.status == "active" and self.rank > 1:
            self.next_rank = self.rank - 1
            self.asked.append(SubscriptionChangeRequested(
                request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, terms=terms(self.next_rank),
                now=False, body_digest="",
            ))

    def _refund(self) -> None:
        if self.bought:
            self.bought[-1].refunded = True
            self.facts.append(self.reports.refunded(self.bought[-1].payment))

    def _refund_part(self) -> None:
        if self.bought and not self.bought[-1].refunded:
            self.facts.append(self.reports.refunded(self.bought[-1].payment, 0.5))

    def _dispute(self) -> None:
        # A bank's decision is final: a payment is disputed once.
        if self.bought and not any(
            fact.kind == "dispute_opened" and fact.payment_id == self.bought[-1].payment for fact in self.facts
        ):
            self.bought[-1].disputed = True
            self.facts.append(self.reports.disputed(self.bought[-1].payment))

    def _close(self, *, won: bool) -> None:
        open_ones = [item for item in self.bought if item.disputed]
        if open_ones and not any(fact.kind == "dispute_closed" and fact.object_id == f"dp_{open_ones[0].payment}" for fact in self.facts):
            open_ones[0].disputed = not won
            self.facts.append(self.reports.dispute_closed(open_ones[0].payment, won=won))

    def _win(self) -> None:
        self._close(won=True)

    def _lose(self) -> None:
        self._close(won=False)

    def _cancel(self) -> None:
        if self.status in ("trialing", "active") and not self.cancelling:
            self.cancelling = True
            self.asked.append(SubscriptionCancelled(request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN))
            self.tell()

    def _resume(self) -> None:
        if self.status in ("trialing", "active") and self.cancelling:
            self.cancelling = False
            self.asked.append(SubscriptionResumed(
                request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, body_digest="",
            ))
            self.tell()

    def _hour(self) -> None:
        self.reports.now += timedelta(hours=1)

    def _day(self) -> None:
        self.reports.now += timedelta(days=1)

    def _week(self) -> None:
        self.reports.now += timedelta(days=7)

    def _month(self) -> None:
        self.reports.now += MONTH

    def rank_now(self) -> int | None:
        """What the subscriber has paid for at this moment, by the rules as they are written for people."""
        now = self.reports.now
        if self.status not in ("trialing", "active", "past_due"):
            return None
        bought = list(self.bought)
        if not bought and self.status == "active" and self.trial_ends is not None:
            bought = [Bought("trial", 1, BEGIN, self.trial_ends)]
        last = max((item.ends for item in bought), default=now)
        renewing = self.status == "active" and not self.cancelling and last < self.ends

        def grace(item: Bought) -> timedelta:
            return GRACE if self.status == "past_due" else RENEWING if renewing and item.ends == last else timedelta(0)

        ranks = [
            item.rank for item in bought
            if not item.refunded and not item.disputed and item.begins <= now < item.ends + grace(item)
        ]
        if self.status == "trialing" and self.trial_ends is not None and now < self.trial_ends:
            ranks.append(1)
        return max(ranks, default=None)


def folded(history: History, facts: list[SubscriptionFact]) -> Subscription:
    """The subscription after its requests, in their order, and these facts, in theirs."""
    requested = SubscriptionRequested(
        subscription_id=SUBSCRIPTION, subscriber_id=FAN, creator_id=CREATOR, account_id="acct_1", payment_method_id="pm_1",
        terms=terms(1, trial_days=history.trial_days, percent_off=history.off_percent, months_off=PROMO_PAYMENTS),
        checkout_until=BEGIN + timedelta(minutes=30), body_digest="",
    )
    payloads: list[Payload] = [
        requested, *history.asked, *(SubscriptionObserved(owner_id=FAN, fact=fact) for fact in facts)
    ]
    state: Subscription | None = None
    for version, payload in enumerate(payloads, 1):
        state = subscription_after(state, Event(new_id(), BEGIN, FAN, payload), version)
    assert state is not None
    return msgspec.structs.replace(state, version=0)


def booked(facts: list[SubscriptionFact]) -> list[Transaction]:
    """The ledger's transactions after these facts, payment by payment, as a writer makes them."""
    of_payments: dict[str, list[PaymentFact]] = {}
    for fact in facts:
        if not isinstance(fact, SubscriptionState) and (subject := subject_of(fact)) is not None:
            of_payments.setdefault(subject, []).append(fact)
    return [item for name in sorted(of_payments) for item in transactions_of(of_payments[name])]


def played(trial_days: int, steps: list[str], off_percent: int = 0) -> History:
    history = History(trial_days, off_percent)
    for name in steps:
        history.step(name)
    return history


@settings(max_examples=300, deadline=None)
@example(0, 0, ["month", "draft", "hour"])
@example(7, 0, ["week", "draft", "hour", "hour"])
@example(0, 0, ["upgrade", "pay_upgrade", "month", "draft", "refund"])
@example(0, 0, ["month", "draft", "collect", "refund"])
@given(st.sampled_from([0, 7]), st.sampled_from([0, 50, 90]), STEPS)
def test_access_is_what_was_paid_for_and_is_still_paid_for(trial_days: int, off_percent: int, steps: list[str]) -> None:
    history = played(trial_days, steps, off_percent)
    state = folded(history, history.facts)
    now, rank = history.reports.now, history.rank_now()
    viewer = Viewer(FAN, holdings=(state.holding,))
    for required in range(1, 4):
        expected = "subscribe" if rank is None else "open" if rank >= required else "upgrade"
        assert access(Content(new_id(), CREATOR, "tier_specific", required), viewer, now) == expected
    assert access(Content(new_id(), CREATOR, "subscribers"), viewer, now) == ("subscribe" if rank is None else "open")
    assert access(Content(new_id(), CREATOR, "ppv"), viewer, now) == "purchase"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([0, 7]), STEPS, st.data())
def test_reports_may_come_in_any_order_and_more_than_once(trial_days: int, steps: list[str], data: Any) -> None:
    """They end in the same access and in the same ledger."""
    history = played(trial_days, steps)
    repeated = history.facts + data.draw(st.lists(st.sampled_from(history.facts), max_size=6))
    shuffled = data.draw(st.permutations(repeated))
    made = booked(history.facts)
    for order in (shuffled, repeated[::-1]):
        assert folded(history, order) == folded(history, history.facts)
        assert booked(order) == made
    assert {item.payment_id for item in made if item.kind == "charge"} == {item.payment for item in history.bought}
    assert all(sum(entry.amount_minor for entry in item.entries) == 0 for item in made)


@pytest.mark.parametrize("steps", [
    ["refund_part", "refund"], ["refund_part", "dispute", "win"], ["refund_part", "dispute", "lose"], ["dispute", "lose", "refund"],
], ids=" ".join)
def test_what_was_given_back_in_parts_or_disputed_is_booked_the_same_in_every_order(steps: list[str]) -> None:
    """Every order there is: drawn histories seldom have two refunds of one payment."""
    facts = played(0, steps).facts
    made = booked(facts)
    assert len(made) == len(steps) + 1
    assert all(booked(list(order)) == made for order in permutations(facts))


@settings(max_examples=25, deadline=None)
@given(st.permutations(list(range(60))))
def test_what_is_kept_is_bounded_and_does_not_depend_on_the_order(order: list[int]) -> None:
    reports = Reports()
    facts: list[SubscriptionFact] = []
    for number in range(60):
        reports.now = BEGIN + number * MONTH
        facts.append(reports.paid(f"pi_{number}", 1, "renewal"))
    history = played(0, [])
    state = folded(history, [facts[index] for index in order])
    assert state == folded(history, facts)
    assert len(state.facts) == 36
    assert state.periods[0].ends_at == facts[-1].as_of + MONTH


def test_a_rank_is_that_of_the_agreement_whatever_becomes_of_the_tier() -> None:
    history = played(0, ["upgrade", "pay_upgrade"])
    state = folded(history, history.facts)
    assert (state.current_terms.tier_id, state.current_terms.amount_minor) == (TIERS[2], 2_000)
    assert state.holding.rank_at(history.reports.now) == 2
