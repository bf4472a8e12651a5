"""What is paid opens through the API although every webhook is lost: the processor's own list tells it within two minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from api_world import World
from payments_world import TIER, SandboxDriver, assured, consumed, creator_of, may_open, payer_of, paying

from configs.settings import Payments, Settings
from writers.payment_polling import PaymentPolling

pytestmark = pytest.mark.servers

MOST = timedelta(minutes=2)


async def test_with_every_webhook_dropped_access_comes_within_two_virtual_minutes(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> None:
    world = await make_world(payments=paying(servers, sandbox))
    await sandbox.command("webhooks", drop=True)
    creator = await creator_of(world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    post_id = (await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "what is sold", "state": "published",
        "access": {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}},
    }))["postId"]
    fan, card = await payer_of(world, sandbox, "pm_card_authenticationRequired")
    await assured(world, fan)
    now = datetime.now(UTC)
    polling = PaymentPolling(world.settings, "test", clock=lambda: now)

    async def of_the_post() -> str:
        return str((await fan.ok("GET", f"/content/posts/{post_id}"))["access"])

    with consumed(world.settings, reported=True):
        # It has run for a while, so that the next look is an ordinary one; what came before is known.
        async with asyncio.timeout(60):
            while await asyncio.to_thread(polling.look):
                await asyncio.sleep(0.1)
        subscribed = await fan.ok("POST", "/subscriptions", key="s", json={
            "tierId": tier["tierId"], "interval": "month", "paymentMethodId": card,
        })
        bought = await fan.ok("POST", f"/payments/posts/{post_id}/purchase", json={"paymentMethodId": card}, key="b")
        assert (subscribed["status"], bought["status"]) == ("incomplete", "pending")
        for begun in (subscribed, bought):
            await sandbox.authenticate(begun["clientSecret"])
        paid_at = now
        assert (await may_open(world, fan, creator), await of_the_post()) == ("subscribe", "purchase")
        found = 0
        for _ in range(2):
            now += timedelta(seconds=world.settings.payments.poll_s)
            found = await asyncio.to_thread(polling.look)
        assert found > 0, "what is still missing at the second look is lost, and is taken from the list"
        async with asyncio.timeout(60):
            while (await may_open(world, fan, creator, rank=1), await of_the_post()) != ("open", "open"):
                await asyncio.sleep(0.05)
            # Both may be read; what the shards answer of the requests follows the log by themselves.
            while (await fan.ok("GET", f"/subscriptions/{subscribed['id']}"))["status"] != "active":
                await asyncio.sleep(0.05)
            while (await fan.ok("GET", f"/payments/requests/{bought['id']}"))["status"] != "completed":
                await asyncio.sleep(0.05)
        assert now - paid_at <= MOST
    await asyncio.to_thread(polling.close)
    assert timedelta(seconds=2 * Payments().poll_s) <= MOST, "as it is set without further ado"
