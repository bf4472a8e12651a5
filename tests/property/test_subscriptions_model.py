"""One live subscription to a creator and one effect a request, whatever is lost, repeated, late, evicted and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard
from subscription_facts import CREATOR, FAN, Reports, terms

from actors.subscriptions.commands import (
    Abandon,
    AlreadySubscribed,
    AnswerBillRefund,
    Cancel,
    Change,
    ChangeMethod,
    IdempotencyConflict,
    NotPossible,
    NotRefundable,
    Observe,
    RefundBill,
    Resume,
    Subscribe,
    SubscriptionStands,
    Unknown,
)
from actors.subscriptions.state import SubscriptionMemory
from configs.contracts.events import (
    SubscriptionCancelled,
    SubscriptionChangeRequested,
    SubscriptionMethodRequested,
    SubscriptionRequested,
    SubscriptionResumed,
)
from configs.contracts.ids import derived_id
from configs.contracts.loading import SubscriptionRequestRow
from configs.contracts.subscribers import Subscriber, subscriber_after

OTHER = "0198c0de-0000-7000-8000-000000000003"
KEYS = st.sampled_from(["k1", "k2", "k3"])
CREATORS = st.sampled_from([CREATOR, OTHER])
CHECKOUT_S = 1_800


def request(key: str) -> str:
    return derived_id(FAN, f"request {key}")


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> Any:
    """As the sinks make them: the first event under a request's id holds it."""
    if "/" not in key:
        subscriber: Subscriber | None = None
        for event, version in committed:
            subscriber = subscriber_after(subscriber, event, version)
        return subscriber
    for event, version in committed:
        payload = event.payload
        if isinstance(payload, SubscriptionRequested) and f"{FAN}/{payload.subscription_id}" == key:
            return SubscriptionRequestRow(payload.subscription_id, payload.body_digest, False, version)
        if isinstance(payload, SubscriptionChangeRequested | SubscriptionMethodRequested | SubscriptionCancelled | SubscriptionResumed) and (
            f"{FAN}/{payload.request_id}" == key
        ):
            now_ = isinstance(payload, SubscriptionChangeRequested) and payload.now
            return SubscriptionRequestRow(payload.subscription_id, payload.body_digest, now_, version)
    return None


