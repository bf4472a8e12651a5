"""Subscriptions that were blocked, cut short or left unfinished, with the sandbox as payment processor: how they are settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from api_world import Person, World
from payments_world import (
    TIER,
    SandboxDriver,
    billed,
    code,
    consumed,
    creator_of,
    in_rows,
    may_open,
    payer_of,
    reported,
)

from actors.subscriptions.commands import Subscribe, SubscriptionStands
from actors.tiers.commands import Redeem, Redeemed
from cluster.connections.redis import apply_async
from configs.contracts.events import Event, Payload, SubscriptionCancelled, SubscriptionObserved
from configs.contracts.events.subscriptions import Terms
from configs.contracts.ids import derived_id, new_id
from configs.contracts.payments import Subscribe as ProviderSubscribe
from configs.contracts.selling import put_shop
from configs.contracts.tiers import Shop
from configs.contracts.topics import SUBSCRIPTION_CREATED
from serve_apps.fields import body_digest
from serve_apps.subscriptions.checkout import price_of
from serve_apps.subscriptions.models import SubscribeBody
from writers.connections import open_rows
from writers.consumers.derive import Keys, follows, known_of
from writers.loads import tiers
from writers.loads.subscriptions import read_subscription
from writers.records import Fact
from writers.settling import SubscriptionSettling

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def settled(shop_world: World) -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Settles what is due, as a writer does, once the rows hold what was appended; ``later``: at a time to come."""
    settings = shop_world.settings

    async def settle(statement: str, *values: object, later: timedelta = timedelta(0)) -> int:
        def wait() -> int:
            in_rows(settings, statement, *values)
            settling = SubscriptionSettling(settings, "test", clock=lambda: datetime.now(UTC) + later)
            try:
                return settling.look()
            finally:
                settling.close()

        return await asyncio.to_thread(wait)

    with consumed(settings, derived_from=("user.updated", "subscription.created")):
        yield settle


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_a_block_stops_renewal_at_the_provider(
    shop_world: World, sandbox: SandboxDriver, settled: Callable[..., Awaitable[int]]
) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(shop_world, sandbox)
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
    made = await fan.ok("POST", "/subscriptions", json=body, key="b")
    await creator.ok("POST", f"/users/{fan.user_id}/block")
    wanted = "SELECT 1 FROM subscriptions WHERE id = %s AND unsettled AND cancel_at_period_end"
    assert await settled(wanted, made["id"]) >= 1
    (found,) = [item for item in await sandbox.objects("subscription") if item["metadata"]["requestId"] == made["id"]]
    assert (found["status"], found["cancel_at_period_end"]) == ("active", True)

    async def refused() -> bool:
        """Once the shard knows of the block: it is not the subscriber's to take back."""
        answer = await fan.ask("POST", f"/subscriptions/{made['id']}/resume", key=new_id())
        return code(answer) == (409, "subscription_not_active")

    await until(refused)
    await settled("SELECT 1 FROM subscriptions WHERE id = %s AND NOT unsettled", made["id"])


async def test_a_subscription_whose_rows_come_after_the_block_is_stopped_too(shop_world: World, sandbox: SandboxDriver) -> None:
    settings = shop_world.settings
    creator, other = await creator_of(shop_world), await creator_of(shop_world)
    fan, card = await payer_of(shop_world, sandbox)
    made = {}
    for seller in (creator, other):
        tier = await seller.ok("POST", "/subscriptions/tiers", json=TIER)
        body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
        made[seller.user_id] = (await fan.ok("POST", "/subscriptions", json=body, key=f"s{seller.user_id}"))["id"]
    await fan.ok("POST", f"/users/{creator.user_id}/block")

    def derived(seller: Person) -> list[Payload]:
        """What follows from a report about a subscription, once block and subscription are in the rows."""
        with open_rows(settings, "test") as conn:
            (state,) = in_rows(settings, "SELECT state::text FROM subscriptions WHERE id = %s AND status = 'active'", made[seller.user_id])
            in_rows(settings, "SELECT 1 FROM blocks WHERE user_id = %s AND blocked_id = %s", fan.user_id, creator.user_id)
            seen = read_subscription(state).observed
            assert seen is not None
            event = Event(new_id(), datetime.now(UTC), fan.user_id, SubscriptionObserved(owner_id=fan.user_id, fact=seen))
            known = known_of(conn, [Fact(event, 1, 0)])
            return [found.payload for topic, found in follows(event, 1, known, Keys.of(settings)) if topic is SUBSCRIPTION_CREATED]

    with consumed(settings):
        (cancelled,) = await asyncio.to_thread(derived, creator)
        assert isinstance(cancelled, SubscriptionCancelled)
        assert (cancelled.subscription_id, cancelled.reason) == (made[creator.user_id], "blocked")
        assert await asyncio.to_thread(derived, other) == []


