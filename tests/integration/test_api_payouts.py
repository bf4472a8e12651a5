"""Creators get what they earned, with the sandbox as payment processor: once, and never more than is available."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person, World
from log_writing import append, record
from payments_world import SandboxDriver, code, consumed, creator_of, in_rows, payer_of, paying

from actors.payments.payouts import PayoutStands, RequestPayout
from cluster.connections.reading import Warming
from configs.contracts.events import PaymentObserved
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import PaymentFact, PaymentSucceeded
from configs.contracts.topics import PAYMENT_COMPLETED
from configs.settings import Settings
from writers.connections import open_rows
from writers.loader import Loader
from writers.settling_payments import PaymentSettling

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def world(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> AsyncIterator[World]:
    """The API with rows, of which a loader reads balances."""
    limits = servers.limits.model_copy(update={"payouts_per_user_a_day": 1_000})
    made = await make_world(payments=paying(servers, sandbox), limits=limits)
    loader, shards = Loader(servers), made.shards.loader
    known, made_up = made.dependencies.warm_money, shards.funds
    object.__setattr__(made.dependencies, "warm_money", Warming(loader.warm_money))
    shards.funds = loader.funds  # type: ignore[method-assign]
    with consumed(made.settings):
        yield made
    shards.funds = made_up  # type: ignore[method-assign]
    await made.dependencies.warm_money.close()
    object.__setattr__(made.dependencies, "warm_money", known)
    await loader.close()


class Earning:
    """A creator, and somebody who tips them."""

    def __init__(self, world: World, sandbox: SandboxDriver, creator: Person, payer: Person, card: str, account_id: str) -> None:
        self.world, self.sandbox, self.creator, self.payer = world, sandbox, creator, payer
        self.card, self.account_id = card, account_id

    async def tipped(self, amount: str) -> str:
        """A tip whose money is in the rows; its name at the processor."""
        made = await self.payer.ok("POST", "/payments/tips", json={
            "toUserId": self.creator.user_id, "amount": amount, "currency": "USD", "paymentMethodId": self.card,
        }, key=new_id())
        row = "SELECT provider_payment_id FROM tips WHERE id = %s AND status = 'completed'"
        return str((await asyncio.to_thread(in_rows, self.world.settings, row, made["id"]))[0])

    async def settled(self) -> None:
        """What was earned so far may be paid out: days have passed here and at the processor."""
        await self.sandbox.advance(3)
        with open_rows(self.world.settings, "test") as conn:
            conn.execute("UPDATE ledger_entries SET available_at = now() WHERE party_id = %s", (self.creator.user_id,))

    async def told(self, facts: Sequence[Any], owner_id: str | None = None) -> None:
        """As the consumer of webhooks appends facts about the creator, or a payer."""
        key, settings = owner_id or self.creator.user_id, self.world.settings
        for fact in facts:
            await append(settings, record(settings, PAYMENT_COMPLETED, key, PaymentObserved(owner_id=key, fact=fact)))

    async def arrived(self, payout: dict[str, Any], status: str) -> None:
        """The bank has it, or sends it back, and everybody knows."""
        provider = await self.world.dependencies.providers.present()
        row = "SELECT provider_payout_id FROM payouts WHERE id = %s AND status = 'in_transit'"
        (object_id,) = await asyncio.to_thread(in_rows, self.world.settings, row, payout["id"])
        await self.sandbox.advance(3)
        facts = [fact for fact in await provider.observe(object_id) if isinstance(fact, PaymentFact)]
        await self.told(facts)
        await asyncio.to_thread(
            in_rows, self.world.settings, "SELECT 1 FROM payouts WHERE id = %s AND status = %s", payout["id"], status
        )
        async with asyncio.timeout(20):
            while (await self.creator.ok("GET", f"/payments/payouts/{payout['id']}"))["status"] != status:
                await asyncio.sleep(0.05)

    async def ask(self, amount: str, key: str | None = None, currency: str = "USD") -> Any:
        return await self.creator.ask(
            "POST", "/payments/payouts", json={"amount": amount, "currency": currency}, key=key or new_id()
        )

    async def balance(self) -> dict[str, str]:
        (found,) = (await self.creator.ok("GET", "/payments/balance"))["balances"]
        return {name: found[name] for name in ("pending", "available", "elsewhere", "disputed", "inTransit", "paidOut")}

    async def payouts(self) -> list[int]:
        """What the processor has begun to pay out."""
        return [
            item["amount"] for item in await self.sandbox.objects("payout") if item["metadata"]["creatorId"] == self.creator.user_id
        ]


@pytest_asyncio.fixture
async def earning(world: World, sandbox: SandboxDriver) -> Earning:
    creator = await creator_of(world)
    payer, card = await payer_of(world, sandbox)
    (account,) = [
        item["id"] for item in await sandbox.objects("account") if item["metadata"]["creatorId"] == creator.user_id
    ]
    return Earning(world, sandbox, creator, payer, card, account)


async def test_what_is_available_is_paid_out_once_and_never_more(earning: Earning) -> None:
    await earning.tipped("40.00")
    answer = await earning.ask("20.00")
    assert (code(answer), answer.json()["available"]) == ((409, "not_available"), "0.00"), "it is pending still"
    await earning.settled()
    answers = await asyncio.gather(*(earning.ask("20.00", "one") for _ in range(5)), *(earning.ask("20.00") for _ in range(20)))
    outcomes = Counter(answer.status_code for answer in answers)
    made = [answer.json() for answer in answers if answer.status_code == 201]
    assert len({item["id"] for item in made}) == 1, outcomes
    assert {answer.json()["available"] for answer in answers if answer.status_code == 409} == {"12.00"}
    assert await earning.payouts() == [2_000]
    payout = made[0]
    row = "SELECT 1 FROM payouts WHERE id = %s AND status = 'in_transit' AND due IS NULL"
    await asyncio.to_thread(in_rows, earning.world.settings, row, payout["id"])
    assert await earning.balance() == {
        "pending": "0.00", "available": "12.00", "elsewhere": "0.00", "disputed": "0.00", "inTransit": "20.00", "paidOut": "0.00",
    }
    await earning.arrived(payout, "paid")
    assert await earning.balance() == {
        "pending": "0.00", "available": "12.00", "elsewhere": "0.00", "disputed": "0.00", "inTransit": "0.00", "paidOut": "20.00",
    }
    assert code(await earning.ask("12.01")) == (409, "not_available")

    # A bank that sends it back gives it back to the balance.
    await earning.sandbox.command("bank", account=earning.account_id, behaves="fails")
    failing = (await earning.ask("12.00", "two")).json()
    assert code(await earning.ask("10.00")) == (409, "not_available")
    await earning.arrived(failing, "failed")
    assert (await earning.balance())["available"] == "12.00"
    assert code(await earning.ask("11.00", "two")) == (409, "idempotency_conflict")
    assert (await earning.ask("12.00", "two")).json()["status"] == "failed", "the key names that one for good"
    stranger = await earning.world.register("sugar_baby")
    assert code(await stranger.ask("GET", f"/payments/payouts/{payout['id']}")) == (404, "not_found")


async def test_what_was_earned_at_another_processor_is_told_and_not_paid_out(earning: Earning) -> None:
    await earning.tipped("40.00")
    payer, creator = earning.payer.user_id, earning.creator.user_id
    await earning.told([PaymentSucceeded(
        provider="hosted_form", livemode=False, event_id=new_id(), object_id="sale", as_of=datetime.now(UTC), payment_id="sale",
        payer_id=payer, payee_id=creator, request_id=new_id(), currency="USD", amount_minor=10_000, fee_minor=2_000,
    )], payer)
    row = "SELECT 1 FROM transactions WHERE owner_id = %s AND provider = 'hosted_form'"
    await asyncio.to_thread(in_rows, earning.world.settings, row, payer)
    await earning.settled()
    answer = await earning.ask("32.01")
    assert (code(answer), answer.json()["available"], answer.json()["elsewhere"]) == ((409, "not_available"), "32.00", "80.00")
    assert await earning.balance() == {
        "pending": "0.00", "available": "32.00", "elsewhere": "80.00", "disputed": "0.00", "inTransit": "0.00", "paidOut": "0.00",
    }
    payout = (await earning.ask("32.00")).json()
    await asyncio.to_thread(in_rows, earning.world.settings, "SELECT 1 FROM payouts WHERE id = %s", payout["id"])
    assert await earning.balance() == {
        "pending": "0.00", "available": "0.00", "elsewhere": "80.00", "disputed": "0.00", "inTransit": "32.00", "paidOut": "0.00",
    }
    assert await earning.payouts() == [3_200]


async def test_an_open_dispute_freezes_its_share_until_the_bank_decides(earning: Earning, sandbox: SandboxDriver) -> None:
    disputed, _ = await earning.tipped("20.00"), await earning.tipped("20.00")
    await earning.settled()
    assert (await earning.balance())["available"] == "32.00"
    dispute = await sandbox.command("dispute", payment_intent=disputed)
    provider = await earning.world.dependencies.providers.present()

    async def told() -> None:
        facts = [fact for fact in await provider.observe(dispute["id"]) if isinstance(fact, PaymentFact)]
        await earning.told(facts, earning.payer.user_id)

    async def becomes(available: str) -> None:
        async with asyncio.timeout(20):
            while (await earning.balance())["available"] != available:
                await asyncio.sleep(0.05)

    await told()
    await becomes("16.00")
    assert code(await earning.ask("16.01")) == (409, "not_available")
    await sandbox.command("close-dispute", dispute=dispute["id"], won=True)
    await told()
    row = "SELECT 1 FROM transactions WHERE owner_id = %s AND kind = 'dispute_closed'"
    await asyncio.to_thread(in_rows, earning.world.settings, row, earning.payer.user_id)
    await earning.settled()
    await becomes("32.00")
    assert (await earning.ask("32.00")).status_code == 201


async def test_wrong_wishes_are_refused_and_pay_nothing(earning: Earning) -> None:
    await earning.tipped("40.00")
    await earning.settled()
    for amount, currency, expected in (
        ("9.99", "USD", (422, "amount_invalid")), ("0", "USD", (422, "amount_invalid")), ("-10", "USD", (422, "invalid")),
        ("10.5", "JPY", (422, "amount_invalid")), ("10.00", "EUR", (409, "not_available")), ("99999999.99", "USD", (409, "not_available")),
        ("10.00", "XXX", (422, "invalid")),
    ):
        assert code(await earning.ask(amount, currency=currency)) == expected, amount
    unpaid = await creator_of(earning.world, paid=False)
    body = {"amount": "10.00", "currency": "USD"}
    assert code(await unpaid.ask("POST", "/payments/payouts", json=body, key="a")) == (409, "no_payout_account")
    old = earning.world.dependencies.tokens.issue(earning.creator.user_id, new_id(), signed_in_at=1.0)
    late = await earning.world.client.post(
        "/api/v1/payments/payouts", json=body, headers={"Authorization": f"Bearer {old}", "Idempotency-Key": "a"}
    )
    assert code(late) == (401, "sign_in_again")
    assert await earning.payouts() == []


async def test_a_payout_that_nobody_came_back_to_begin_is_begun_once(earning: Earning) -> None:
    await earning.tipped("40.00")
    await earning.settled()
    payout_id, world = new_id(), earning.world
    asked = RequestPayout(
        creator_id=earning.creator.user_id, payout_id=payout_id, body_digest="", amount_minor=1_500, currency="USD",
        provider="stripe", account_id=earning.account_id, livemode=False,
    )
    assert isinstance(await world.dependencies.payments.request_payout(asked), PayoutStands)
    await asyncio.to_thread(in_rows, world.settings, "SELECT 1 FROM payouts WHERE id = %s AND due IS NOT NULL", payout_id)
    settling = PaymentSettling(world.settings, "test", clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    assert await asyncio.to_thread(settling.look) >= 1, "rows of other tests may be due as well"
    row = "SELECT 1 FROM payouts WHERE id = %s AND due IS NULL AND status = 'in_transit'"
    await asyncio.to_thread(in_rows, world.settings, row, payout_id)
    await asyncio.to_thread(settling.look)
    await asyncio.to_thread(settling.close)
    assert await earning.payouts() == [1_500], "a second look began it again"
