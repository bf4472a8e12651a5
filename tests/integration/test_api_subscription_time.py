"""Subscriptions as time passes at the processor: renewals, and what is past due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest
from api_world import World
from payments_world import TIER, SandboxDriver, billed, code, creator_of, payer_of, paying, reported

from configs.contracts.ids import new_id
from configs.settings import Settings

pytestmark = pytest.mark.servers


async def test_a_bundle_is_paid_for_at_once_and_renewed_as_it_was_bought(
    servers: Settings, make_world: Callable[..., Awaitable[World]], own_sandbox: SandboxDriver
) -> None:
    world = await make_world(payments=paying(servers, own_sandbox))
    creator = await creator_of(world)
    bundles = [{"months": 3, "percent": 20}, {"months": 6, "percent": 33}]
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"bundles": bundles})
    assert [bundle["price"] for bundle in tier["bundles"]] == ["23.98", "40.16"], "9.99 a month, in the creator's favour to the cent"
    fan, card = await payer_of(world, own_sandbox)
    bought = {"tierId": tier["tierId"], "interval": "month", "bundleMonths": 3, "paymentMethodId": card}
    path = f"/subscriptions/{(await fan.ok('POST', '/subscriptions', json=bought, key='buy'))['id']}"

    async def shown() -> tuple[str, int, str, int]:
        found = await fan.ok("GET", path)
        start, end = (datetime.fromisoformat(found[name]) for name in ("currentPeriodStart", "currentPeriodEnd"))
        return found["interval"], found["intervalCount"], found["amount"], (end - start).days

    assert await billed(own_sandbox, fan) == [2_398]
    interval, count, amount, days = await shown()
    assert (interval, count, amount) == ("month", 3, "23.98")
    assert 89 <= days <= 92

    # What the creator asks for later is for others.
    await creator.ok("PUT", f"/subscriptions/tiers/{tier['tierId']}", json={"bundles": [{"months": 3, "percent": 10}, bundles[1]]})
    (object_id,) = [item["id"] for item in await own_sandbox.objects("subscription") if item["metadata"].get("subscriberId") == fan.user_id]
    await own_sandbox.advance(days + 0.1)
    await reported(world, fan, object_id)
    assert await billed(own_sandbox, fan) == [2_398, 2_398]
    dearer, other_card = await payer_of(world, own_sandbox)
    await dearer.ok("POST", "/subscriptions", json=bought | {"paymentMethodId": other_card}, key="buy")
    assert await billed(own_sandbox, dearer) == [2_698]

    for shorter in ({"interval": "month"}, {"bundleMonths": 2}):
        assert code(await fan.ask("PUT", path, json={"tierId": tier["tierId"], **shorter}, key=new_id())) == (422, "not_offered")
    assert code(await fan.ask("PUT", path, json={"tierId": tier["tierId"], "bundleMonths": 3}, key="same")) == (409, "same_tier")
    longer = {"tierId": tier["tierId"], "bundleMonths": 6}
    for _ in range(2):
        await fan.ok("PUT", path, json=longer, key="longer")
    interval, count, amount, days = await shown()
    assert (interval, count, amount) == ("month", 6, "40.16")
    assert 181 <= days <= 184
    assert len(await billed(own_sandbox, fan)) == 3, "the rest of the old bundle is taken off the new one, once"
    assert (await billed(own_sandbox, fan))[-1] < 4_016
    assert code(await fan.ask("PUT", path, json=longer | {"bundleMonths": 3}, key="longer")) == (409, "idempotency_conflict")
    assert code(await fan.ask("PUT", path, json=longer | {"interval": "year"}, key=new_id())) == (422, "invalid")


async def test_a_running_subscription_is_paid_with_another_card_and_what_is_past_due_at_once(
    make_world: Callable[..., Awaitable[World]], servers: Settings, own_sandbox: SandboxDriver
) -> None:
    world = await make_world(payments=paying(servers, own_sandbox))
    creator = await creator_of(world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(world, own_sandbox)
    _, foreign = await payer_of(world, own_sandbox)
    made = await fan.ok("POST", "/subscriptions", json={"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}, key="s")
    (customer,) = {item["customer"] for item in await own_sandbox.objects("payment_method") if item["id"] == card}
    provider = own_sandbox.provider()
    good, bad = await own_sandbox.save_card(provider, customer), await own_sandbox.save_card(provider, customer, "pm_card_chargeCustomerFail")
    path = f"/subscriptions/{made['id']}/payment-method"
    for method_id in (foreign, "pm_of_nobody"):
        assert code(await fan.ask("PUT", path, json={"paymentMethodId": method_id}, key=new_id())) == (422, "payment_method_invalid")
    absent = f"/subscriptions/{new_id()}/payment-method"
    assert code(await fan.ask("PUT", absent, json={"paymentMethodId": good}, key="n")) == (404, "not_found")

    (object_id,) = [
        item["id"] for item in await own_sandbox.objects("subscription") if item["metadata"]["requestId"] == made["id"]
    ]
    await own_sandbox.command("card", payment_method=card, behaves_like="pm_card_chargeCustomerFail")
    await own_sandbox.advance(32)
    await reported(world, fan, object_id)

    async def at_provider() -> tuple[str, str]:
        (found,) = [item for item in await own_sandbox.objects("subscription") if item["id"] == object_id]
        return found["status"], found["default_payment_method"]

    assert await at_provider() == ("past_due", card)
    assert code(await fan.ask("PUT", path, json={"paymentMethodId": bad}, key="bad")) == (402, "payment_declined")
    before = await billed(own_sandbox, fan)
    changed = await fan.ok("PUT", path, json={"paymentMethodId": good}, key="good")
    assert changed["status"] == "active"
    assert await at_provider() == ("active", good)
    assert await fan.ok("PUT", path, json={"paymentMethodId": good}, key="good") == changed
    assert sum(await billed(own_sandbox, fan)) == sum(before) + 999, "paid once, with the new card"
    await own_sandbox.command("card", payment_method=good, behaves_like="pm_card_chargeDeclinedExpiredCard")
    assert code(await fan.ask("PUT", path, json={"paymentMethodId": good}, key="old")) == (422, "payment_method_invalid")
    await provider.close()


async def test_who_cancels_what_is_past_due_is_charged_no_more(
    make_world: Callable[..., Awaitable[World]], servers: Settings, own_sandbox: SandboxDriver
) -> None:
    world = await make_world(payments=paying(servers, own_sandbox))
    creator = await creator_of(world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(world, own_sandbox)
    made = await fan.ok("POST", "/subscriptions", json={"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}, key="s")
    (object_id,) = [item["id"] for item in await own_sandbox.objects("subscription") if item["metadata"]["requestId"] == made["id"]]
    await own_sandbox.command("card", payment_method=card, behaves_like="pm_card_chargeCustomerFail")
    await own_sandbox.advance(32)
    await reported(world, fan, object_id)
    (found,) = [item for item in await own_sandbox.objects("subscription") if item["id"] == object_id]
    assert found["status"] == "past_due"
    path = f"/subscriptions/{made['id']}"
    before = sum(await billed(own_sandbox, fan))
    for _ in range(2):
        assert (await fan.ok("DELETE", path, key="stop"))["status"] == "expired"
    assert code(await fan.ask("POST", f"{path}/resume", key="on")) == (409, "subscription_not_active")
    await own_sandbox.command("card", payment_method=card, behaves_like="pm_card_visa")
    await own_sandbox.advance(10)
    assert sum(await billed(own_sandbox, fan)) == before
