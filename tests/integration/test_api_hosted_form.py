"""Paying through the API on a hosted form: an address that is signed, and signed postbacks that alone say what was paid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
import pytest_asyncio
from api_world import Person, World
from log_reading import records_of
from operator_tool import operator_tool
from payments_world import RETURN, TIER, assured, code, consumed, creator_of, in_rows

from cluster.connections.payments.hosted_form import signed
from cluster.connections.reading import Warming
from cluster.launch.moderating import ModerationRefused
from configs.contracts.errors import ConfigurationError
from configs.contracts.ids import new_id
from configs.groups.payments import HostedForm
from configs.settings import Settings
from writers.connections import open_rows
from writers.loader import Loader
from writers.settling_payments import PaymentSettling

pytestmark = pytest.mark.servers

FORM_KEY, POSTBACK_KEY = "key of the form", "key of postbacks"
MONTH = timedelta(days=30)
PAGES = "https://form.example/support"


@pytest_asyncio.fixture
async def unread(make_world: Callable[..., Awaitable[World]], servers: Settings) -> World:
    """Nobody reads its log yet."""
    payments = servers.payments.model_copy(update={"processor": "hosted_form", "hosted_form": HostedForm(
        url="https://form.example/pay", account="a-1", form_key=FORM_KEY, postback_keys=(POSTBACK_KEY,),
        return_url="https://app.example/back", payer_pages_url=PAGES,
    )})
    return await make_world(payments=payments)


@pytest_asyncio.fixture
async def world(unread: World) -> AsyncIterator[World]:
    with consumed(unread.settings, reported=True):
        yield unread


class Form:
    """The processor's side of one form: what it was told, and what it tells."""

    def __init__(self, world: World, url: str) -> None:
        self.world, self.url = world, url
        self.fields = dict(parse_qsl(urlsplit(url).query))
        self.sale_id = f"sale-{new_id()}"
        self.sequence = 0

    def postback(self, event: str, *, key: str = POSTBACK_KEY, age_s: int = 0, **told: str) -> bytes:
        self.sequence += 1
        at = str(int(datetime.now(UTC).timestamp()) - age_s)
        fields = {name: self.fields[name] for name in (
            "payerId", "payeeId", "requestId", "currency", "fee", "tierId", "interval", "intervalCount", "recurringPrice", "feePercent",
        ) if name in self.fields} | {
            "event": event, "eventId": f"event-{new_id()}", "saleId": self.sale_id, "transactionId": f"{self.sale_id}-{self.sequence}",
            "timestamp": at, "sequence": str(self.sequence), "amount": self.fields["price"],
        } | told
        return urlencode(fields | {"digest": signed(fields, key)}).encode()

    async def send(self, body: bytes) -> httpx.Response:
        return await self.world.client.post(
            "/api/v1/payments/webhooks/hosted_form", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )

    async def tell(self, event: str, **told: Any) -> None:
        body = self.postback(event, **told)
        for _ in range(2):  # postbacks may come twice
            answer = await self.send(body)
            assert answer.status_code == 200, answer.text


def period(number: int, status: str = "active") -> dict[str, str]:
    """What a postback says of a subscription's month by its number."""
    start = datetime.now(UTC) + number * MONTH
    return {"status": status, "periodStart": str(int(start.timestamp())), "periodEnd": str(int((start + MONTH).timestamp()))}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.05)


async def booked(world: World, payer: Person, expected: list[tuple[str, int]]) -> None:
    """Returns once the ledger holds these (kind, amount) of a payer, and nothing else."""
    def read() -> list[tuple[str, int]]:
        with open_rows(world.settings, "test") as conn:
            rows = conn.execute("SELECT kind, amount_minor FROM transactions WHERE owner_id = %s ORDER BY 1, 2", (payer.user_id,)).fetchall()
        return [(kind, amount) for kind, amount in rows]

    async def holds() -> bool:
        return await asyncio.to_thread(read) == expected

    await until(holds)


async def tip_of(world: World, creator: Person, payer: Person, key: str = "tip", **fields: Any) -> tuple[Any, Form]:
    tip = {"toUserId": creator.user_id, "amount": "12.34", "currency": "USD"} | fields
    made = await payer.ok("POST", "/payments/tips", json=tip, key=key)
    return made, Form(world, made["paymentUrl"])


