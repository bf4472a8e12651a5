"""Bills of subscriptions that staff gives back, with the sandbox as payment processor: access, renewal, shares and ledger follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from api_world import Person, World
from log_writing import append, record
from payments_world import TIER, SandboxDriver, code, consumed, creator_of, in_rows, payer_of, paying

from actors.subscriptions.commands import RefundBill, SubscriptionStands
from cluster.connections.kafka import Record
from configs.contracts.entitlements import Content, Viewer, access
from configs.contracts.events import BillRefundRequested, Event, PaymentObserved, encode
from configs.contracts.ids import derived_id, new_id, partition_of
from configs.contracts.payment_facts import PaymentFact
from configs.contracts.selling import holdings_command, read_holdings
from configs.contracts.topics import PAYMENT_COMPLETED, SUBSCRIPTION_CREATED
from configs.settings import Settings
from writers import settling
from writers.connections import open_rows
from writers.settling import SubscriptionSettling

pytestmark = pytest.mark.servers
AHEAD = """
INSERT INTO subscriptions SELECT (jsonb_populate_record(old, jsonb_build_object('id', %(id)s::text, 'unsettled', true, 'version', 1::bigint << 60,
    'requested_at', '2026-01-01T00:00:00Z'))).* FROM subscriptions AS old WHERE id = %(like)s
"""
"""One that is older, due for ever, and never settled."""


@pytest_asyncio.fixture
async def world(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> AsyncIterator[World]:
    made = await make_world(payments=paying(servers, sandbox))
    with consumed(made.settings):
        yield made


class Subscribed:
    """Somebody who subscribes to a creator, their bill at the processor, and staff."""

    def __init__(self, world: World, fan: Person, creator: Person, subscription_id: str, bill: dict[str, Any]) -> None:
        self.world, self.fan, self.creator, self.subscription_id, self.bill = world, fan, creator, subscription_id, bill

    async def ask(self, key: str, amount: str | None = None, **changed: Any) -> httpx.Response:
        token = changed.pop("token", None) or self.world.dependencies.tokens.issue_service("test", 600)
        body = {"subscriberId": self.fan.user_id, "subscriptionId": self.subscription_id, "reason": "Charged by mistake"} | changed
        if amount is not None:
            body["amount"] = amount
        return await self.world.client.post(
            "/api/v1/payments/subscription-refunds", json=body,
            headers={"Authorization": f"Bearer {token}", "Idempotency-Key": key},
        )

    async def access(self) -> str:
        """As a content route asks."""
        (held,) = (await self.world.dependencies.reads.read(holdings_command(self.fan.user_id, [self.creator.user_id])))[0]
        viewer = Viewer(self.fan.user_id, holdings=read_holdings(held))
        return access(Content(new_id(), self.creator.user_id, "subscribers"), viewer, datetime.now(UTC))

    async def settle(self, *, later: timedelta = timedelta(0)) -> None:
        settling = SubscriptionSettling(self.world.settings, "test", clock=lambda: datetime.now(UTC) + later)
        try:
            await asyncio.to_thread(settling.look)
        finally:
            await asyncio.to_thread(settling.close)

    async def booked(self, *objects: str) -> list[tuple[str, int]]:
        """The ledger's transactions, once the consumer of webhooks has told of these objects; all of them in balance."""
        provider = await self.world.dependencies.providers.present()
        facts = [fact for name in objects for fact in await provider.observe(name) if isinstance(fact, PaymentFact)]
        partition = partition_of(self.fan.user_id, self.world.settings.log.partitions)
        last = new_id()
        names = [derived_id(last, f"{fact.kind}:{fact.object_id}") for fact in facts]
        await self.world.shards.derived.append([
            Record(PAYMENT_COMPLETED.name, partition, self.fan.user_id, encode(Event(
                name, datetime.now(UTC), self.fan.user_id, PaymentObserved(owner_id=self.fan.user_id, fact=fact),
            ))) for name, fact in zip(names, facts, strict=True)
        ])
        stored = "SELECT 1 FROM provider_facts WHERE owner_id = %s AND id = ANY(%s) HAVING count(*) = %s"
        await asyncio.to_thread(in_rows, self.world.settings, stored, self.fan.user_id, names, len(set(names)))

        def read() -> list[tuple[str, int]]:
            with open_rows(self.world.settings, "test") as conn:
                unbalanced = "SELECT 1 FROM ledger_entries WHERE owner_id = %s GROUP BY transaction_id HAVING sum(amount_minor) <> 0"
                assert conn.execute(unbalanced, (self.fan.user_id,)).fetchall() == []
                return conn.execute(
                    "SELECT kind, amount_minor FROM transactions WHERE owner_id = %s ORDER BY 1, 2", (self.fan.user_id,)
                ).fetchall()

        found = await asyncio.to_thread(read)
        assert {"charge", "refund"} <= dict(found).keys()
        return found


