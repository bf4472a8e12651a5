"""Payers and creators whom the processor knows no more, and addresses that it does not take: answers, never a 500."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from api_world import World
from payments_world import RETURN, SandboxDriver, code, creator_of, payer_of, paying, saved_card

from configs.settings import Settings

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def world(make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver) -> AsyncIterator[World]:
    yield await make_world(payments=paying(servers, sandbox))


async def test_an_address_that_the_processor_does_not_take_is_refused_before_and_after_the_account(world: World) -> None:
    new, known = await creator_of(world, paid=False), await creator_of(world)
    for creator in (new, known):
        for name in ("returnUrl", "refreshUrl"):
            answer = await creator.ask("POST", "/payments/connect/onboarding", json=RETURN | {name: "https://?a"})
            assert code(answer) == (409, "payment_refused"), name
    await known.ok("POST", "/payments/connect/onboarding", json=RETURN)


async def test_a_customer_who_was_removed_at_the_processor_has_no_card_and_may_save_one_anew(
    world: World, sandbox: SandboxDriver
) -> None:
    creator = await creator_of(world)
    payer, card = await payer_of(world, sandbox)
    (customer,) = {item["customer"] for item in await sandbox.objects("payment_method") if item["id"] == card}
    provider = sandbox.provider()
    await provider.forget_customer(customer)
    await provider.close()
    assert (await payer.ok("GET", "/payments/methods"))["paymentMethods"] == []
    tip = {"toUserId": creator.user_id, "amount": "5.00", "currency": "USD", "paymentMethodId": card}
    assert code(await payer.ask("POST", "/payments/tips", json=tip, key="a")) == (422, "payment_method_invalid")
    assert code(await payer.ask("PUT", f"/payments/methods/{card}/default")) == (422, "payment_method_invalid")
    assert code(await payer.ask("DELETE", f"/payments/methods/{card}")) == (404, "not_found")
    anew = await saved_card(payer, sandbox)
    assert [method["paymentMethodId"] for method in (await payer.ok("GET", "/payments/methods"))["paymentMethods"]] == [anew]
    assert (await payer.ok("POST", "/payments/tips", json=tip | {"paymentMethodId": anew}, key="b"))["status"] == "completed"