async def test_a_tip_is_paid_on_the_form_and_stands_when_the_postback_says_so(world: World) -> None:
    creator, payer = await creator_of(world, paid=False), await world.register("sugar_daddy")
    made, form = await tip_of(world, creator, payer)
    assert made["status"] == "pending"
    assert made["clientSecret"] is None
    assert datetime.fromisoformat(made["paymentUrlExpiresAt"]) - datetime.fromisoformat(made["createdAt"]) == timedelta(minutes=30)
    assert (await tip_of(world, creator, payer))[0] == made, "the same request has the same address"
    told = form.fields
    assert told["digest"] == signed(told, FORM_KEY)
    assert (told["price"], told["fee"], told["currency"], told["requestId"]) == ("12.34", "2.46", "USD", made["id"])
    assert (told["payerId"], told["payeeId"], told["returnUrl"]) == (payer.user_id, creator.user_id, "https://app.example/back")
    assert told["expires"] == str(int(datetime.fromisoformat(made["paymentUrlExpiresAt"]).timestamp()))
    other = {"toUserId": creator.user_id, "amount": "1", "currency": "USD"}
    assert code(await payer.ask("POST", "/payments/tips", json=other, key="tip")) == (409, "idempotency_conflict")

    path = f"/payments/requests/{made['id']}"
    for body in (
        form.postback("sale", key="another key"), form.postback("sale").replace(b"12.34", b"00.01"), form.postback("sale", age_s=301),
        form.postback("sale", amount="-1"),
    ):
        assert code(await form.send(body)) == (400, "webhook_refused")
    assert await asyncio.to_thread(records_of, world.settings, "payment.webhooks", form.sale_id) == []
    assert (await payer.ok("GET", path))["status"] == "pending"

    await form.tell("sale")

    async def completed() -> bool:
        return bool((await payer.ok("GET", path))["status"] == "completed")

    await until(completed)
    again = (await payer.ok("POST", "/payments/tips", json={"toUserId": creator.user_id, "amount": "12.34", "currency": "USD"}, key="tip"))
    assert (again["status"], again["paymentUrl"]) == ("completed", None)
    await booked(world, payer, [("charge", 1_234)])


async def test_a_declined_sale_fails_and_the_payer_may_try_anew(world: World) -> None:
    creator, payer = await creator_of(world, paid=False), await world.register("sugar_daddy")
    made, form = await tip_of(world, creator, payer)
    await form.tell("sale_failed", reason="do_not_honor")

    async def failed() -> bool:
        return bool((await payer.ok("GET", f"/payments/requests/{made['id']}"))["status"] == "failed")

    await until(failed)
    anew, other = await tip_of(world, creator, payer, key="another")
    assert (anew["status"], other.fields["requestId"]) == ("pending", anew["id"])


async def test_a_post_opens_once_the_postback_says_that_it_is_paid(world: World) -> None:
    creator, payer = await creator_of(world, paid=False), await assured(world, await world.register("sugar_daddy"))
    post_id = (await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "what is sold", "state": "published",
        "access": {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}},
    }))["postId"]
    path = f"/payments/posts/{post_id}/purchase"
    made = await payer.ok("POST", path, json={}, key="buy")
    assert code(await payer.ask("POST", path, json={}, key="twice")) == (409, "already_bought")
    assert (await payer.ok("GET", f"/content/posts/{post_id}"))["access"] == "purchase", "nothing is paid yet"
    await Form(world, made["paymentUrl"]).tell("sale")

    async def is_open() -> bool:
        return bool((await payer.ok("GET", f"/content/posts/{post_id}"))["access"] == "open")

    async def known() -> bool:
        """Whether the payer's shard has heard of it too: the read model may be ahead of it."""
        return bool((await payer.ok("GET", f"/payments/requests/{made['id']}"))["status"] == "completed")

    await until(is_open)
    await until(known)
    assert (await payer.ok("POST", path, json={}, key="buy"))["status"] == "completed"