@pytest_asyncio.fixture
async def subscribed(world: World, sandbox: SandboxDriver) -> Subscribed:
    creator = await creator_of(world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(world, sandbox)
    made = await fan.ok("POST", "/subscriptions", json={"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}, key="s")
    (bill,) = [
        item for item in await sandbox.objects("invoice")
        if item["parent"]["subscription_details"]["metadata"]["subscriberId"] == fan.user_id
    ]
    return Subscribed(world, fan, creator, made["id"], bill)


async def test_a_bill_goes_back_in_parts_never_more_than_was_paid_and_takes_access_and_renewal_with_it(
    subscribed: Subscribed, sandbox: SandboxDriver
) -> None:
    some = await asyncio.gather(*(subscribed.ask("a", "2.00") for _ in range(3)))
    assert {answer.status_code for answer in some} == {201}, [answer.text for answer in some]
    first = some[0].json()
    assert (first["amount"], first["status"], first["left"], first["billId"]) == ("2.00", "made", "7.99", subscribed.bill["id"])
    assert (first["cancelAtPeriodEnd"], first["livemode"]) == (False, False)
    assert code(await subscribed.ask("a", "1.00")) == (409, "idempotency_conflict")
    assert await subscribed.access() == "open", "part of it is not all of it"
    assert code(await subscribed.ask("b", "8.00")) == (409, "not_refundable")
    both = [answer.status_code for answer in await asyncio.gather(subscribed.ask("c", "5.00"), subscribed.ask("d", "5.00"))]
    assert sorted(both) == [201, 409], "together they would be more"
    rest = await subscribed.ask("e", billId=subscribed.bill["id"])
    assert (rest.status_code, rest.json()["amount"], rest.json()["left"]) == (201, "2.99", "0.00")
    assert rest.json()["cancelAtPeriodEnd"] is True, "who gets all of it back is charged no more"
    assert code(await subscribed.ask("f")) == (409, "not_refundable")
    assert await subscribed.access() == "subscribe"

    made = [item for item in await sandbox.objects("refund") if item["metadata"]["requestId"] in {first["id"], rest.json()["id"]}]
    assert all(item["transfer_reversal"] for item in made)
    charge = made[0]["charge"]
    (transfer,) = [item for item in await sandbox.objects("transfer") if item["source_transaction"] == charge]
    assert transfer["reversed"] is True
    row = "SELECT 1 FROM subscriptions WHERE id = %s AND unsettled AND entitled_until IS NULL AND jsonb_array_length(state -> 'refunds') = 3"
    await asyncio.to_thread(in_rows, subscribed.world.settings, row, subscribed.subscription_id)
    await subscribed.settle()
    (found,) = [item for item in await sandbox.objects("subscription") if item["metadata"].get("subscriberId") == subscribed.fan.user_id]
    assert found["cancel_at_period_end"] is True
    settled = "SELECT 1 FROM subscriptions WHERE id = %s AND NOT unsettled AND cancel_at_period_end"
    await asyncio.to_thread(in_rows, subscribed.world.settings, settled, subscribed.subscription_id)
    audited = "SELECT count(*), sum((details->>'amountMinor')::int) FROM audit_log WHERE target_id = %s AND action = 'refund' HAVING count(*) = 3"
    assert await asyncio.to_thread(in_rows, subscribed.world.settings, audited, subscribed.fan.user_id) == (3, 999)
    booked = await subscribed.booked(subscribed.bill["id"], charge)
    assert booked[0] == ("charge", 999)
    assert sum(amount for kind, amount in booked if kind == "refund") == 999
    await subscribed.fan.ok("POST", f"/subscriptions/{subscribed.subscription_id}/resume", key="on")


async def test_who_may_not_give_a_bill_back_and_what_cannot_be(subscribed: Subscribed, sandbox: SandboxDriver) -> None:
    before = len(await sandbox.objects("refund"))
    assert (await subscribed.ask("a", token=subscribed.fan.access_token)).status_code == 403
    for wrong in ({"subscriptionId": new_id()}, {"subscriberId": subscribed.creator.user_id}, {"billId": "in_of_nobody"}):
        assert code(await subscribed.ask("a", **wrong)) == (404, "not_found")
    for amount in ("0", "0.001", "-1", "1e2", "5.001"):
        assert (await subscribed.ask("a", amount)).status_code == 422, amount
    assert code(await subscribed.ask("a", "10.00")) == (409, "not_refundable")
    assert await subscribed.access() == "open"
    assert len(await sandbox.objects("refund")) == before


async def test_a_refund_of_a_bill_that_nobody_came_back_to_make_is_made_once(
    subscribed: Subscribed, sandbox: SandboxDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The route died after the request was durable, or after the processor had made it. What else is due is not in its way."""
    monkeypatch.setattr(settling, "AT_ONCE", 1)
    monkeypatch.setattr(settling, "PAGES", 10_000)
    ahead = new_id()
    stands = "SELECT 1 FROM subscriptions WHERE id = %s AND status = 'active'"
    await asyncio.to_thread(in_rows, subscribed.world.settings, stands, subscribed.subscription_id)
    with open_rows(subscribed.world.settings, "test") as conn:
        assert conn.execute(AHEAD, {"id": ahead, "like": subscribed.subscription_id}).rowcount == 1
    refund_id = new_id()
    asked = RefundBill(
        subscriber_id=subscribed.fan.user_id, subscription_id=subscribed.subscription_id, refund_id=refund_id, body_digest="",
        bill_id=None, amount_minor=150, reason="Charged by mistake", requested_by="service:test",
    )
    assert isinstance(await subscribed.world.dependencies.subscriptions.refund(asked), SubscriptionStands)
    due = "SELECT 1 FROM subscriptions WHERE id = %s AND unsettled AND jsonb_array_length(state -> 'refunds') = 1"
    await asyncio.to_thread(in_rows, subscribed.world.settings, due, subscribed.subscription_id)
    await subscribed.settle()
    assert [item for item in await sandbox.objects("refund") if item["metadata"]["requestId"] == refund_id] == [], "its route may be on its way"
    await asyncio.gather(*(subscribed.settle(later=timedelta(minutes=1)) for _ in range(2)))
    done = "SELECT 1 FROM subscriptions WHERE id = %s AND NOT unsettled AND state -> 'refunds' -> 0 ->> 'made' = 'true'"
    await asyncio.to_thread(in_rows, subscribed.world.settings, done, subscribed.subscription_id)
    await subscribed.settle(later=timedelta(minutes=1))
    with open_rows(subscribed.world.settings, "test") as conn:
        conn.execute("DELETE FROM subscriptions WHERE id = %s", (ahead,))
    assert [item["amount"] for item in await sandbox.objects("refund") if item["metadata"]["requestId"] == refund_id] == [150]


async def test_what_the_platform_gives_back_of_a_bill_is_what_is_left_then(subscribed: Subscribed, sandbox: SandboxDriver) -> None:
    """The rows that it saw may not have told yet of a refund by staff."""
    assert (await subscribed.ask("some", "2.00")).status_code == 201
    refund_id, settings = new_id(), subscribed.world.settings
    await append(settings, record(settings, SUBSCRIPTION_CREATED, subscribed.fan.user_id, BillRefundRequested(
        refund_id=refund_id, subscription_id=subscribed.subscription_id, subscriber_id=subscribed.fan.user_id,
        bill_id=subscribed.bill["id"], amount_minor=999, reason="there is another subscription to the same creator",
        requested_by="platform", stops_renewal=True, body_digest="", all_left=True,
    )))
    due = "SELECT 1 FROM subscriptions WHERE id = %s AND unsettled AND jsonb_array_length(state -> 'refunds') = 2"
    await asyncio.to_thread(in_rows, settings, due, subscribed.subscription_id)
    await subscribed.settle(later=timedelta(minutes=1))
    done = "SELECT 1 FROM subscriptions WHERE id = %s AND NOT unsettled AND state -> 'refunds' -> 1 ->> 'made' = 'true'"
    await asyncio.to_thread(in_rows, settings, done, subscribed.subscription_id)
    await subscribed.settle(later=timedelta(minutes=1))
    assert [item["amount"] for item in await sandbox.objects("refund") if item["metadata"]["requestId"] == refund_id] == [799]
    assert code(await subscribed.ask("rest")) == (409, "not_refundable")
