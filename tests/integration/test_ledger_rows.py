"""Rows of the ledger are balanced and the same in whatever batches facts come; the database refuses any other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from payment_facts_made import START, STEPS, facts_of

from configs.contracts.events import Event, PaymentObserved
from configs.contracts.ids import new_id
from configs.contracts.ledger import transactions_of
from configs.contracts.payment_facts import PaymentFact, PayoutFailed, PayoutPaid, Refunded
from configs.settings import Settings
from writers.commit import write_facts
from writers.connections import Connection, open_rows
from writers.consistency import inconsistent_money
from writers.loads.payments import funds
from writers.records import Fact

pytestmark = pytest.mark.servers


@pytest.fixture
def rows(servers: Settings) -> Iterator[Connection]:
    with open_rows(servers, "ledger-test") as conn:
        yield conn


def write(conn: Connection, payer: str, facts: list[PaymentFact], batches: int) -> None:
    events = [
        Fact(Event(fact.event_id, START, payer, PaymentObserved(owner_id=payer, fact=fact)), 1 << 40 | number, 0)
        for number, fact in enumerate(facts, 1)
    ]
    size = max(1, len(events) // batches)
    for start in range(0, len(events), size):
        with conn.transaction(), conn.cursor() as cur:
            write_facts(cur, events[start : start + size])


def entries(conn: Connection, payer: str) -> list[Any]:
    return conn.execute(
        "SELECT kind, account, ledger_entries.amount_minor, party_id::text FROM ledger_entries "
        "JOIN transactions ON transactions.owner_id = ledger_entries.owner_id AND id = transaction_id "
        "WHERE ledger_entries.owner_id = %s ORDER BY 1, 2, 3", (payer,),
    ).fetchall()


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.integers(1, 4), st.data())
def test_any_order_and_batches_with_repetitions_make_the_ledger_that_the_facts_mean(
    rows: Connection, steps: list[tuple[str, int, int]], batches: int, data: st.DataObject
) -> None:
    payer, payee = new_id(), new_id()
    facts = facts_of(steps, payer, payee)
    write(rows, payer, data.draw(st.permutations(facts + facts[:2])), batches)
    assert entries(rows, payer) == sorted(
        (item.kind, entry.account, entry.amount_minor, entry.party_id)
        for item in transactions_of(facts) for entry in item.entries
    )
    assert [item for item in inconsistent_money(rows) if item.user_id == payer] == []


def test_a_transaction_that_does_not_sum_to_zero_is_refused_at_its_commit(rows: Connection) -> None:
    payer = new_id()
    write(rows, payer, facts_of([("paid", 90, 0)], payer, new_id()), 1)
    before = entries(rows, payer)
    with pytest.raises(psycopg.errors.CheckViolation), rows.transaction():
        rows.execute("UPDATE ledger_entries SET amount_minor = amount_minor + 1 WHERE owner_id = %s AND account = 'creator'", (payer,))
    with pytest.raises(psycopg.errors.CheckViolation), rows.transaction():
        rows.execute("DELETE FROM ledger_entries WHERE owner_id = %s AND account = 'platform_fee'", (payer,))
    assert entries(rows, payer) == before


def test_a_payout_takes_what_was_available_also_while_the_databases_clock_is_behind(rows: Connection) -> None:
    payer, creator, now = new_id(), new_id(), datetime.now(UTC)
    settled, pending = facts_of([("paid", 90, 0), ("paid", 90, 1)], payer, creator)
    pending = msgspec.structs.replace(pending, payment_id="pi_2", object_id="pi_2", as_of=now)  # type: ignore[call-arg]
    write(rows, payer, [settled, pending], 1)
    earned = 1_999 - 399
    assert left(rows, creator) == earned
    told: dict[str, Any] = {
        "provider": "stripe", "livemode": False, "object_id": new_id(), "as_of": now + timedelta(minutes=5), "account_id": "",
        "creator_id": creator, "amount_minor": 1_000, "currency": "EUR", "request_id": new_id(),
    }
    write(rows, creator, [PayoutPaid(event_id=new_id(), arrives_at=now, **told)], 1)
    look = funds(rows, [creator])[creator]
    assert (look.left((), "EUR", livemode=False), look.booked) == (earned - 1_000, {told["request_id"]})
    write(rows, creator, [PayoutFailed(event_id=new_id(), code="no_account", **told)], 1)
    assert left(rows, creator) == earned


def left(conn: Connection, creator: str, provider: str | None = None, currency: str = "EUR") -> int:
    return funds(conn, [creator])[creator].left((), currency, livemode=False, provider=provider)


def test_what_was_earned_at_one_processor_is_not_paid_out_at_another(rows: Connection) -> None:
    payer, creator = new_id(), new_id()
    (here,) = facts_of([("paid", 90, 0)], payer, creator)
    there: Any = msgspec.structs.replace(
        here, provider="hosted_form", event_id=new_id(), payment_id="sale", object_id="sale", amount_minor=1_000, fee_minor=200,  # type: ignore[call-arg]
    )
    write(rows, payer, [here, there], 1)
    assert [left(rows, creator, name) for name in ("stripe", "hosted_form", None)] == [1_600, 800, 2_400]
    paid = PayoutPaid(
        provider="hosted_form", livemode=False, event_id=new_id(), object_id=new_id(), as_of=START, account_id="",
        creator_id=creator, amount_minor=800, currency="EUR", arrives_at=START, request_id=new_id(),
    )
    write(rows, creator, [paid], 1)
    assert [left(rows, creator, name) for name in ("stripe", "hosted_form", None)] == [1_600, 0, 1_600]
    back: Any = {name: getattr(there, name) for name in ("provider", "livemode", "payment_id", "payer_id", "payee_id", "request_id", "currency")}
    write(rows, payer, [Refunded(
        event_id=new_id(), as_of=START, object_id="sale", amount_minor=1_000, refunded_minor=1_000, fee_refunded_minor=200, **back,
    )], 1)
    assert [left(rows, creator, name) for name in ("stripe", "hosted_form", None)] == [800, 0, 800], "it is owed there"


def test_reconciling_finds_a_payment_that_is_not_booked(rows: Connection) -> None:
    payer, payee = new_id(), new_id()
    write(rows, payer, facts_of([("paid", 90, 0)], payer, payee), 1)
    with rows.transaction():
        rows.execute("DELETE FROM ledger_entries WHERE owner_id = %s", (payer,))
    found = {item.kind for item in inconsistent_money(rows) if item.user_id == payer}
    with rows.transaction():
        rows.execute("DELETE FROM transactions WHERE owner_id = %s", (payer,))
    gone = {item.kind for item in inconsistent_money(rows) if item.user_id == payer}
    assert (found, gone) == ({"transaction_unbalanced"}, {"payment_unbooked"})
    with rows.transaction():
        rows.execute("DELETE FROM provider_facts WHERE owner_id = %s", (payer,))
