"""Tips and purchases: a payer's shard begins a post's payment once, and every order of the provider's facts ends the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.payments.commands import Abandon, AlreadyBought, Observe, PaymentStands, RequestPayment
from actors.payments.state import PaymentMemory
from configs.contracts.events import Event, PaymentObserved, PaymentRequested
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import (
    DisputeClosed,
    DisputeOpened,
    PaymentFailed,
    PaymentSucceeded,
    Refunded,
)
from configs.contracts.purchases import Payment, Refunding, SingleFact, payment_after, payment_place, post_place

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYER, PAYEE, POST, NAME = (new_id() for _ in range(4))
POSTS = [new_id(), new_id()]


def request(name: str, post_id: str | None = POST, digest: str = "d") -> RequestPayment:
    return RequestPayment(
        payer_id=PAYER, payment_id=name, body_digest=digest, payee_id=PAYEE, purpose="tip" if post_id is None else "post",
        post_id=post_id, amount_minor=500, currency="USD", fee_minor=100, account_id="acct", payment_method_id="pm",
        message=None, checkout_s=1_800,
    )


def facts_of(name: str, at_s: int, kind: str, part: int = 500) -> SingleFact:
    shared = {
        "provider": "stripe", "livemode": False, "event_id": f"evt_{at_s}_{kind}", "object_id": f"{kind}_1",
        "as_of": NOW + timedelta(seconds=at_s), "payment_id": f"pi_{name}", "payer_id": PAYER, "payee_id": PAYEE,
        "request_id": name, "currency": "USD", "amount_minor": 500,
    }
    if kind == "paid":
        return PaymentSucceeded(**shared, fee_minor=100)
    if kind == "failed":
        return PaymentFailed(**shared, code="card_declined", final=False)
    if kind == "refund":
        return Refunded(**shared, refunded_minor=part, fee_refunded_minor=part // 5)
    if kind == "opened":
        return DisputeOpened(**shared | {"object_id": "du_1"}, reason="fraudulent")
    return DisputeClosed(**shared | {"object_id": "du_1"}, won=kind == "won")


FACTS = st.lists(
    st.builds(
        lambda at_s, kind, part: facts_of(NAME, at_s, kind, part), st.integers(0, 20),
        st.sampled_from(["paid", "failed", "refund", "opened", "won", "lost"]), st.sampled_from([100, 250, 500]),
    ),
    min_size=1, max_size=10,
)


def folded(facts: list[SingleFact]) -> Payment:
    asked = PaymentRequested(
        payment_id=NAME, payer_id=PAYER, payee_id=PAYEE, purpose="post", post_id=POST, amount_minor=500, currency="USD",
        fee_minor=100, account_id="acct", payment_method_id="pm", checkout_until=NOW, body_digest="d",
    )
    payment = payment_after(None, Event(NAME, NOW, PAYER, asked), 1)
    for version, fact in enumerate(facts, start=2):
        payment = payment_after(payment, Event(new_id(), NOW, PAYER, PaymentObserved(owner_id=PAYER, fact=fact)), version)
    assert payment is not None
    return payment


@given(FACTS, st.randoms(use_true_random=False))
def test_facts_in_any_order_and_number_end_in_the_same_payment(facts: list[SingleFact], order: random.Random) -> None:
    once = folded(facts)
    again = facts * 2
    order.shuffle(again)
    other = folded(again)
    assert (other.facts, other.status) == (once.facts, once.status)
    assert (once.version, other.version) == (1 + len(facts), 1 + len(again)), "the last one's, though it says nothing new"


def test_what_a_payment_is_worth() -> None:
    def after(*kinds: str) -> str:
        return folded([facts_of(NAME, number, kind) for number, kind in enumerate(kinds)]).status

    assert after("failed") == "pending", "another attempt may follow"
    assert after("failed", "paid") == after("paid", "failed") == "completed"
    assert after("paid", "refund") == "refunded"
    assert folded([facts_of(NAME, 0, "paid"), facts_of(NAME, 1, "refund", 250)]).status == "completed"
    assert after("paid", "opened") == after("paid", "opened", "lost") == after("paid", "lost") == "disputed"
    assert after("paid", "opened", "won") == after("paid", "won", "opened") == "completed"


def test_a_refund_may_be_asked_for_again_once_a_bank_has_sent_it_back() -> None:
    def after(made: bool | None, *totals: int) -> int:
        payment = folded([facts_of(NAME, 0, "paid"), *(facts_of(NAME, at, "refund", total) for at, total in enumerate(totals, 1))])
        refund = Refunding(refund_id="r", amount_minor=300, body_digest="", asked_at=NOW, made=made)
        return msgspec.structs.replace(payment, refunds=(refund,)).refundable_minor

    assert after(True) == after(None) == 200, "nothing is told of it yet"
    assert after(True, 300) == after(None, 300) == 200
    assert after(True, 300, 0) == after(False) == 500
    assert after(True, 300, 100) == 400, "part of it stands"
    assert after(None, 500) == after(True, 500) == 0
    assert folded([facts_of(NAME, 0, "paid"), facts_of(NAME, 1, "refund"), facts_of(NAME, 2, "refund", 0)]).status == "completed"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["request", "paid", "refund", "abandon", "restart"]), st.integers(0, 5), st.integers(0, 1),
    ),
    max_size=40,
)


@given(STEPS)
def test_at_most_one_payment_for_a_post_is_open_or_stands_through_retries_and_restarts(
    steps: list[tuple[str, int, int]]
) -> None:
    names = [f"{number:08x}-0000-7000-8000-000000000000" for number in range(6)]
    log: list[Event] = []
    rows: dict[str, Payment] = {}
    memory = PaymentMemory()

    def ask(command: RequestPayment | Observe | Abandon) -> object:
        for key in memory.needs(command):
            if not memory.known(key):
                held = tuple(payment for payment in rows.values() if post_place(PAYER, payment.asked.post_id or "") == key)
                row = held if "/post/" in key else next(
                    (payment for name, payment in rows.items() if payment_place(PAYER, name) == key), None
                )
                memory.load(key, row)
        decision = memory.decide(command, NOW)
        versions = []
        for append in decision.appends:
            log.append(append.event)
            versions.append(len(log))
            memory.apply(append.event, len(log))
        return decision.answer(tuple(versions))

    for kind, number, post in steps:
        name = names[number]
        if kind == "request":
            answer = ask(request(name, POSTS[post]))
            if isinstance(answer, AlreadyBought):
                assert answer.payment_id != name
        elif kind == "abandon":
            ask(Abandon(payer_id=PAYER, payment_id=name, reason="declined"))
        elif kind == "restart":
            rows = {}
            for version, event in enumerate(log, start=1):
                own = event.payload.payment_id if not isinstance(event.payload, PaymentObserved) else event.payload.fact.request_id
                after = payment_after(rows.get(own), event, version)
                if after is not None:
                    rows[own] = after
            memory = PaymentMemory()
            for version, event in enumerate(log[len(log) // 2 :], start=len(log) // 2 + 1):
                memory.apply(event, version)  # the tail, some of it in the rows already
        else:
            answer = ask(Observe(payer_id=PAYER, payment_id=name, facts=(facts_of(name, len(log), kind),)))
            if isinstance(answer, PaymentStands) and kind == "paid":
                assert answer.payment.succeeded is not None
        held: dict[str, Payment] = {}
        for version, event in enumerate(log, start=1):
            own = event.payload.payment_id if not isinstance(event.payload, PaymentObserved) else event.payload.fact.request_id
            after = payment_after(held.get(own), event, version)
            if after is not None:
                held[own] = after
        for wanted in POSTS:
            # Who was refused may still be charged by a provider that says so later; such a payment was abandoned before.
            begun = [
                payment for payment in held.values()
                if payment.asked.post_id == wanted and payment.holds_post(NOW) and payment.abandoned is None
            ]
            assert len(begun) <= 1
