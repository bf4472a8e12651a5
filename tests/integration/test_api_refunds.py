"""Money that goes back, with the sandbox as payment processor: what was paid twice by itself, the rest by a moderator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from api_world import Person, World
from log_writing import append
from payments_world import SandboxDriver, assured, code, consumed, creator_of, in_rows, payer_of, paying, saved_card

from actors.payments.commands import Abandon, Observe, PaymentStands, RequestPayment, RequestRefund
from actors.posts.commands import RemovePost
from cluster.connections.kafka import Record
from configs.contracts.events import ContentRemoved, Event, encode
from configs.contracts.ids import derived_id, new_id, partition_of
from configs.contracts.payments import Pay, Refund
from configs.contracts.purchases import SingleFact
from configs.settings import Settings
from writers.connections import open_rows
from writers.consumers.derive_refunds import Buyers, Owed, refunds
from writers.settling_payments import PaymentSettling

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def world(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> AsyncIterator[World]:
    made = await make_world(payments=paying(servers, sandbox))
    with consumed(made.settings, derived_from=("content.published", "payment.completed")):
        yield made


async def settle(world: World, *, later: timedelta = timedelta(0)) -> None:
    """What a writer does every few seconds, also for what other tests left; ``later``: at a time to come."""
    settling = PaymentSettling(world.settings, "test", clock=lambda: datetime.now(UTC) + later)
    try:
        await asyncio.to_thread(settling.look)
    finally:
        await asyncio.to_thread(settling.close)


async def post_for_sale(creator: Person) -> str:
    made = await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "what is sold", "state": "published",
        "access": {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}},
    })
    return str(made["postId"])


async def reported(world: World, payer: Person, payment_id: str, object_id: str) -> PaymentStands:
    """As a webhook and the consumers behind it tell it."""
    provider = await world.dependencies.providers.present()
    facts = tuple(fact for fact in await provider.observe(object_id) if isinstance(fact, SingleFact))
    answer = await world.dependencies.payments.tell(Observe(payer_id=payer.user_id, payment_id=payment_id, facts=facts))
    assert isinstance(answer, PaymentStands)
    return answer


async def refunds_of(sandbox: SandboxDriver, object_id: str) -> list[dict[str, Any]]:
    return [item for item in await sandbox.objects("refund") if item["payment_intent"] == object_id]


async def ledger_of(world: World, payer: Person) -> list[tuple[str, int]]:
    """(kind, amount) of the payer's transactions; every one of them in balance."""
    def read() -> list[tuple[str, int]]:
        with open_rows(world.settings, "test") as conn:
            unbalanced = conn.execute(
                "SELECT transaction_id FROM ledger_entries WHERE owner_id = %s GROUP BY 1 HAVING sum(amount_minor) <> 0", (payer.user_id,)
            ).fetchall()
            assert unbalanced == []
            return conn.execute("SELECT kind, amount_minor FROM transactions WHERE owner_id = %s ORDER BY 1, 2", (payer.user_id,)).fetchall()

    return await asyncio.to_thread(read)


