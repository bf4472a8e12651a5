"""Money that goes back, with the sandbox as payment processor: what was paid twice by itself, the rest by a moderator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person, World
from payments_world import KEY, SandboxDriver, assured, consumed, creator_of, in_rows, payer_of
from pydantic import SecretStr

from actors.payments.commands import Observe, PaymentStands, RequestPayment
from configs.contracts.ids import new_id
from configs.contracts.payments import Pay
from configs.contracts.purchases import SingleFact
from configs.settings import Settings
from writers.connections import open_rows
from writers.settling_payments import PaymentSettling

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxDriver]:
    directory: Path = tmp_path_factory.mktemp("sandbox")
    driver = SandboxDriver(directory)
    yield driver
    driver.stop()


@pytest_asyncio.fixture
async def world(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> AsyncIterator[World]:
    payments = servers.payments.model_copy(update={"stripe_key": SecretStr(KEY), "stripe_url": sandbox.url, "retries": 0})
    made = await make_world(payments=payments)
    with consumed(made.settings):
        yield made


async def settle(world: World) -> int:
    """What a writer does every few seconds."""
    settling = PaymentSettling(world.settings, "test")
    try:
        return await asyncio.to_thread(settling.look)
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
    assert await settle(world) == 0, "nothing was paid twice yet"

    await sandbox.authenticate(started.client_secret)
    assert (await reported(world, payer, late, started.object_id)).payment.status == "completed"
    await asyncio.to_thread(in_rows, world.settings, rows, late, "completed", False)
    assert await asyncio.gather(settle(world), settle(world)) == [1, 1], "two writers that look at once"
    await asyncio.to_thread(in_rows, world.settings, rows, late, "refunded", False)
    assert await settle(world) == 0
    (refund,) = await refunds_of(sandbox, started.object_id)
    assert refund["amount"] == 500
    await asyncio.to_thread(in_rows, world.settings, rows, bought["id"], "completed", True)
    assert await ledger_of(world, payer) == [("charge", 500), ("charge", 500), ("refund", 500)]
    assert (await payer.ok("GET", f"/content/posts/{post_id}"))["access"] == "open"
    assert (await payer.ok("GET", f"/payments/requests/{bought['id']}"))["status"] == "completed"
