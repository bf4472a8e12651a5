"""Another tier for a running subscription through the API: whom it charges, and whom it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from api_world import Person, World
from payments_world import PATIENCE_S, TIER, SandboxDriver, billed, code, consumed, creator_of, payer_of, paying

from actors.subscriptions.commands import Change, Find, NotPossible, SubscriptionStands
from cluster.connections.redis import apply_async
from configs.contracts.events.subscriptions import Terms
from configs.contracts.ids import derived_id, new_id
from configs.contracts.read_model import put_record
from configs.settings import Settings
from serve_apps.fields import body_digest

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def world(make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver) -> AsyncIterator[World]:
    yield await make_world(payments=paying(servers, sandbox))


class Shop:
    """A creator with two tiers, and somebody who subscribes to the lower one."""

    def __init__(self, creator: Person, fan: Person, above: str, made: str) -> None:
        self.creator, self.fan, self.above, self.made = creator, fan, above, made
        self.path = f"/subscriptions/{made}"

    @classmethod
    async def of(cls, world: World, sandbox: SandboxDriver) -> Shop:
        creator = await creator_of(world)
        tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
        above = await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"rank": 2, "name": "Platinum", "priceMonthly": "20"})
        fan, card = await payer_of(world, sandbox)
        body = {"tierId": tier["tierId"], "interval": "month", "paymentMethodId": card}
        made = await fan.ok("POST", "/subscriptions", json=body, key="s")
        return cls(creator, fan, above["tierId"], made["id"])

    async def upgraded(self, key: str) -> tuple[int, str]:
        answer = await self.fan.ask("PUT", self.path, json={"tierId": self.above}, key=key)
        return (200, answer.json()["status"]) if answer.is_success else code(answer)


async def test_who_is_blocked_is_charged_for_no_other_tier(world: World, sandbox: SandboxDriver) -> None:
    shop = await Shop.of(world, sandbox)
    await shop.creator.ok("POST", f"/users/{shop.fan.user_id}/block")
    assert await shop.upgraded("up") == (404, "not_found")
    assert await billed(sandbox, shop.fan) == [999]


async def test_a_banned_creator_is_paid_for_no_other_tier(world: World, sandbox: SandboxDriver) -> None:
    shop = await Shop.of(world, sandbox)
    await apply_async(world.dependencies.redis, [put_record(shop.creator.user_id, {"status": "banned"}, 1 << 41)])
    assert await shop.upgraded("up") == (404, "not_found")
    assert await billed(sandbox, shop.fan) == [999]


async def test_a_change_that_was_cut_short_is_not_finished_after_a_block(world: World, sandbox: SandboxDriver) -> None:
    shop = await Shop.of(world, sandbox)
    shard, fan = world.dependencies.subscriptions, shop.fan.user_id
    digest = body_digest(world.dependencies.seals.key, shop.made + shop.above)

    def change(key: str) -> Change:
        return Change(
            subscriber_id=fan, request_id=derived_id(fan, f"change {key}"), body_digest=digest, subscription_id=shop.made,
            terms=Terms(
                tier_id=shop.above, rank=2, tier_name="Platinum", revision=1, interval="month", amount_minor=2_000, currency="USD",
            ),
        )

    assert isinstance(await shard.ask(change("up")), SubscriptionStands)
    with consumed(world.settings, derived_from=("user.updated", "subscription.created")):
        await shop.creator.ok("POST", f"/users/{fan}/block")
        async with asyncio.timeout(PATIENCE_S):
            while not await _parted(world, shop, digest):
                await asyncio.sleep(0.05)
    assert await shop.upgraded("up") == (409, "subscription_not_active")
    await shop.creator.ok("DELETE", f"/users/{fan}/block")
    assert await shop.upgraded(new_id()) == (409, "subscription_not_active"), "unblocking restores nothing"
    assert await shard.ask(change("other")) == NotPossible("subscription_not_active")
    assert await billed(sandbox, shop.fan) == [999]


async def _parted(world: World, shop: Shop, digest: str) -> bool:
    fan = shop.fan.user_id
    found = await world.dependencies.subscriptions.ask(
        Find(subscriber_id=fan, request_id=derived_id(fan, "change up"), body_digest=digest)
    )
    assert isinstance(found, SubscriptionStands)
    return found.subscription.parted