async def test_what_is_confirmed_late_after_another_purchase_of_the_post_is_given_back_once_by_itself(
    world: World, sandbox: SandboxDriver
) -> None:
    creator = await creator_of(world)
    post_id = await post_for_sale(creator)
    payer, slow = await payer_of(world, sandbox, "pm_card_authenticationRequired")
    await assured(world, payer)
    # The first purchase waits for the payer's bank until its time is over.
    provider, late = await world.dependencies.providers.present(), new_id()
    (customer,) = {item["customer"] for item in await sandbox.objects("payment_method") if item["id"] == slow}
    (account,) = {
        item["id"] for item in await sandbox.objects("account") if item["metadata"]["creatorId"] == creator.user_id
    }
    await world.dependencies.payments.request(RequestPayment(
        payer_id=payer.user_id, payment_id=late, body_digest="", payee_id=creator.user_id, purpose="post", post_id=post_id,
        amount_minor=500, currency="USD", fee_minor=100, account_id=account, payment_method_id=slow, message=None, checkout_s=0,
    ))
    started = await provider.pay(Pay(
        request_id=late, payer_id=payer.user_id, payee_id=creator.user_id, customer_id=customer, payment_method_id=slow,
        account_id=account, amount_minor=500, currency="USD", fee_minor=100, purpose="post",
    ))
    assert started.client_secret is not None
    setup = await payer.ok("POST", "/payments/methods/setup")
    assert setup["clientSecret"]
    card = await sandbox.save_card(provider, customer)  # type: ignore[arg-type]  # the world's provider is Stripe's
    path = f"/payments/posts/{post_id}/purchase"
    bought = await payer.ok("POST", path, json={"paymentMethodId": card}, key="second")
    assert bought["status"] == "completed"
    rows = "SELECT 1 FROM post_purchases WHERE id = %s AND status = %s AND effective = %s"
    await asyncio.to_thread(in_rows, world.settings, rows, bought["id"], "completed", True)
    await settle(world)
    assert await refunds_of(sandbox, started.object_id) == [], "nothing was paid twice yet"

    await sandbox.authenticate(started.client_secret)
    assert (await reported(world, payer, late, started.object_id)).payment.status == "completed"
    await asyncio.to_thread(in_rows, world.settings, rows, late, "completed", False)
    await asyncio.gather(settle(world), settle(world))  # two writers that look at once
    await asyncio.to_thread(in_rows, world.settings, rows, late, "refunded", False)
    await settle(world)
    (refund,) = await refunds_of(sandbox, started.object_id)
    assert refund["amount"] == 500
    await asyncio.to_thread(in_rows, world.settings, rows, bought["id"], "completed", True)
    assert await ledger_of(world, payer) == [("charge", 500), ("charge", 500), ("refund", 500)]
    assert (await payer.ok("GET", f"/content/posts/{post_id}"))["access"] == "open"
    assert (await payer.ok("GET", f"/payments/requests/{bought['id']}"))["status"] == "completed"