async def test_a_subscription_is_opened_renewed_and_ended_by_postbacks(world: World) -> None:
    creator, fan = await creator_of(world, paid=False), await assured(world, await world.register("sugar_daddy"))
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"trialDays": 7})
    other = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"rank": 2, "name": "Top"})
    await creator.ok("POST", "/subscriptions/promo-codes", json={"code": "HALF", "percent": 50, "months": 3})
    post_id = (await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "for some", "state": "published", "access": {"visibility": "subscribers"},
    }))["postId"]
    body = {"tierId": tier["tierId"], "interval": "month", "promoCode": "HALF"}
    trial = await fan.ask("POST", "/subscriptions", json=body | {"trial": True}, key="trial")
    assert code(trial) == (422, "not_offered"), "whose instrument it is cannot be known"
    made = await fan.ok("POST", "/subscriptions", json=body, key="s")
    assert made["status"] == "incomplete"
    assert await fan.ok("POST", "/subscriptions", json=body, key="s") == made
    form = Form(world, made["paymentUrl"])
    told = form.fields
    assert told["digest"] == signed(told, FORM_KEY)
    assert (told["price"], told["recurringPrice"], told["discountPercent"], told["discountMonths"]) == ("4.99", "9.99", "50", "3")
    assert (told["tierId"], told["interval"], told["feePercent"]) == (tier["tierId"], "month", "20")
    assert code(await form.send(form.postback("sale", key="another key", **period(0)))) == (400, "webhook_refused")
    own = f"/subscriptions/{made['id']}"

    async def access() -> str:
        return str((await fan.ok("GET", f"/content/posts/{post_id}"))["access"])

    assert await access() == "subscribe"
    await form.tell("sale", **period(0))

    async def is_open() -> bool:
        return await access() == "open"

    async def known() -> bool:
        """Whether the fan's shard has heard of it too: the read model may be ahead of it."""
        return bool((await fan.ok("POST", "/subscriptions", json=body, key="s"))["status"] == "active")

    await until(is_open)
    await until(known)
    first = await fan.ok("GET", own)
    assert (first["status"], first["amount"]) == ("active", "9.99")
    await form.tell("renewal", **period(1))

    async def renewed() -> bool:
        shown = await fan.ok("GET", own)
        return bool(first["entitledUntil"] < shown["entitledUntil"] == shown["currentPeriodEnd"])

    await until(renewed)
    for method, path, fields in (
        ("DELETE", own, {}), ("POST", f"{own}/resume", {}), ("PUT", own, {"json": {"tierId": other["tierId"]}}),
        ("PUT", f"{own}/payment-method", {"json": {"paymentMethodId": "pm_1"}}),
    ):
        answer = await fan.ask(method, path, key=new_id(), **fields)
        assert (code(answer), answer.json()["payerPages"]) == ((409, "payment_refused"), PAGES), path
    assert (await fan.ok("GET", own))["cancelAtPeriodEnd"] is False, "who is charged on is not told otherwise"
    await form.tell("cancellation", cancelling="1", **period(1))

    async def cancelled() -> bool:
        return bool((await fan.ok("GET", own))["cancelAtPeriodEnd"])

    await until(cancelled)
    await form.tell("expiration", **period(1, "expired"))

    async def ended() -> bool:
        return await access() == "subscribe"

    await until(ended)
    await booked(world, fan, [("charge", 499), ("charge", 499)])


@pytest.mark.parametrize("second", ["renewal", "cancellation"])
async def test_of_a_sale_and_what_follows_it_both_are_applied_when_they_are_read_at_once(unread: World, second: str) -> None:
    world = unread
    with consumed(world.settings, reported=True):
        creator, fan = await creator_of(world, paid=False), await assured(world, await world.register("sugar_daddy"))
        tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
        made = await fan.ok("POST", "/subscriptions", json={"tierId": tier["tierId"], "interval": "month"}, key="s")
    form = Form(world, made["paymentUrl"])
    for body in (form.postback("sale", **period(0)), form.postback(
        second, **(period(1) if second == "renewal" else period(0) | {"cancelling": "1"}),
    )):
        assert (await form.send(body)).status_code == 200

    async def told() -> bool:
        shown = await fan.ok("GET", f"/subscriptions/{made['id']}")
        return bool(
            shown["status"] == "active" and shown["entitledUntil"] == shown["currentPeriodEnd"]
            and shown["cancelAtPeriodEnd"] == (second == "cancellation")
        )

    with consumed(world.settings, reported=True):
        await booked(world, fan, [("charge", 999)] * (2 if second == "renewal" else 1))
        await until(told)


