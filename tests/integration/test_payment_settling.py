"""What rows say that the payment processor still has to do is done there, once, on the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from log_reading import records_of
from payments_world import SandboxDriver

from configs.contracts.events import (
    Event,
    PaymentAbandoned,
    PaymentObserved,
    PaymentPartiesChanged,
    PaymentRequested,
    UserErased,
)
from configs.contracts.ids import new_id
from configs.contracts.parties import party
from configs.contracts.payment_facts import PaymentSucceeded, Refunded
from configs.settings import Settings
from writers.commit import write_facts
from writers.connections import open_rows
from writers.records import Fact
from writers.settling_payments import PaymentSettling

pytestmark = pytest.mark.servers


async def test_an_erased_payer_is_forgotten_by_the_processor_and_what_was_paid_stays(
    servers: Settings, sandbox: SandboxDriver
) -> None:
    provider = sandbox.provider()
    pair = await sandbox.pair(provider)
    other = await provider.create_customer(new_id(), pair.payer_id)
    await sandbox.save_card(provider, other)
    paid = await provider.pay(pair.pay())
    now, payer = datetime.now(UTC), pair.payer_id
    with open_rows(servers, "settling-test") as conn:
        with conn.transaction(), conn.cursor() as cur:
            write_facts(cur, [
                Fact(Event(new_id(), now, payer, PaymentPartiesChanged(
                    user_id=payer, payment_customer=party("stripe", pair.customer_id)
                )), 1 << 40 | 1, 0),
                Fact(Event(new_id(), now, payer, PaymentPartiesChanged(
                    user_id=payer, currency_customers={"EUR": party("stripe", other)}
                )), 1 << 40 | 2, 0),
                Fact(Event(new_id(), now, payer, UserErased(user_id=payer, email_hash=new_id())), 1 << 40 | 3, 0),
            ])
        settling = PaymentSettling(sandbox.settings(servers), "test")
        forgotten = "SELECT payer_forgotten_at FROM erasures WHERE user_id = %s AND payer_forgotten_at IS NOT NULL"
        try:
            await asyncio.to_thread(settling.look)
            (done,) = conn.execute(forgotten, (payer,)).fetchall()
            await asyncio.to_thread(settling.look)
            assert conn.execute(forgotten, (payer,)).fetchall() == [done], "it is done once"
        finally:
            await asyncio.to_thread(settling.close)
        assert conn.execute("SELECT preferences FROM users WHERE id = %s", (payer,)).fetchone() == ({},)
    for customer in (pair.customer_id, other):
        assert customer not in [item["id"] for item in await sandbox.objects("customer")]
        assert list(await provider.payment_methods(customer)) == []
    assert paid.object_id in [item["id"] for item in await sandbox.objects("payment_intent")]
    await provider.close()


async def test_payments_whose_time_is_over_are_ended_once_and_what_was_paid_is_told(
    servers: Settings, sandbox: SandboxDriver
) -> None:
    provider = sandbox.provider()
    pair = await sandbox.pair(provider)
    other = await provider.create_customer(new_id(), pair.payer_id)
    slow, apart = [
        await sandbox.save_card(provider, customer, "pm_card_authenticationRequired") for customer in (pair.customer_id, other)
    ]
    asked = {"waits": slow, "apart": apart, "paid": pair.method_id, "never": pair.method_id, "young": slow}
    names = {kind: new_id() for kind in asked}
    started = {
        kind: await provider.pay(pair.pay(
            request_id=names[kind], payment_method_id=asked[kind], customer_id=other if kind == "apart" else pair.customer_id
        ))
        for kind in asked if kind != "never"
    }
    payer, long_ago = pair.payer_id, datetime(2020, 1, 1, tzinfo=UTC)
    events = [Event(new_id(), long_ago, payer, PaymentPartiesChanged(
        user_id=payer, payment_customer=party("stripe", pair.customer_id), currency_customers={"EUR": party("stripe", other)}
    ))]
    for kind, method in asked.items():
        events.append(Event(names[kind], long_ago, payer, PaymentRequested(
            payment_id=names[kind], payer_id=payer, payee_id=pair.creator_id, purpose="tip", amount_minor=500, currency="USD",
            fee_minor=100, account_id=pair.account_id, payment_method_id=method, body_digest="",
            checkout_until=datetime.now(UTC) if kind == "young" else long_ago,
        )))
    with open_rows(servers, "settling-test") as conn, conn.transaction(), conn.cursor() as cur:
        write_facts(cur, [Fact(event, 1 << 40 | number, 0) for number, event in enumerate(events, 1)])
    settling = PaymentSettling(sandbox.settings(servers), "test")
    try:
        for _ in range(2):
            await asyncio.to_thread(settling.look)
    finally:
        await asyncio.to_thread(settling.close)
    told = [event.payload for event in await asyncio.to_thread(records_of, servers, "payment.completed", payer)]
    given_up = {payload.payment_id for payload in told if isinstance(payload, PaymentAbandoned)}
    assert given_up == {names["waits"], names["apart"], names["never"]}
    paid = {payload.fact.request_id for payload in told if isinstance(payload, PaymentObserved) and isinstance(payload.fact, PaymentSucceeded)}
    assert paid == {names["paid"]}
    intents = {item["id"]: item["status"] for item in await sandbox.objects("payment_intent")}
    assert {kind: intents[made.object_id] for kind, made in started.items()} == {
        "waits": "canceled", "apart": "canceled", "paid": "succeeded", "young": "requires_action",
    }
    await provider.close()


@pytest.mark.parametrize("size", [1, 6])
def test_of_two_paid_purchases_of_a_post_rows_have_the_first_stand_and_no_two(servers: Settings, size: int) -> None:
    """Whatever the batches and however often; when the first goes back, the other stands."""
    buyer, creator, post_id = new_id(), new_id(), new_id()
    # The one that was asked for later was paid first.
    late, first = sorted((new_id(), new_id()))
    events = [
        *(requested(buyer, creator, post_id, name) for name in (late, first)), *(paid(buyer, creator, name) for name in (first, late)),
    ]
    facts = [Fact(event, 1 << 40 | number, 0) for number, event in enumerate(events, 1)]
    with open_rows(servers, "settling-test") as conn:
        def write(some: Sequence[Fact]) -> list[tuple[str, bool]]:
            for start in range(0, len(some), size):
                with conn.transaction(), conn.cursor() as cur:
                    write_facts(cur, some[start : start + size])
            return conn.execute("SELECT id::text, effective FROM post_purchases WHERE buyer_id = %s", (buyer,)).fetchall()

        assert sorted(write(facts)) == sorted([(first, True), (late, False)])
        assert sorted(write([*facts, *facts])) == sorted([(first, True), (late, False)])
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("UPDATE post_purchases SET effective = true WHERE buyer_id = %s", (buyer,))
        back = Fact(given_back(buyer, creator, first), 1 << 40 | 9, 0)
        assert sorted(write([back])) == sorted([(first, False), (late, True)])


def requested(buyer: str, creator: str, post_id: str, name: str) -> Event:
    return Event(name, datetime.now(UTC), buyer, PaymentRequested(
        payment_id=name, payer_id=buyer, payee_id=creator, purpose="post", post_id=post_id, amount_minor=500, currency="USD",
        fee_minor=100, account_id="acct_1", payment_method_id="pm_1", checkout_until=datetime.now(UTC), body_digest="",
    ))


def _fact(buyer: str, creator: str, name: str) -> dict[str, Any]:
    return {
        "provider": "elsewhere", "livemode": False, "event_id": new_id(), "as_of": datetime.now(UTC), "payment_id": f"pi_{name}",
        "payer_id": buyer, "payee_id": creator, "request_id": name, "currency": "USD", "amount_minor": 500,
    }


def paid(buyer: str, creator: str, name: str) -> Event:
    fact = PaymentSucceeded(**_fact(buyer, creator, name), object_id=f"pi_{name}", fee_minor=100)
    return Event(new_id(), datetime.now(UTC), buyer, PaymentObserved(owner_id=buyer, fact=fact))


def given_back(buyer: str, creator: str, name: str) -> Event:
    fact = Refunded(**_fact(buyer, creator, name), object_id=f"ch_{name}", refunded_minor=500, fee_refunded_minor=100)
    return Event(new_id(), datetime.now(UTC), buyer, PaymentObserved(owner_id=buyer, fact=fact))