class Refunding:
    """Staff that gives back, and a post that a payer bought."""

    def __init__(self, world: World, payer: Person, creator: Person, post_id: str, payment_id: str, object_id: str) -> None:
        self.world, self.payer, self.creator, self.post_id = world, payer, creator, post_id
        self.payment_id, self.object_id = payment_id, object_id

    async def ask(self, key: str, amount: str | None = None, **changed: Any) -> httpx.Response:
        token = changed.pop("token", None) or self.world.dependencies.tokens.issue_service("test", 600)
        body = {"payerId": self.payer.user_id, "paymentId": self.payment_id, "reason": "Bought by mistake"} | changed
        if amount is not None:
            body["amount"] = amount
        return await self.world.client.post(
            "/api/v1/payments/refunds", json=body, headers={"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        )

    async def access(self) -> str:
        return str((await self.payer.ok("GET", f"/content/posts/{self.post_id}"))["access"])


@pytest_asyncio.fixture
async def refunding(world: World, sandbox: SandboxDriver) -> Refunding:
    creator = await creator_of(world)
    post_id = await post_for_sale(creator)
    payer, card = await payer_of(world, sandbox)
    await assured(world, payer)
    bought = await payer.ok("POST", f"/payments/posts/{post_id}/purchase", json={"paymentMethodId": card}, key="buy")
    (object_id,) = [
        item["id"] for item in await sandbox.objects("payment_intent") if item["metadata"]["requestId"] == bought["id"]
    ]
    return Refunding(world, payer, creator, post_id, bought["id"], object_id)


async def test_staff_gives_back_in_parts_and_never_more_than_was_paid(refunding: Refunding, sandbox: SandboxDriver) -> None:
    world = refunding.world
    some = await asyncio.gather(*(refunding.ask("a", "2.00") for _ in range(5)))
    assert {answer.status_code for answer in some} == {201}, [answer.text for answer in some]
    first = some[0].json()
    assert (first["amount"], first["status"], first["left"], first["livemode"]) == ("2.00", "made", "3.00", False)
    assert code(await refunding.ask("a", "1.00")) == (409, "idempotency_conflict")
    assert await refunding.access() == "open", "part of it is not all of it"
    assert code(await refunding.ask("b", "3.01")) == (409, "not_refundable")
    # At once: together they would be more.
    both = [answer.status_code for answer in await asyncio.gather(refunding.ask("c", "2.00"), refunding.ask("d", "2.00"))]
    assert sorted(both) == [201, 409]
    rest = await refunding.ask("e")
    assert (rest.status_code, rest.json()["amount"], rest.json()["left"]) == (201, "1.00", "0.00")
    assert code(await refunding.ask("f")) == (409, "not_refundable")
    assert (await refunding.ask("a", "2.00")).json()["id"] == first["id"]

    assert await refunding.access() == "purchase"
    made = await refunds_of(sandbox, refunding.object_id)
    assert sorted(item["amount"] for item in made) == [100, 200, 200]
    assert all(item["transfer_reversal"] for item in made)
    (transfer,) = [item for item in await sandbox.objects("transfer") if item["source_transaction"] == made[0]["charge"]]
    assert (transfer["amount_reversed"], transfer["reversed"]) == (500, True)
    row = "SELECT 1 FROM post_purchases WHERE id = %s AND status = 'refunded' AND refund_due IS NULL"
    await asyncio.to_thread(in_rows, world.settings, row, refunding.payment_id)
    booked = await ledger_of(world, refunding.payer)
    assert booked[0] == ("charge", 500)
    assert sum(amount for kind, amount in booked if kind == "refund") == 500
    audited = "SELECT count(*), sum((details->>'amountMinor')::int) FROM audit_log WHERE target_id = %s AND action = 'refund' HAVING count(*) = 3"
    assert await asyncio.to_thread(in_rows, world.settings, audited, refunding.payer.user_id) == (3, 500)
    assert (await refunding.payer.ok("GET", f"/payments/requests/{refunding.payment_id}"))["status"] == "refunded"


async def test_who_may_not_give_back_and_what_cannot_be(refunding: Refunding, sandbox: SandboxDriver) -> None:
    assert (await refunding.ask("a", token=refunding.payer.access_token)).status_code == 403
    assert code(await refunding.ask("a", paymentId=new_id())) == (404, "not_found")
    assert code(await refunding.ask("a", payerId=refunding.creator.user_id)) == (404, "not_found")
    for wrong in ("0", "0.001", "-1", "1e2", "5.001"):
        assert (await refunding.ask("a", wrong)).status_code == 422, wrong
    assert code(await refunding.ask("a", "5.01")) == (409, "not_refundable")
    await sandbox.command("dispute", payment_intent=refunding.object_id)
    (dispute,) = [item["id"] for item in await sandbox.objects("dispute") if item["payment_intent"] == refunding.object_id]
    await reported(refunding.world, refunding.payer, refunding.payment_id, dispute)
    assert code(await refunding.ask("a")) == (409, "not_refundable"), "the bank has the money"
    assert await refunds_of(sandbox, refunding.object_id) == []


async def test_a_refund_that_nobody_came_back_to_make_is_made_once(refunding: Refunding, sandbox: SandboxDriver) -> None:
    """The route died after the request was durable, or after the processor had made it."""
    world, refund_id = refunding.world, new_id()
    asked = RequestRefund(
        payer_id=refunding.payer.user_id, payment_id=refunding.payment_id, refund_id=refund_id, body_digest="", amount_minor=150,
        reason="Bought by mistake", requested_by="service:test",
    )
    assert isinstance(await world.dependencies.payments.refund(asked), PaymentStands)
    due = "SELECT 1 FROM post_purchases WHERE id = %s AND refund_due IS NOT NULL"
    await asyncio.to_thread(in_rows, world.settings, due, refunding.payment_id)
    await settle(world)
    assert await refunds_of(sandbox, refunding.object_id) == [], "its route may be on its way"
    await settle(world, later=timedelta(minutes=1))
    done = "SELECT 1 FROM post_purchases WHERE id = %s AND refund_due IS NULL AND state -> 'refunds' -> 0 ->> 'made' = 'true'"
    await asyncio.to_thread(in_rows, world.settings, done, refunding.payment_id)
    await settle(world, later=timedelta(minutes=1))
    assert [item["amount"] for item in await refunds_of(sandbox, refunding.object_id)] == [150]
    provider = await world.dependencies.providers.present()
    await provider.refund(Refund(request_id=refund_id, payment_id=refunding.object_id, amount_minor=150))
    assert len(await refunds_of(sandbox, refunding.object_id)) == 1, "found again, also when the processor forgot the key"
    assert await ledger_of(world, refunding.payer) == [("charge", 500), ("refund", 150)]


async def test_a_refund_that_the_bank_sends_back_opens_the_post_again_and_may_be_asked_for_again(
    refunding: Refunding, sandbox: SandboxDriver
) -> None:
    world, payer = refunding.world, refunding.payer
    assert (await refunding.ask("first")).status_code == 201
    assert await refunding.access() == "purchase"
    row = "SELECT 1 FROM post_purchases WHERE id = %s AND status = %s"
    await asyncio.to_thread(in_rows, world.settings, row, refunding.payment_id, "refunded")
    (refund,) = await refunds_of(sandbox, refunding.object_id)
    await sandbox.command("fail-refund", refund=refund["id"])
    answer = await reported(world, payer, refunding.payment_id, refund["charge"])
    assert (answer.payment.status, answer.payment.refundable_minor) == ("completed", 500)
    await asyncio.to_thread(in_rows, world.settings, row, refunding.payment_id, "completed")
    assert await ledger_of(world, payer) == [("charge", 500)]
    again = await refunding.ask("second")
    assert (again.status_code, again.json()["amount"], again.json()["left"]) == (201, "5.00", "0.00")
    assert await refunding.access() == "purchase"
    assert code(await refunding.ask("third")) == (409, "not_refundable")
    await asyncio.to_thread(in_rows, world.settings, row, refunding.payment_id, "refunded")
    assert await ledger_of(world, payer) == [("charge", 500), ("refund", 500)]
    assert sorted(item["status"] for item in await refunds_of(sandbox, refunding.object_id)) == ["failed", "succeeded"]


async def test_what_the_moderation_takes_away_is_given_back_to_everybody_who_paid_or_was_about_to(
    refunding: Refunding, sandbox: SandboxDriver
) -> None:
    world, path = refunding.world, f"/payments/posts/{refunding.post_id}/purchase"
    assert (await refunding.ask("some", "1.00")).status_code == 201
    slow, card = await payer_of(world, sandbox, "pm_card_authenticationRequired")
    await assured(world, slow)
    waiting = await slow.ok("POST", path, json={"paymentMethodId": card}, key="slow")
    assert waiting["status"] == "pending"
    bought = "SELECT 1 FROM post_purchases WHERE id = %s"
    await asyncio.to_thread(in_rows, world.settings, bought, waiting["id"])
    await world.dependencies.posts.record(RemovePost(refunding.creator.user_id, refunding.post_id, "moderation", new_id()))
    asked = "SELECT 1 FROM post_purchases WHERE id = %s AND refund_due IS NOT NULL AND jsonb_array_length(state -> 'refunds') = %s"
    await asyncio.to_thread(in_rows, world.settings, asked, refunding.payment_id, 2)
    await asyncio.to_thread(in_rows, world.settings, asked, waiting["id"], 1)
    # Its route had looked at the post before it was removed; the request came to the log after it.
    late, other = new_id(), new_id()
    await world.dependencies.payments.request(RequestPayment(
        payer_id=other, payment_id=late, body_digest="", payee_id=refunding.creator.user_id, purpose="post",
        post_id=refunding.post_id, amount_minor=500, currency="USD", fee_minor=100, account_id="acct", payment_method_id=card,
        message=None, checkout_s=1_800,
    ))
    await asyncio.to_thread(in_rows, world.settings, asked, late, 1)

    soon = timedelta(minutes=1)
    await asyncio.gather(settle(world, later=soon), settle(world, later=soon))
    done = "SELECT 1 FROM post_purchases WHERE id = %s AND status = 'refunded' AND refund_due IS NULL"
    await asyncio.to_thread(in_rows, world.settings, done, refunding.payment_id)
    assert sorted(item["amount"] for item in await refunds_of(sandbox, refunding.object_id)) == [100, 400], "what was left, once"
    (intent,) = [item["id"] for item in await sandbox.objects("payment_intent") if item["metadata"]["requestId"] == waiting["id"]]
    assert await refunds_of(sandbox, intent) == [], "nothing is paid yet"
    await sandbox.authenticate(waiting["clientSecret"])
    await reported(world, slow, waiting["id"], intent)
    paid = "SELECT 1 FROM post_purchases WHERE id = %s AND status = 'completed'"
    await asyncio.to_thread(in_rows, world.settings, paid, waiting["id"])
    await settle(world, later=soon)
    await asyncio.to_thread(in_rows, world.settings, done, waiting["id"])
    assert [item["amount"] for item in await refunds_of(sandbox, intent)] == [500]
    assert sum(amount for kind, amount in await ledger_of(world, refunding.payer) if kind == "refund") == 500


async def test_what_is_taken_away_before_rows_know_of_another_refund_gives_back_what_is_left(
    refunding: Refunding, sandbox: SandboxDriver
) -> None:
    """A removal and a refund stand in two topics: rows may tell of the whole payment when some of it is back already."""
    world = refunding.world
    assert (await refunding.ask("some", "1.00")).status_code == 201
    gone = ContentRemoved(post_id=refunding.post_id, creator_id=refunding.creator.user_id, reason="moderation")
    removed = Event(new_id(), datetime.now(UTC), refunding.creator.user_id, gone)
    owed = Owed(refunding.payer.user_id, refunding.payment_id, 500)
    ((topic, asked),) = refunds(removed, Buyers({refunding.post_id: [owed]}))
    await append(world.settings, Record(topic.name, partition_of(asked.key, world.settings.log.partitions), asked.key, encode(asked)))
    due = "SELECT 1 FROM post_purchases WHERE id = %s AND refund_due IS NOT NULL AND jsonb_array_length(state -> 'refunds') = 2"
    await asyncio.to_thread(in_rows, world.settings, due, refunding.payment_id)
    await settle(world, later=timedelta(minutes=1))
    done = "SELECT 1 FROM post_purchases WHERE id = %s AND status = 'refunded' AND refund_due IS NULL"
    await asyncio.to_thread(in_rows, world.settings, done, refunding.payment_id)
    await settle(world, later=timedelta(minutes=1))
    assert sorted(item["amount"] for item in await refunds_of(sandbox, refunding.object_id)) == [100, 400]
    assert sum(amount for kind, amount in await ledger_of(world, refunding.payer) if kind == "refund") == 500


async def derived(world: World, payment_id: str) -> None:
    """Returns once what follows of a paid payment, and of all that its payer did before, is told."""
    notice = derived_id(payment_id, "paid")
    await asyncio.to_thread(in_rows, world.settings, "SELECT 1 FROM notifications WHERE id = %s", notice)


async def test_what_a_bank_had_when_the_post_was_taken_away_is_given_back_once_it_is_won(
    refunding: Refunding, sandbox: SandboxDriver
) -> None:
    world, told = refunding.world, refunding
    other, card = await payer_of(world, sandbox)
    await assured(world, other)
    bought = await other.ok("POST", f"/payments/posts/{told.post_id}/purchase", json={"paymentMethodId": card}, key="buy")
    (untold,) = [item["id"] for item in await sandbox.objects("payment_intent") if item["metadata"]["requestId"] == bought["id"]]
    row = "SELECT 1 FROM post_purchases WHERE id = %s AND status = %s AND jsonb_array_length(coalesce(state -> 'refunds', '[]')) = %s"
    for name in (told.payment_id, bought["id"]):
        await derived(world, name)
    disputes = [(await sandbox.command("dispute", payment_intent=name))["id"] for name in (told.object_id, untold)]
    await reported(world, told.payer, told.payment_id, disputes[0])
    await asyncio.to_thread(in_rows, world.settings, row, told.payment_id, "disputed", 0)
    await asyncio.to_thread(in_rows, world.settings, row, bought["id"], "completed", 0)
    await world.dependencies.posts.record(RemovePost(told.creator.user_id, told.post_id, "moderation", new_id()))
    await asyncio.to_thread(in_rows, world.settings, row, bought["id"], "completed", 1)
    await settle(world, later=timedelta(minutes=1))
    refused = "SELECT 1 FROM post_purchases WHERE id = %s AND state #>> '{refunds,0,made}' = 'false'"
    await asyncio.to_thread(in_rows, world.settings, refused, bought["id"])
    await asyncio.to_thread(in_rows, world.settings, row, told.payment_id, "disputed", 0)

    for dispute in disputes:
        await sandbox.command("close-dispute", dispute=dispute, won=True)
    for payer, payment_id, dispute, asked in (
        (told.payer, told.payment_id, disputes[0], 1), (other, bought["id"], disputes[1], 2),
    ):
        for _ in range(2):
            assert (await reported(world, payer, payment_id, dispute)).payment.status == "completed"
        await asyncio.to_thread(in_rows, world.settings, row, payment_id, "completed", asked)
    await settle(world, later=timedelta(minutes=1))
    for payer, payment_id, object_id, asked in (
        (told.payer, told.payment_id, told.object_id, 1), (other, bought["id"], untold, 2),
    ):
        await asyncio.to_thread(in_rows, world.settings, row, payment_id, "refunded", asked)
        assert [item["amount"] for item in await refunds_of(sandbox, object_id)] == [500]
        assert sum(amount for kind, amount in await ledger_of(world, payer) if kind == "refund") == 500


async def test_a_payment_that_was_given_up_and_is_paid_after_all_is_given_back_if_the_post_is_gone(
    refunding: Refunding, sandbox: SandboxDriver
) -> None:
    world = refunding.world
    slow, card = await payer_of(world, sandbox, "pm_card_authenticationRequired")
    await assured(world, slow)
    waiting = await slow.ok("POST", f"/payments/posts/{refunding.post_id}/purchase", json={"paymentMethodId": card}, key="slow")
    await world.dependencies.payments.tell(Abandon(payer_id=slow.user_id, payment_id=waiting["id"], reason="provider_refused"))
    row = "SELECT 1 FROM post_purchases WHERE id = %s AND status = %s AND jsonb_array_length(coalesce(state -> 'refunds', '[]')) = %s"
    tip = {"toUserId": refunding.creator.user_id, "amount": "5.00", "currency": "USD", "paymentMethodId": await saved_card(slow, sandbox)}
    await derived(world, (await slow.ok("POST", "/payments/tips", json=tip, key="tip"))["id"])
    await asyncio.to_thread(in_rows, world.settings, row, waiting["id"], "failed", 0)
    await world.dependencies.posts.record(RemovePost(refunding.creator.user_id, refunding.post_id, "moderation", new_id()))
    await asyncio.to_thread(in_rows, world.settings, row, refunding.payment_id, "completed", 1)
    await sandbox.authenticate(waiting["clientSecret"])
    (intent,) = [item["id"] for item in await sandbox.objects("payment_intent") if item["metadata"]["requestId"] == waiting["id"]]
    await reported(world, slow, waiting["id"], intent)
    await asyncio.to_thread(in_rows, world.settings, row, waiting["id"], "completed", 1)