async def test_what_only_a_processor_with_accounts_and_cards_does_is_refused_clearly(world: World) -> None:
    creator, payer = await creator_of(world, paid=False), await world.register("sugar_daddy")
    stranger = await world.register("sugar_baby")
    tip = {"amount": "5", "currency": "USD"}
    assert code(await payer.ask("POST", "/payments/tips", json=tip | {"toUserId": stranger.user_id}, key="a")) == (409, "creator_not_payable")
    named = tip | {"toUserId": creator.user_id, "paymentMethodId": "pm_1"}
    assert code(await payer.ask("POST", "/payments/tips", json=named, key="b")) == (422, "payment_method_invalid")
    assert code(await payer.ask("POST", "/payments/methods/setup")) == (409, "payment_refused")
    assert (await payer.ok("GET", "/payments/methods"))["paymentMethods"] == []
    assert code(await payer.ask("PUT", "/payments/methods/pm_1/default")) == (422, "payment_method_invalid")
    assert code(await payer.ask("DELETE", "/payments/methods/pm_1")) == (404, "not_found")
    assert code(await creator.ask("POST", "/payments/connect/onboarding", json=RETURN)) == (409, "payment_refused")
    assert (await creator.ok("GET", "/payments/connect/account"))["exists"] is False


async def test_a_refund_is_recorded_and_refused_for_the_console_to_make(world: World) -> None:
    creator, payer = await creator_of(world, paid=False), await world.register("sugar_daddy")
    made, form = await tip_of(world, creator, payer)
    await form.tell("sale")

    async def status() -> str:
        return str((await payer.ok("GET", f"/payments/requests/{made['id']}"))["status"])

    async def completed() -> bool:
        return await status() == "completed"

    await until(completed)
    token = world.dependencies.tokens.issue_service("test", 600)
    answer = await world.client.post(
        "/api/v1/payments/refunds", json={"payerId": payer.user_id, "paymentId": made["id"], "reason": "why"},
        headers={"Authorization": f"Bearer {token}", "Idempotency-Key": "r"},
    )
    assert code(answer) == (409, "payment_refused")
    assert await status() == "completed"
    await form.tell("refund", refundedTotal="12.34", transactionId=f"{form.sale_id}-1")

    async def refunded() -> bool:
        return await status() == "refunded"

    await until(refunded)


@pytest_asyncio.fixture
async def paid_by_hand(world: World) -> AsyncIterator[World]:
    """Balances are those of the rows."""
    loader, shards = Loader(world.settings), world.shards.loader
    known, made_up = world.dependencies.warm_money, shards.funds
    object.__setattr__(world.dependencies, "warm_money", Warming(loader.warm_money))
    shards.funds = loader.funds  # type: ignore[method-assign]
    yield world
    shards.funds = made_up  # type: ignore[method-assign]
    await world.dependencies.warm_money.close()
    object.__setattr__(world.dependencies, "warm_money", known)
    await loader.close()