async def test_a_checkout_that_nobody_finishes_ends_and_gives_back_what_it_took(
    shop_world: World, sandbox: SandboxDriver, settled: Callable[..., Awaitable[int]]
) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    await creator.ok("POST", "/subscriptions/promo-codes", json={"code": "LAST", "percent": 10, "maxRedemptions": 1})
    fan, card = await payer_of(shop_world, sandbox, "pm_card_authenticationRequired")
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card, "promoCode": "LAST"}
    made = await fan.ok("POST", "/subscriptions", json=body, key="c")
    assert made["status"] == "incomplete"
    other, second = await payer_of(shop_world, sandbox)
    late = body | {"paymentMethodId": second}
    assert code(await other.ask("POST", "/subscriptions", json=late, key="d")) == (409, "promo_code_exhausted")
    rows = "SELECT 1 FROM promo_redemptions WHERE subscription_id = %s"
    before = "SELECT 1 FROM subscriptions WHERE id = %s AND provider_subscription_id IS NOT NULL"
    await settled(rows, made["id"])
    await settled(before, made["id"], later=timedelta(minutes=34))
    (found,) = [item for item in await sandbox.objects("subscription") if item["metadata"]["requestId"] == made["id"]]
    assert found["status"] == "incomplete", "a payment that began in time may still be on its way"
    assert await settled(before, made["id"], later=timedelta(minutes=36)) >= 1
    (found,) = [item for item in await sandbox.objects("subscription") if item["metadata"]["requestId"] == made["id"]]
    assert found["status"] in ("canceled", "incomplete_expired")

    async def free() -> bool:
        """Once the creator's shard knows it, too."""
        answer = await other.ask("POST", "/subscriptions", json=late, key=new_id())
        return answer.status_code == 201

    await settled("SELECT 1 FROM promo_redemptions WHERE subscription_id = %s AND released", made["id"])
    shop = tiers_of(shop_world, creator)
    await apply_async(shop_world.dependencies.redis, list(put_shop(await asyncio.to_thread(shop))))
    await until(free)


async def test_a_declined_checkout_that_was_cut_short_gives_back_what_it_took(
    shop_world: World, sandbox: SandboxDriver, settled: Callable[..., Awaitable[int]]
) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    promo = await creator.ok("POST", "/subscriptions/promo-codes", json={"code": "CUT", "percent": 10, "maxRedemptions": 1})
    fan, card = await payer_of(shop_world, sandbox, "pm_card_chargeCustomerFail")
    (account,) = [item["id"] for item in await sandbox.objects("account") if item["metadata"]["creatorId"] == creator.user_id]
    (customer,) = {item["customer"] for item in await sandbox.objects("payment_method") if item["id"] == card}
    name, gold = new_id(), Terms(
        tier_id=tier["tierId"], rank=1, tier_name="Gold", revision=1, interval="month", amount_minor=999, currency="USD",
        percent_off=10, promo_id=promo["promoId"],
    )
    dependencies = shop_world.dependencies
    assert isinstance(await dependencies.subscriptions.subscribe(Subscribe(
        subscriber_id=fan.user_id, request_id=name, creator_id=creator.user_id, body_digest="", account_id=account,
        payment_method_id=card, checkout_s=1_800, terms=gold,
    )), SubscriptionStands)
    assert isinstance(await dependencies.tiers.redeem(Redeem(
        creator_id=creator.user_id, subscription_id=name, subscriber_id=fan.user_id, tier_id=tier["tierId"], promo_id=promo["promoId"],
    )), Redeemed)
    provider = await dependencies.providers.present()
    started = await provider.subscribe(ProviderSubscribe(
        request_id=name, subscriber_id=fan.user_id, creator_id=creator.user_id, customer_id=customer, payment_method_id=card,
        account_id=account, price=price_of(gold), fee_percent=20,
    ))
    assert started.status == "failed"
    await provider.end_now(new_id(), started.object_id)
    await reported(shop_world, fan, started.object_id)
    over = "SELECT 1 FROM subscriptions JOIN promo_redemptions ON subscription_id = id WHERE id = %s AND status = 'expired' AND NOT released"
    await settled(over, name)
    await settled(over, name, later=timedelta(minutes=6))
    await settled("SELECT 1 FROM promo_redemptions WHERE subscription_id = %s AND released", name)
    await settled("SELECT 1 FROM subscriptions WHERE id = %s AND NOT unsettled", name)
    shop = await asyncio.to_thread(tiers_of(shop_world, creator))
    assert [(known.redeemed, known.freed) for known in shop.promo_codes] == [(0, (name,))]


