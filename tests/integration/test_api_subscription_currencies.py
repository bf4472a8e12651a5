"""One person subscribes to creators of several currencies, which a processor's customer cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from api_world import Person, World
from payments_world import TIER, SandboxDriver, billed, code, creator_of, payer_of, paying, reported, saved_card

from configs.settings import Settings

pytestmark = pytest.mark.servers


async def test_who_subscribes_in_two_currencies_has_a_card_for_each_and_both_are_renewed(
    make_world: Callable[..., Awaitable[World]], servers: Settings, own_sandbox: SandboxDriver
) -> None:
    world = await make_world(payments=paying(servers, own_sandbox))

    async def selling(currency: str, price: str) -> tuple[Person, str]:
        creator = await creator_of(world)
        tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"currency": currency, "priceMonthly": price})
        return creator, tier["tierId"]

    (euro_creator, euros), (_, more_euros), (_, dollars) = [
        await selling(*what) for what in (("EUR", "5.00"), ("EUR", "6.00"), ("USD", "9.00"))
    ]
    fan, card = await payer_of(world, own_sandbox)

    async def at_processor() -> dict[str, dict[str, str]]:
        found = [item for item in await own_sandbox.objects("subscription") if item["metadata"]["subscriberId"] == fan.user_id]
        return {item["metadata"]["tierId"]: item for item in found}

    first = await fan.ok("POST", "/subscriptions", json={"tierId": euros, "interval": "month", "paymentMethodId": card}, key="e")
    assert first["status"] == "active"

    # The processor refuses the other currency: the person is told what to do, and nothing is left of the checkout.
    wanted = {"tierId": dollars, "interval": "month", "paymentMethodId": card}
    for _ in range(2):
        refused = await fan.ask("POST", "/subscriptions", json=wanted, key="d")
        assert (code(refused), refused.json()["currency"]) == ((409, "payment_method_currency"), "USD")
    assert set(await at_processor()) == {euros}
    assert [(item["tierId"], item["status"]) for item in (await fan.ok("GET", "/subscriptions"))["subscriptions"]] == [
        (dollars, "expired"), (euros, "active"),
    ]

    # A card that is saved for it, as often as one likes, pays it; one for the first currency is saved as ever.
    both = [*await asyncio.gather(*(saved_card(fan, own_sandbox, currency="USD") for _ in range(2)))]
    spare = await saved_card(fan, own_sandbox, currency="EUR")
    methods = {item["paymentMethodId"]: item["currency"] for item in (await fan.ok("GET", "/payments/methods"))["paymentMethods"]}
    assert methods == {card: None, spare: None, both[0]: "USD", both[1]: "USD"}
    assert len([item for item in await own_sandbox.objects("customer") if item["metadata"]["userId"] == fan.user_id]) == 2
    second = await fan.ok("POST", "/subscriptions", json=wanted | {"paymentMethodId": both[0]}, key="d2")
    assert second["status"] == "active"

    # Each pays subscriptions in its currency alone, before anything is asked of the processor, and whatever is paid once.
    other = {"tierId": more_euros, "interval": "month", "paymentMethodId": both[0]}
    refused = await fan.ask("POST", "/subscriptions", json=other, key="m")
    assert (code(refused), refused.json()["currency"]) == ((409, "payment_method_currency"), "EUR")
    paths = {which: f"/subscriptions/{made['id']}/payment-method" for which, made in (("EUR", first), ("USD", second))}
    for currency, method in (("EUR", both[1]), ("USD", card)):
        refused = await fan.ask("PUT", paths[currency], json={"paymentMethodId": method}, key=f"no-{currency}")
        assert (code(refused), refused.json()["currency"]) == ((409, "payment_method_currency"), currency)
    for currency, method in (("EUR", spare), ("USD", both[1])):
        await fan.ok("PUT", paths[currency], json={"paymentMethodId": method}, key=f"to-{currency}")
    tip = {"toUserId": euro_creator.user_id, "amount": "5.00", "currency": "EUR", "paymentMethodId": both[0]}
    assert (await fan.ok("POST", "/payments/tips", json=tip, key="t"))["status"] == "completed"
    for method in (card, both[0]):
        await fan.ok("DELETE", f"/payments/methods/{method}")
    assert code(await fan.ask("DELETE", f"/payments/methods/{both[0]}")) == (404, "not_found")

    await own_sandbox.advance(32)
    subscribed = await at_processor()
    assert {tier: item["status"] for tier, item in subscribed.items()} == {euros: "active", dollars: "active"}
    assert len({item["customer"] for item in subscribed.values()}) == 2
    for item in subscribed.values():
        await reported(world, fan, item["id"])
    assert [(await fan.ok("GET", f"/subscriptions/{made['id']}"))["status"] for made in (first, second)] == ["active", "active"]
    assert sorted(await billed(own_sandbox, fan)) == [500, 500, 900, 900]

    # Removed at the processor, by hand perhaps: whoever saves a card for that currency anew is somebody new there.
    provider = own_sandbox.provider()
    await provider.forget_customer(subscribed[dollars]["customer"])
    await provider.close()
    anew = await saved_card(fan, own_sandbox, currency="USD")
    methods = {item["paymentMethodId"]: item["currency"] for item in (await fan.ok("GET", "/payments/methods"))["paymentMethods"]}
    assert methods == {spare: None, anew: "USD"}


async def test_a_card_for_a_currency_is_the_first_ones_while_that_pays_no_other(
    make_world: Callable[..., Awaitable[World]], servers: Settings, own_sandbox: SandboxDriver
) -> None:
    """An app may always say for which currency; only who needs a second customer at the processor has one."""
    world = await make_world(payments=paying(servers, own_sandbox))
    creator, fan = await creator_of(world), await world.register("sugar_daddy")
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    card = await saved_card(fan, own_sandbox, currency="USD")
    made = await fan.ok("POST", "/subscriptions", json={"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}, key="s")
    (object_id,) = [item["id"] for item in await own_sandbox.objects("subscription")]
    await saved_card(fan, own_sandbox, currency="USD")
    assert len(await own_sandbox.objects("customer")) == 1

    # What has ended is in nobody's way.
    await fan.ok("DELETE", f"/subscriptions/{made['id']}", key="end")
    await own_sandbox.advance(32)
    await reported(world, fan, object_id)
    await saved_card(fan, own_sandbox, currency="EUR")
    assert len(await own_sandbox.objects("customer")) == 1
    methods = (await fan.ok("GET", "/payments/methods"))["paymentMethods"]
    assert [item["currency"] for item in methods] == [None] * 3
    await fan.ok("POST", "/payments/methods/setup", json={})
    assert code(await fan.ask("POST", "/payments/methods/setup", json={"currency": "XXX"})) == (422, "invalid")