async def test_staff_pays_creators_and_the_ledger_knows(
    paid_by_hand: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = paid_by_hand
    creator, payer = await creator_of(world, paid=False), await world.register("sugar_daddy")
    _, form = await tip_of(world, creator, payer, amount="100.00")
    await form.tell("sale")
    await booked(world, payer, [("charge", 10_000)])
    with open_rows(world.settings, "test") as conn:  # a week has passed
        conn.execute("UPDATE ledger_entries SET available_at = now() WHERE party_id = %s", (creator.user_id,))
    admin = {"Authorization": f"Bearer {world.dependencies.tokens.issue_service('test', 60)}"}

    async def ask(amount: str, key: str) -> httpx.Response:
        return await creator.ask("POST", "/payments/payouts", json={"amount": amount, "currency": "USD"}, key=key)

    async def record(payout_id: str, outcome: str, of: Person = creator, **headers: str) -> httpx.Response:
        return await world.client.put(
            f"/api/v1/payments/payouts/{payout_id}/outcome", headers=admin | headers,
            json={"creatorId": of.user_id, "outcome": outcome, "reference": "SEPA 2026-11, 7 creators"},
        )

    async def balance(available: str, in_transit: str, paid_out: str) -> None:
        async def holds() -> bool:
            (found,) = (await creator.ok("GET", "/payments/balance"))["balances"]
            return (found["available"], found["inTransit"], found["paidOut"]) == (available, in_transit, paid_out)

        await until(holds)

    assert code(await ask("80.01", "more")) == (409, "not_available")
    first = (await ask("50.00", "one")).json()
    assert (first["status"], (await ask("50.00", "one")).json()) == ("pending", first)
    await balance("30.00", "50.00", "0.00")
    assert code(await ask("30.01", "again")) == (409, "not_available")
    await asyncio.to_thread(in_rows, world.settings, "SELECT 1 FROM payouts WHERE id = %s AND due IS NOT NULL", first["id"])
    settling = PaymentSettling(world.settings, "test-settling", clock=lambda: datetime.now(UTC) + timedelta(days=1))
    await asyncio.to_thread(settling.look)
    await asyncio.to_thread(settling.close)
    assert (await creator.ok("GET", f"/payments/payouts/{first['id']}"))["status"] == "pending", "nobody but staff pays it"

    # Nobody but an administrator says what became of it, and nobody of another's.
    theirs = {"creatorId": creator.user_id, "outcome": "paid", "reference": "x"}
    assert code(await creator.ask("PUT", f"/payments/payouts/{first['id']}/outcome", json=theirs)) == (403, "forbidden")
    assert code(await record(first["id"], "paid", payer)) == (404, "not_found")
    assert code(await record(first["id"], "returned")) == (409, "payout_state")
    for _ in range(2):
        answer = await record(first["id"], "paid")
        assert (answer.status_code, answer.json()["status"]) == (200, "paid"), answer.text
    answer = await record(first["id"], "refused")
    assert (code(answer), answer.json()["state"]) == ((409, "payout_state"), "paid")
    await balance("30.00", "0.00", "50.00")

    second = (await ask("30.00", "two")).json()
    assert (await record(second["id"], "refused")).json()["status"] == "refused"
    await balance("30.00", "0.00", "50.00")
    assert code(await ask("30.00", "two")) == (409, "payment_refused")
    third = (await ask("30.00", "three")).json()
    await asyncio.to_thread(in_rows, world.settings, "SELECT 1 FROM payouts WHERE id = %s", third["id"])
    async with operator_tool(world, world.settings, tmp_path, monkeypatch) as tool:
        shown = (await tool("payouts", "list", "--limit", "10000")).output
        assert f"{third['id']} │ {creator.user_id} │ 30.00 USD" in shown
        assert first["id"] not in shown
        paid = ("payouts", "paid", third["id"], "--reference", "SEPA 8")
        for _ in range(2):
            assert (await tool(*paid)).output == "30.00 USD: paid\n"
        late = await tool("payouts", "refuse", third["id"], "--reason", "Why not.")
        assert isinstance(late.exception, ModerationRefused)
        assert late.exception.details["state"] == "paid"
        back = await tool("payouts", "returned", third["id"], "--reason", "The account is closed.")
        assert back.output == "30.00 USD: failed\n", back
        for unknown in (new_id(), "nonsense"):
            assert isinstance((await tool("payouts", "paid", unknown, "--reference", "x")).exception, ConfigurationError)
        settled = "SELECT 1 FROM payouts WHERE id = %s AND due IS NULL"
        await asyncio.to_thread(in_rows, world.settings, settled, third["id"])
        assert third["id"] not in (await tool("payouts", "list", "--limit", "10000")).output
    await balance("30.00", "0.00", "50.00")
    await booked(world, creator, [("payout", 3_000), ("payout", 5_000), ("payout_failed", 3_000)])
    with open_rows(world.settings, "test") as conn:
        kept = conn.execute("SELECT provider_payout_id, state ->> 'paid' FROM payouts WHERE id = %s", (first["id"],)).fetchone()
        acts = conn.execute("SELECT action FROM audit_log WHERE target_id = %s ORDER BY at", (creator.user_id,)).fetchall()
    assert kept == ("SEPA 2026-11, 7 creators", "true")
    assert [action for (action,) in acts] == ["payout paid", "payout refused", "payout paid", "payout returned"]
