"""Another payment method for a subscription through the API: each request is durable, is done once, and undoes no later one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from api_world import World
from log_reading import records_of
from payments_world import TIER, SandboxDriver, code, creator_of, payer_of, paying, saved_card

from configs.settings import Settings

pytestmark = pytest.mark.servers


async def test_a_key_names_one_change_for_good_and_a_late_retry_undoes_no_newer_one(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> None:
    world = await make_world(payments=paying(servers, sandbox))
    creator = await creator_of(world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(world, sandbox)
    second, third = [await saved_card(fan, sandbox) for _ in range(2)]
    made = await fan.ok("POST", "/subscriptions", json={"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}, key="s")
    path = f"/subscriptions/{made['id']}/payment-method"

    async def paid_with() -> str:
        (found,) = [item for item in await sandbox.objects("subscription") if item["metadata"]["requestId"] == made["id"]]
        return str(found["default_payment_method"])

    async def recorded() -> list[str]:
        events = await asyncio.to_thread(records_of, servers, "subscription.created", fan.user_id)
        return [event.payload.payment_method_id for event in events if event.payload.TYPE == "subscription_method_requested"]

    answers = await asyncio.gather(*(fan.ask("PUT", path, json={"paymentMethodId": second}, key="a") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert (await paid_with(), await recorded()) == (second, [second])
    assert code(await fan.ask("PUT", path, json={"paymentMethodId": third}, key="a")) == (409, "idempotency_conflict")
    assert (await paid_with(), await recorded()) == (second, [second])
    await fan.ok("PUT", path, json={"paymentMethodId": third}, key="b")
    assert await paid_with() == third
    assert (await fan.ok("PUT", path, json={"paymentMethodId": second}, key="a"))["status"] == "active"
    assert (await paid_with(), await recorded()) == (third, [second, third])
    assert code(await fan.ask("PUT", path, json={"paymentMethodId": "pm_of_nobody"}, key="c")) == (422, "payment_method_invalid")
    assert await recorded() == [second, third]
