"""Creators sell and people subscribe through the API, with the sandbox as payment processor: what is paid, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_world import World
from log_reading import records_of
from payments_world import RETURN, TIER, SandboxDriver, billed, code, creator_of, may_open, payer_of, reported

from configs.contracts.ids import new_id
from configs.settings import Settings

pytestmark = pytest.mark.servers

PEOPLE = "/subscriptions/subscribers"


async def test_from_a_tier_to_a_subscriber_and_out_again(
    shop_world: World, sandbox: SandboxDriver, servers: Settings
) -> None:
    world = shop_world
    creator = await creator_of(world)
    gold = await creator.ok("POST", "/subscriptions/tiers", json=TIER, key="gold")
    assert gold == await creator.ok("POST", "/subscriptions/tiers", json=TIER, key="gold")
    assert (gold["priceMonthly"], gold["currency"]) == ("9.99", "USD")
    silver = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"rank": 5, "name": "Platinum", "priceMonthly": "20"})
    fan, card = await payer_of(world, sandbox)
    shown = await fan.ok("GET", "/subscriptions/tiers", params={"creatorId": creator.user_id})
    assert [tier["name"] for tier in shown["tiers"]] == ["Gold", "Platinum"]
    assert await may_open(world, fan, creator) == "subscribe"

    body = {"tierId": gold["tierId"], "interval": "month", "paymentMethodId": card}
    answers = await asyncio.gather(*(fan.ask("POST", "/subscriptions", json=body, key="buy") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    made = answers[0].json()
    assert {answer.json()["id"] for answer in answers} == {made["id"]}
    again = await fan.ok("POST", "/subscriptions", json=body, key="buy")
    assert (again["status"], again["livemode"]) == ("active", False)
    assert await may_open(world, fan, creator) == "open"
    assert await may_open(world, fan, creator, rank=5) == "upgrade"
    assert code(await fan.ask("POST", "/subscriptions", json=body | {"interval": "year"}, key="buy")) == (409, "idempotency_conflict")
    assert code(await fan.ask("POST", "/subscriptions", json=body, key="twice")) == (409, "already_subscribed")
    (own,) = (await fan.ok("GET", "/subscriptions"))["subscriptions"]
    assert (own["amount"], own["status"], own["cancelAtPeriodEnd"]) == ("9.99", "active", False)
    (listed,) = (await creator.ok("GET", PEOPLE))["subscribers"]
    assert (listed["userId"], listed["tierName"]) == (fan.user_id, "Gold")

    await creator.ok("PUT", f"/subscriptions/tiers/{gold['tierId']}", json={"priceMonthly": "50"})
    await creator.ok("DELETE", f"/subscriptions/tiers/{gold['tierId']}")
    assert (await fan.ok("GET", f"/subscriptions/{made['id']}"))["amount"] == "9.99"

    up = await fan.ok("PUT", f"/subscriptions/{made['id']}", json={"tierId": silver["tierId"]}, key="up")
    assert up["status"] == "active"
    assert await may_open(world, fan, creator, rank=5) == "open"
    assert (await fan.ok("GET", f"/subscriptions/{made['id']}"))["tierName"] == "Platinum"
    assert code(await fan.ask("PUT", f"/subscriptions/{made['id']}", json={"tierId": silver["tierId"]}, key="up2")) == (409, "same_tier")

    basic = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"name": "Basic", "priceMonthly": "5"})
    for _ in range(2):
        await fan.ok("PUT", f"/subscriptions/{made['id']}", json={"tierId": basic["tierId"]}, key="down")
    later = await fan.ok("GET", f"/subscriptions/{made['id']}")
    assert (later["tierName"], later["nextTierId"]) == ("Platinum", basic["tierId"])
    await fan.ok("PUT", f"/subscriptions/{made['id']}", json={"tierId": silver["tierId"]}, key="up")
    assert await fan.ok("GET", f"/subscriptions/{made['id']}") == later, "a late retry undid a newer wish"
    assert await may_open(world, fan, creator, rank=5) == "open"

    for _ in range(2):
        await fan.ok("DELETE", f"/subscriptions/{made['id']}", key="stop")
    assert (await fan.ok("GET", f"/subscriptions/{made['id']}"))["cancelAtPeriodEnd"] is True
    assert await may_open(world, fan, creator) == "open"
    await fan.ok("POST", f"/subscriptions/{made['id']}/resume", key="on")
    assert (await fan.ok("GET", f"/subscriptions/{made['id']}"))["cancelAtPeriodEnd"] is False
    assert len([found for found in await sandbox.objects("subscription") if found["metadata"]["subscriberId"] == fan.user_id]) == 1
    events = [event.payload.TYPE for event in await asyncio.to_thread(records_of, servers, "subscription.created", fan.user_id)]
    requests = [name for name in events if name != "subscription_observed"]
    assert requests == [
        "subscription_requested", "subscription_change_requested", "subscription_change_requested", "subscription_cancelled",
        "subscription_resumed",
    ]


async def test_a_month_becomes_a_year_at_once_and_a_year_no_month(shop_world: World, sandbox: SandboxDriver) -> None:
    world = shop_world
    creator = await creator_of(world)
    gold = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    monthly = await creator.ok(
        "POST", "/subscriptions/tiers", json={name: value for name, value in TIER.items() if name != "priceYearly"} | {"rank": 2, "name": "M"}
    )
    basic = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"rank": 1, "name": "Basic"})
    top = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"rank": 3, "name": "Top", "priceYearly": "199.90"})
    fan, card = await payer_of(world, sandbox)
    body = {"tierId": gold["tierId"], "interval": "month", "paymentMethodId": card}
    path = f"/subscriptions/{(await fan.ok('POST', '/subscriptions', json=body, key='s'))['id']}"

    async def shown() -> tuple[str, str, str, int]:
        own = await fan.ok("GET", path)
        days = datetime.fromisoformat(own["currentPeriodEnd"]) - datetime.fromisoformat(own["currentPeriodStart"])
        return own["tierName"], own["interval"], own["amount"], days.days

    assert (await shown())[:3] == ("Gold", "month", "9.99")
    assert code(await fan.ask("PUT", path, json={"tierId": gold["tierId"], "interval": "month"}, key="a")) == (409, "same_tier")
    none = {"tierId": monthly["tierId"], "interval": "year"}
    assert code(await fan.ask("PUT", path, json=none, key="b")) == (422, "not_offered")
    assert code(await fan.ask("PUT", path, json={"tierId": gold["tierId"], "interval": "week"}, key="c")) == (422, "invalid")
    year = {"tierId": gold["tierId"], "interval": "year"}
    for _ in range(2):
        await fan.ok("PUT", path, json=year, key="year")
    assert (await shown())[:3] == ("Gold", "year", "99.90")
    assert (await shown())[3] in (365, 366)
    assert await may_open(world, fan, creator) == "open"
    paid = await billed(sandbox, fan)
    assert len(paid) == 2
    assert sum(paid) in (9_990, 9_991), "what was left of the month counts"
    assert code(await fan.ask("PUT", path, json=year | {"interval": "month"}, key="year")) == (409, "idempotency_conflict")
    for back in (gold, basic, top):
        answer = await fan.ask("PUT", path, json={"tierId": back["tierId"], "interval": "month"}, key=new_id())
        assert code(answer) == (422, "not_offered")
    assert await billed(sandbox, fan) == paid
    await fan.ok("PUT", path, json={"tierId": top["tierId"]}, key="top")
    assert (await shown())[:3] == ("Top", "year", "199.90")
    await fan.ok("PUT", path, json=year, key="year")
    assert (await shown())[:3] == ("Top", "year", "199.90"), "a late retry undoes no newer wish"


async def test_a_declined_card_buys_nothing_and_another_one_may_follow_at_once(shop_world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    promo = await creator.ok("POST", "/subscriptions/promo-codes", json={"code": "once", "percent": 50, "maxRedemptions": 1})
    fan, bad = await payer_of(shop_world, sandbox, "pm_card_chargeCustomerFail")
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": bad, "promoCode": "ONCE"}
    for _ in range(2):
        assert code(await fan.ask("POST", "/subscriptions", json=body, key="a")) == (402, "payment_declined")
    assert await may_open(shop_world, fan, creator) == "subscribe"
    (own,) = (await fan.ok("GET", "/subscriptions"))["subscriptions"]
    assert own["status"] == "expired"
    (known,) = (await creator.ok("GET", "/subscriptions/promo-codes"))["promoCodes"]
    assert (known["redemptions"], known["promoId"]) == (0, promo["promoId"])
    assert (await creator.ok("GET", PEOPLE))["subscribers"] == []
    good, card = await payer_of(shop_world, sandbox)
    made = await good.ok("POST", "/subscriptions", json=body | {"paymentMethodId": card}, key="a")
    assert made["status"] == "active"
    assert await billed(sandbox, good) == [500]
    late, other = await payer_of(shop_world, sandbox, "pm_card_mastercard")
    for key in ("a", "a", "b"):
        answer = await late.ask("POST", "/subscriptions", json=body | {"paymentMethodId": other}, key=key)
        assert code(answer) == (409, "promo_code_exhausted")


async def test_a_trial_is_one_an_instrument_and_creator(shop_world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"trialDays": 7})
    first, card = await payer_of(shop_world, sandbox)
    body = {"tierId": tier["tierId"], "interval": "month", "trial": True}
    made = await first.ok("POST", "/subscriptions", json=body | {"paymentMethodId": card}, key="t")
    assert made["status"] == "trialing"
    assert await may_open(shop_world, first, creator, rank=1) == "open"
    second, same = await payer_of(shop_world, sandbox)
    assert code(await second.ask("POST", "/subscriptions", json=body | {"paymentMethodId": same}, key="t")) == (409, "trial_used")
    paid = await second.ok("POST", "/subscriptions", json=body | {"paymentMethodId": same, "trial": False}, key="p")
    assert paid["status"] == "active"


async def test_strong_authentication_is_the_payers_and_access_waits_for_it(shop_world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(shop_world, sandbox, "pm_card_authenticationRequired")
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
    made = await fan.ok("POST", "/subscriptions", json=body, key="s")
    assert made["status"] == "incomplete"
    assert made["clientSecret"]
    assert await may_open(shop_world, fan, creator) == "subscribe"
    assert (await fan.ok("POST", "/subscriptions", json=body, key="s"))["clientSecret"] == made["clientSecret"]
    await sandbox.authenticate(made["clientSecret"])
    (found,) = [item for item in await sandbox.objects("subscription") if item["metadata"].get("subscriberId") == fan.user_id]
    for name in (found["id"], found["latest_invoice"]):
        await reported(shop_world, fan, name)
    assert (await fan.ok("POST", "/subscriptions", json=body, key="s"))["status"] == "active"


async def test_who_asks_again_after_strong_authentication_is_let_in_before_any_webhook(shop_world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(shop_world, sandbox, "pm_card_authenticationRequired")
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
    made = await fan.ok("POST", "/subscriptions", json=body, key="s")
    assert made["status"] == "incomplete"
    await sandbox.authenticate(made["clientSecret"])
    assert (await fan.ok("POST", "/subscriptions", json=body, key="s"))["status"] == "active"
    assert await may_open(shop_world, fan, creator) == "open"


async def test_what_is_not_offered_or_not_ones_own_is_refused(shop_world: World, sandbox: SandboxDriver) -> None:
    world = shop_world
    creator, fan_card = await creator_of(world), await payer_of(world, sandbox)
    fan, card = fan_card
    tier = await creator.ok("POST", "/subscriptions/tiers", json={k: v for k, v in TIER.items() if k != "priceYearly"})
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
    _, foreign = await payer_of(world, sandbox)
    refused: list[tuple[dict[str, Any], tuple[int, str]]] = [
        ({"tierId": new_id()}, (404, "not_found")),
        ({"interval": "year"}, (422, "not_offered")),
        ({"trial": True}, (422, "not_offered")),
        ({"bundleMonths": 3}, (422, "not_offered")),
        ({"promoCode": "NONE"}, (422, "promo_code_invalid")),
        ({"paymentMethodId": foreign}, (422, "payment_method_invalid")),
        ({"paymentMethodId": "pm_unknown"}, (422, "payment_method_invalid")),
        ({"paymentMethodId": "../x"}, (422, "invalid")),
        ({"interval": "week"}, (422, "invalid")),
        ({"price": "0.01"}, (422, "invalid")),
        ({"bundleMonths": 3, "promoCode": "NONE"}, (422, "invalid")),
    ]
    for changed, expected in refused:
        assert code(await fan.ask("POST", "/subscriptions", json=body | changed, key="k")) == expected, changed
    assert code(await fan.ask("POST", "/subscriptions", json=body)) == (422, "invalid")
    assert code(await creator.ask("POST", "/subscriptions", json=body, key="k")) == (422, "self_target")
    unpaid = await creator_of(world, paid=False)
    other = await unpaid.ok("POST", "/subscriptions/tiers", json=TIER)
    assert code(await fan.ask("POST", "/subscriptions", json=body | {"tierId": other["tierId"]}, key="k")) == (409, "creator_not_payable")
    await fan.ok("POST", f"/users/{creator.user_id}/block")
    assert code(await fan.ask("POST", "/subscriptions", json=body, key="k")) == (404, "not_found")
    assert code(await fan.ask("GET", "/subscriptions/tiers", params={"creatorId": creator.user_id})) == (404, "not_found")
    assert (await fan.ok("GET", "/subscriptions"))["subscriptions"] == []
    for path in ("/subscriptions", PEOPLE):
        assert code(await fan.ask("GET", path, params={"cursor": "AAAA"})) == (422, "cursor_invalid")
        assert code(await fan.ask("GET", path, params={"limit": 101})) == (422, "invalid")
    change = {"tierId": tier["tierId"]}
    assert code(await fan.ask("PUT", f"/subscriptions/{new_id()}", json=change)) == (422, "invalid")
    for method, path, extra in (
        ("PUT", f"/subscriptions/{new_id()}", {"json": change, "key": "x"}), ("GET", f"/subscriptions/{new_id()}", {}), ("DELETE", f"/subscriptions/{new_id()}", {"key": "x"}),
        ("POST", f"/subscriptions/{new_id()}/resume", {"key": "x"}), ("DELETE", "/payments/methods/pm_none", {}),
    ):
        assert code(await fan.ask(method, path, **extra)) == (404, "not_found"), path


async def test_tiers_and_codes_of_wrong_shape_change_nothing(shop_world: World) -> None:
    world = shop_world
    creator = await creator_of(world, paid=False)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"priceMonthly": "-1"}, "invalid"), ({"priceMonthly": "0"}, "amount_invalid"), ({"priceMonthly": "0.5"}, "amount_invalid"),
        ({"priceMonthly": "1.999"}, "invalid"), ({"priceMonthly": 9.99}, "invalid"), ({"priceMonthly": "1e3"}, "invalid"),
        ({"priceMonthly": "10000.01"}, "amount_invalid"), ({"currency": "XYZ"}, "invalid"), ({"currency": "usd"}, "invalid"),
        ({"currency": "JPY", "priceMonthly": "100.5"}, "amount_invalid"), ({"name": " "}, "invalid"), ({"name": "x" * 51}, "invalid"),
        ({"rank": 0}, "invalid"), ({"trialDays": 31}, "invalid"), ({"benefits": ["x"] * 21}, "invalid"),
        ({"bundles": [{"months": 3, "percent": 91}]}, "invalid"),
        ({"bundles": [{"months": 3, "percent": 5}, {"months": 3, "percent": 6}]}, "invalid"),
    ]
    for changed, expected in wrong:
        answer = await creator.ask("POST", "/subscriptions/tiers", json=TIER | changed)
        assert code(answer) == (422, expected), changed
    assert (await creator.ok("GET", "/subscriptions/tiers", params={"creatorId": creator.user_id}))["tiers"] == []
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER, key="one")
    assert code(await creator.ask("POST", "/subscriptions/tiers", json=TIER | {"rank": 2}, key="one")) == (409, "idempotency_conflict")
    assert code(await creator.ask("POST", "/subscriptions/tiers", json=TIER | {"currency": "EUR"})) == (409, "currency_fixed")
    path = f"/subscriptions/tiers/{tier['tierId']}"
    answer = await creator.ask("PUT", path, json={"rank": 2, "name": "Other"})
    assert (code(answer), answer.json()["rank"]) == ((409, "rank_fixed"), 1)
    assert [known["name"] for known in (await creator.ok("GET", "/subscriptions/tiers", params={"creatorId": creator.user_id}))["tiers"]] == ["Gold"]
    assert (await creator.ok("PUT", path, json={"rank": 1, "description": "As it was"}))["rank"] == 1
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    for changed in ({"percent": 91}, {"percent": 0}, {"code": "a"}, {"code": "with space"}, {"expiresAt": past}, {"maxRedemptions": 0}):
        answer = await creator.ask("POST", "/subscriptions/promo-codes", json={"code": "ABC", "percent": 10} | changed)
        assert code(answer) == (422, "invalid"), changed
    assert code(await creator.ask(
        "POST", "/subscriptions/promo-codes", json={"code": "ABC", "percent": 10, "tierIds": [new_id()]}
    )) == (404, "not_found")
    promo = await creator.ok("POST", "/subscriptions/promo-codes", json={"code": "abc", "percent": 10, "tierIds": [tier["tierId"]]})
    assert code(await creator.ask("POST", "/subscriptions/promo-codes", json={"code": "ABC", "percent": 20})) == (409, "promo_code_taken")
    assert (await creator.ok("PUT", f"/subscriptions/promo-codes/{promo['promoId']}", json={"isActive": False}))["isActive"] is False
    stranger, payer = await creator_of(world, paid=False), await world.register("sugar_daddy")
    for who, expected in ((stranger, (404, "not_found")), (payer, (403, "forbidden"))):
        assert code(await who.ask("PUT", f"/subscriptions/tiers/{tier['tierId']}", json={"rank": 2})) == expected
    unassured = await world.register("sugar_baby")
    assert code(await unassured.ask("POST", "/subscriptions/tiers", json=TIER)) == (403, "age_unverified")
    assert code(await unassured.ask("POST", "/payments/connect/onboarding", json=RETURN)) == (403, "age_unverified")
    for url in ("ftp://x/", "javascript:alert(1)", "http://evil.example/"):
        assert code(await creator.ask("POST", "/payments/connect/onboarding", json=RETURN | {"returnUrl": url})) == (422, "invalid")