class Subscriptions(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(SubscriptionMemory, rows_of)
        self.requests: dict[str, tuple[str, str]] = {}
        """Request -> (body digest, subscription) of what was recorded first."""

    def ask(self, command: Any, crash: bool) -> Any:
        known = len(self.shard.log)
        if crash:
            self.shard.ask_and_crash(command)
            answer = None
        else:
            answer = self.shard.ask(command)
        recorded = len(self.shard.log) > known
        before = self.requests.get(command.request_id)
        if before is not None:
            assert not recorded, "a request took effect twice"
            if answer is not None:
                same = before[0] == command.body_digest
                assert isinstance(answer, SubscriptionStands if same else IdempotencyConflict)
                assert not same or (answer.replayed and answer.subscription.subscription_id == before[1])
        elif recorded:
            name = command.request_id if isinstance(command, Subscribe) else command.subscription_id
            self.requests[command.request_id] = (command.body_digest, name)
        return answer

    @rule(key=KEYS, creator=CREATORS, rank=st.integers(1, 2), crash=st.booleans())
    def subscribe(self, key: str, creator: str, rank: int, crash: bool) -> None:
        live = self.live(creator)
        known = request(key) in self.requests
        answer = self.ask(Subscribe(
            subscriber_id=FAN, request_id=request(key), body_digest=f"{creator}{rank}", creator_id=creator,
            account_id="acct", payment_method_id="pm", terms=terms(rank), checkout_s=CHECKOUT_S,
        ), crash)
        if answer is not None and not known:
            assert isinstance(answer, AlreadySubscribed if live else SubscriptionStands)

    def live(self, creator: str) -> list[str]:
        subscriber = rows_of(FAN, self.shard.log, self.shard.now) or Subscriber({}, 0)
        return [
            name for name, item in subscriber.subscriptions.items()
            if item.creator_id == creator and item.live_at(self.shard.now)
        ]

    @rule(key=KEYS, change=KEYS, rank=st.integers(1, 3), interval=st.sampled_from(["month", "year"]), crash=st.booleans())
    def change(self, key: str, change: str, rank: int, interval: str, crash: bool) -> None:
        self.ask(Change(
            subscriber_id=FAN, request_id=request(f"change {change}"), body_digest=f"{key}{rank}{interval}",
            subscription_id=request(key), terms=terms(rank, interval=interval),
        ), crash)

    @rule(key=KEYS, number=KEYS, resume=st.booleans(), crash=st.booleans())
    def cancel_or_resume(self, key: str, number: str, resume: bool, crash: bool) -> None:
        kind = Resume if resume else Cancel
        answer = self.ask(kind(
            subscriber_id=FAN, request_id=request(f"{kind.__name__} {number}"), body_digest=key, subscription_id=request(key),
        ), crash)
        assert answer is None or isinstance(answer, SubscriptionStands | Unknown | NotPossible | IdempotencyConflict)

    @rule(key=KEYS, number=KEYS, method=st.sampled_from(["pm_1", "pm_2"]), crash=st.booleans())
    def change_method(self, key: str, number: str, method: str, crash: bool) -> None:
        known = request(f"method {number}") in self.requests
        answer = self.ask(ChangeMethod(
            subscriber_id=FAN, request_id=request(f"method {number}"), body_digest=f"{key}{method}", subscription_id=request(key),
            payment_method_id=method,
        ), crash)
        if not known and isinstance(answer, SubscriptionStands):
            assert answer.subscription.payment_method_id == method

    @rule(key=KEYS)
    def decline(self, key: str) -> None:
        self.shard.ask(Abandon(subscriber_id=FAN, subscription_id=request(key), reason="declined"))

    @rule(key=KEYS, status=st.sampled_from(["trialing", "active", "past_due", "expired"]), late=st.booleans())
    def report(self, key: str, status: str, late: bool) -> None:
        """By the answer of a call, or by a consumer that appends without asking the shard."""
        reports = Reports(request(key))
        reports.now = self.shard.now
        fact = reports.state(status)
        known = len(self.shard.log)
        self.shard.ask(Observe(subscriber_id=FAN, facts=(fact,)))
        if late and len(self.shard.log) > known:
            event, _ = self.shard.log[-1]
            self.shard.log.append((event, self.shard.log[-1][1] + 1))
            self.shard.memory.apply(*self.shard.log[-1])

    @rule(key=KEYS, number=st.sampled_from([1, 2]))
    def pay_a_bill(self, key: str, number: int) -> None:
        reports = Reports(request(key))
        reports.now = self.shard.now
        self.shard.ask(Observe(subscriber_id=FAN, facts=(reports.paid(f"pi_{number}", 1, "renewal"),)))

    @rule(
        key=KEYS, refund=KEYS, bill=st.sampled_from([None, "in_pi_1", "in_pi_2"]), amount=st.sampled_from([None, 1, 400, 700]),
        crash=st.booleans(),
    )
    def refund(self, key: str, refund: str, bill: str | None, amount: int | None, crash: bool) -> None:
        known = len(self.shard.log)
        refund_id = request(f"refund {refund}")
        command = RefundBill(
            subscriber_id=FAN, subscription_id=request(key), refund_id=refund_id, body_digest=f"{key}{bill}{amount}", bill_id=bill,
            amount_minor=amount, reason="asked", requested_by="person:staff",
        )
        if crash:
            self.shard.ask_and_crash(command)
            return
        answer = self.shard.ask(command)
        assert isinstance(answer, SubscriptionStands | Unknown | NotRefundable | IdempotencyConflict)
        if isinstance(answer, SubscriptionStands):
            asked = answer.subscription.refund(refund_id)
            assert asked is not None
            assert asked.body_digest == command.body_digest
            assert answer.replayed == (len(self.shard.log) == known)
        else:
            assert len(self.shard.log) == known

    @rule(key=KEYS, refund=KEYS, made=st.booleans(), crash=st.booleans())
    def answer_a_refund(self, key: str, refund: str, made: bool, crash: bool) -> None:
        command = AnswerBillRefund(
            subscriber_id=FAN, subscription_id=request(key), refund_id=request(f"refund {refund}"), made=made,
        )
        if crash:
            self.shard.ask_and_crash(command)
        else:
            self.shard.ask(command)

    @invariant()
    def never_more_goes_back_than_was_paid(self) -> None:
        subscriber = rows_of(FAN, self.shard.log, self.shard.now) or Subscriber({}, 0)
        for item in subscriber.subscriptions.values():
            assert len({refund.refund_id for refund in item.refunds}) == len(item.refunds)
            for bill in item.bills:
                back = [one.amount_minor for one in item.refunds if one.bill_id == bill.object_id and one.made is not False]
                assert sum(back) <= bill.amount_minor
                assert item.refundable_minor(bill) == bill.amount_minor - sum(back)
            waiting = any(refund.made is None for refund in item.refunds)
            assert item.unsettled or not waiting

    @rule(seconds=st.sampled_from([1, 900, CHECKOUT_S]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)

    @invariant()
    def checkouts_never_overlap(self) -> None:
        """A second checkout begins only when nothing is live, so a subscriber is never asked to pay twice."""
        state: Subscriber | None = None
        for event, version in self.shard.log:
            if isinstance(event.payload, SubscriptionRequested) and state is not None:
                assert state.live_to(event.payload.creator_id, event.occurred_at) is None
            state = subscriber_after(state, event, version)


TestSubscriptions = Subscriptions.TestCase
TestSubscriptions.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