async def test_a_checkout_calls_nobody_in_its_last_minute_and_no_other_begins_before_it_is_ended(
    shop_world: World, sandbox: SandboxDriver
) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(shop_world, sandbox)
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
    (account,) = [item["id"] for item in await sandbox.objects("account") if item["metadata"]["creatorId"] == creator.user_id]
    begun = await shop_world.dependencies.subscriptions.subscribe(Subscribe(
        subscriber_id=fan.user_id, request_id=derived_id(fan.user_id, "subscribe late"), creator_id=creator.user_id,
        body_digest=body_digest(shop_world.dependencies.seals.key, SubscribeBody.model_validate(body)), account_id=account,
        payment_method_id=card, checkout_s=50, terms=Terms(
            tier_id=tier["tierId"], rank=1, tier_name="Gold", revision=1, interval="month", amount_minor=999, currency="USD",
        ),
    ))
    assert isinstance(begun, SubscriptionStands)
    again = await fan.ok("POST", "/subscriptions", json=body, key="late")
    assert (again["id"], again["status"] in ("incomplete", "expired")) == (begun.subscription.subscription_id, True)
    mine = [item for item in await sandbox.objects("subscription") if item["metadata"]["subscriberId"] == fan.user_id]
    assert mine == []
    assert code(await fan.ask("POST", "/subscriptions", json=body, key="other")) == (409, "already_subscribed")


async def test_a_call_that_nobody_waited_for_any_more_leaves_one_subscription_that_is_paid(
    shop_world: World, sandbox: SandboxDriver, settled: Callable[..., Awaitable[int]]
) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(shop_world, sandbox)
    (account,) = [item["id"] for item in await sandbox.objects("account") if item["metadata"]["creatorId"] == creator.user_id]
    (customer,) = {item["customer"] for item in await sandbox.objects("payment_method") if item["id"] == card}
    slow, gold = new_id(), Terms(
        tier_id=tier["tierId"], rank=1, tier_name="Gold", revision=1, interval="month", amount_minor=999, currency="USD",
    )
    begun = await shop_world.dependencies.subscriptions.subscribe(Subscribe(
        subscriber_id=fan.user_id, request_id=slow, creator_id=creator.user_id, body_digest="", account_id=account,
        payment_method_id=card, checkout_s=-3_600, terms=gold,
    ))
    assert isinstance(begun, SubscriptionStands)
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
    made = await fan.ok("POST", "/subscriptions", json=body, key="another")
    assert made["status"] == "active"
    provider = await shop_world.dependencies.providers.present()
    started = await provider.subscribe(ProviderSubscribe(
        request_id=slow, subscriber_id=fan.user_id, creator_id=creator.user_id, customer_id=customer, payment_method_id=card,
        account_id=account, price=price_of(gold), fee_percent=20,
    ))
    await reported(shop_world, fan, started.object_id)
    assert await billed(sandbox, fan) == [999, 999]
    asked = "SELECT 1 FROM subscriptions WHERE id = %s AND unsettled AND jsonb_array_length(state -> 'refunds') = 1"
    for _ in range(2):
        await settled(asked, made["id"], later=timedelta(minutes=1))
        asked = "SELECT 1 FROM subscriptions WHERE id = %s AND NOT unsettled AND state #>> '{refunds,0,made}' = 'true'"
    found = {item["metadata"]["requestId"]: item for item in await sandbox.objects("subscription") if item["customer"] == customer}
    assert {name: item["cancel_at_period_end"] for name, item in found.items()} == {slow: False, made["id"]: True}
    charges = {item["id"] for item in await sandbox.objects("charge") if item["customer"] == customer}
    assert [item["amount"] for item in await sandbox.objects("refund") if item["charge"] in charges] == [999]
    assert await may_open(shop_world, fan, creator) == "open"


async def test_a_checkout_that_was_paid_before_any_webhook_told_is_not_ended(
    shop_world: World, sandbox: SandboxDriver, settled: Callable[..., Awaitable[int]]
) -> None:
    creator = await creator_of(shop_world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    fan, card = await payer_of(shop_world, sandbox, "pm_card_authenticationRequired")
    body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
    made = await fan.ok("POST", "/subscriptions", json=body, key="p")
    await sandbox.authenticate(made["clientSecret"])
    open_one = "SELECT 1 FROM subscriptions WHERE id = %s AND status = 'incomplete' AND provider_subscription_id IS NOT NULL"
    assert await settled(open_one, made["id"], later=timedelta(minutes=36)) >= 1
    (found,) = [item for item in await sandbox.objects("subscription") if item["metadata"]["requestId"] == made["id"]]
    assert found["status"] == "active"
    await settled("SELECT 1 FROM subscriptions WHERE id = %s AND status = 'active' AND NOT unsettled", made["id"])


def tiers_of(world: World, creator: Person) -> Callable[[], Shop]:
    """The shop as a projection reads it."""
    def read() -> Shop:
        with open_rows(world.settings, "test") as conn:
            return tiers.shops(conn, [creator.user_id])[creator.user_id]

    return read
