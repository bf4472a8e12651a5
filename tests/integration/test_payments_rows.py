"""Tips and purchases in rows, in Redis and in shards: the same in any batches, and found again when Redis or a shard is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from actors.payments.commands import AlreadyBought, Find, PaymentStands, RequestPayment
from actors.payments.state import PaymentMemory
from cluster.connections.redis import apply, sync_client
from configs.contracts.events import (
    TOPIC_OF,
    Event,
    PaymentAbandoned,
    PaymentObserved,
    PaymentRequested,
    UserCreated,
)
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import DisputeClosed, DisputeOpened, PaymentSucceeded, Refunded
from configs.contracts.purchases import (
    Payment,
    effective,
    payment_after,
    payment_of,
    payment_place,
    stands,
    without_text,
)
from configs.contracts.read_model import commerce_key
from configs.contracts.selling import purchase_field, read_purchase
from configs.settings import Settings
from writers import reconcile as reconciling
from writers.commit import write_facts
from writers.connections import Connection, open_rows
from writers.loads.payments import payments
from writers.loads.read_model import people_operations
from writers.projections.operations import changes_of
from writers.reconcile import reconcile
from writers.records import Fact

pytestmark = pytest.mark.servers

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAYMENTS = 4
"""Three for one post, and a tip."""
STEPS = st.lists(st.tuples(
    st.sampled_from(["paid", "part", "refund", "opened", "won", "lost", "abandon"]), st.integers(0, PAYMENTS - 1), st.integers(0, 3)
), max_size=14)


class History:
    """A payer's log: all payments are asked for, and then what the provider says of them comes in any order."""

    def __init__(self, steps: list[tuple[str, int, int]]) -> None:
        self.payer, self.creator, self.post_id = new_id(), new_id(), new_id()
        self.names = [new_id() for _ in range(PAYMENTS)]
        self.facts: list[Fact] = []
        self._add(UserCreated(user_id=self.payer, role="sugar_daddy", display_name="Payer", birth_date="1990-01-01"))
        for number, name in enumerate(self.names):
            tip = number == PAYMENTS - 1
            self._add(PaymentRequested(
                payment_id=name, payer_id=self.payer, payee_id=self.creator, purpose="tip" if tip else "post",
                post_id=None if tip else self.post_id, amount_minor=500, currency="USD", fee_minor=100, account_id="acct_1",
                payment_method_id="pm_1", message="for you" if tip else None, checkout_until=NOW, body_digest=f"digest {number}",
            ), name)
        for kind, number, second in steps:
            self._step(kind, self.names[number], second)

    def _step(self, kind: str, name: str, second: int) -> None:
        told: dict[str, Any] = {
            "provider": "elsewhere", "livemode": False, "event_id": new_id(), "as_of": NOW + timedelta(seconds=second),
            "payment_id": f"pi_{name}", "payer_id": self.payer, "payee_id": self.creator, "request_id": name, "currency": "USD",
            "amount_minor": 500,
        }
        if kind == "abandon":
            self._add(PaymentAbandoned(payment_id=name, payer_id=self.payer, reason="declined"))
        elif kind == "paid":
            self._observed(PaymentSucceeded(**told, object_id=f"pi_{name}", fee_minor=100))
        elif kind in ("part", "refund"):
            back = 500 if kind == "refund" else 200
            self._observed(Refunded(**told, object_id=f"ch_{name}", refunded_minor=back, fee_refunded_minor=back // 5))
        elif kind == "opened":
            self._observed(DisputeOpened(**told, object_id=f"du_{name}", reason="fraudulent"))
        else:
            self._observed(DisputeClosed(**told, object_id=f"du_{name}", won=kind == "won"))

    def _observed(self, fact: Any) -> None:
        self._add(PaymentObserved(owner_id=self.payer, fact=fact))

    def _add(self, payload: Any, event_id: str | None = None) -> None:
        self.facts.append(Fact(Event(event_id or new_id(), NOW, self.payer, payload), 1 << 40 | len(self.facts) + 1, 0))

    def folded(self) -> dict[str, Payment]:
        """By id what the log adds up to."""
        held: dict[str, Payment | None] = {}
        for event, version, _ in self.facts:
            name = payment_of(event)
            if name is not None:
                held[name] = payment_after(held.get(name), event, version)
        return {name: payment for name, payment in held.items() if payment is not None}


def restored(conn: Connection, command: RequestPayment | Find) -> PaymentMemory:
    """A shard's memory after a loss: what this command needs of the rows."""
    memory = PaymentMemory()
    rows = payments(conn, list(memory.needs(command)))
    for key in memory.needs(command):
        memory.load(key, rows.get(key))
        assert memory.known(key)
    return memory


def requesting(history: History) -> RequestPayment:
    return RequestPayment(
        payer_id=history.payer, payment_id=new_id(), body_digest="new", payee_id=history.creator, purpose="post",
        post_id=history.post_id, amount_minor=500, currency="USD", fee_minor=100, account_id="acct_1", payment_method_id="pm_1",
        message=None, checkout_s=1_800,
    )


@pytest.fixture(scope="module")
def connections(servers: Settings) -> Iterator[tuple[Connection, redis.Redis]]:
    with open_rows(servers, "test") as conn, sync_client(servers) as client:
        yield conn, client


@given(steps=STEPS, data=st.data())
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_whatever_is_lost_the_same_purchases_and_entitlements_are_found_again(
    connections: tuple[Connection, redis.Redis], steps: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    conn, client = connections
    history = History(steps)
    reached = projected = 0
    while projected < len(history.facts):
        begin = data.draw(st.integers(0, reached), label="rows again from")
        reached = data.draw(st.integers(max(reached, projected + 1), len(history.facts)), label="rows reach")
        with conn.transaction(), conn.cursor() as cur:
            write_facts(cur, history.facts[begin:reached])
        upto = data.draw(st.integers(projected + 1, reached), label="projected to")
        again = data.draw(st.integers(0, projected), label="projected again from")
        by_topic: dict[str, list[Fact]] = {}
        for fact in history.facts[again:upto]:
            by_topic.setdefault(TOPIC_OF[type(fact.event.payload)].name, []).append(fact)
        apply(client, changes_of(conn, by_topic).operations)
        projected = upto

    held = history.folded()
    of_post = [payment for payment in held.values() if payment.asked.post_id is not None]
    # Redis is lost: what is made of rows is what was there.
    before: Any = client.hgetall(commerce_key(history.payer))
    assert read_purchase(before[purchase_field(history.post_id).encode()]) == stands(of_post)
    client.delete(commerce_key(history.payer))
    apply(client, people_operations(conn, [history.payer])[1])
    assert client.hgetall(commerce_key(history.payer)) == before

    # The shard is lost: it knows every payment again, and lets no second one of the post begin.
    for name, payment in held.items():
        command = Find(payer_id=history.payer, payment_id=name)
        answer = restored(conn, command).decide(command, NOW).answer(())
        assert isinstance(answer, PaymentStands)
        assert answer.payment == payment
    command_again = requesting(history)
    decision = restored(conn, command_again).decide(command_again, NOW)
    if any(payment.holds_post(NOW) for payment in of_post):
        assert isinstance(decision.answer(()), AlreadyBought)
    else:
        assert [without_text(append.event).payload.payment_id for append in decision.appends] == [command_again.payment_id]

    chosen = effective(of_post)
    rows = conn.execute("SELECT id::text FROM post_purchases WHERE buyer_id = %s AND effective", (history.payer,)).fetchall()
    assert rows == ([] if chosen is None else [(chosen.asked.payment_id,)])
    assert stands(of_post) == (chosen is not None)
    tip = conn.execute("SELECT message, state::text FROM tips WHERE from_user_id = %s", (history.payer,)).fetchall()
    assert [(message, "for you" in state) for message, state in tip] == [("for you", False)]
    assert payment_place(history.payer, history.names[-1]) in payments(conn, [payment_place(history.payer, history.names[-1])])


@pytest.mark.parametrize("lost", ["closed", "opened", "forgotten"])
def test_reconciling_finds_a_purchase_that_redis_tells_wrongly_and_mends_it(
    connections: tuple[Connection, redis.Redis], servers: Settings, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(reconciling, "KEPT", 1_000_000)  # other tests leave any number of people who differ
    conn, client = connections
    history = History([("paid", 0, 0)] if lost != "opened" else [("paid", 0, 0), ("refund", 0, 1)])
    with conn.transaction(), conn.cursor() as cur:
        write_facts(cur, history.facts)
    apply(client, people_operations(conn, [history.payer])[1])
    key, field = commerce_key(history.payer), purchase_field(history.post_id)
    right: Any = client.hget(key, field)
    assert read_purchase(right) is (lost != "opened")
    if lost == "forgotten":
        client.hdel(key, field)
    else:
        client.hset(key, field, right[:16] + (b"true" if lost == "opened" else b"false"))

    found = reconcile(servers, pause_s=0.02)
    assert [item.user_id for item in found.differences if item.user_id == history.payer] == [history.payer]
    reconcile(servers, repair=True, pause_s=0.02)
    assert client.hget(key, field) == right
    assert [item for item in reconcile(servers, pause_s=0.02).differences if item.user_id == history.payer] == []
