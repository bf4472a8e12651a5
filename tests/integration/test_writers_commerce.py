"""Creators are told of subscribers, tips and purchases, subscribers of new posts: once, not who blocks, not who does not want it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person, World
from payments_world import TIER, SandboxDriver, assured, consumed, creator_of, payer_of, paying

from configs.settings import Settings
from writers.connections import open_rows

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def world(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> AsyncIterator[World]:
    made = await make_world(payments=paying(servers, sandbox))
    with consumed(made.settings, derived_from=("content.published", "payment.completed", "subscription.created")):
        yield made


async def told(world: World, person: Person, *kinds: str) -> list[tuple[str, dict[str, str]]]:
    """(kind, data) of what a person was told, once it holds these kinds."""
    def read() -> list[tuple[str, dict[str, str]]]:
        with open_rows(world.settings, "test") as conn:
            return conn.execute("SELECT kind, data FROM notifications WHERE user_id = %s ORDER BY kind", (person.user_id,)).fetchall()

    async with asyncio.timeout(120):
        found = await asyncio.to_thread(read)
        while [kind for kind, _ in found] != sorted(kinds):
            await asyncio.sleep(0.05)
            found = await asyncio.to_thread(read)
    return found


async def publish(creator: Person, **fields: Any) -> str:
    body = {
        "contentType": "text", "caption": "what is sold", "state": "published",
        "access": {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}},
    }
    return str((await creator.ok("POST", "/content/posts", json=body | fields))["postId"])


async def test_sales_and_posts_are_told_once_to_those_whom_they_concern(world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(world)
    tier = await creator.ok("POST", "/subscriptions/tiers", json=TIER)
    (fan, card), (blocked, second), (silent, third) = [await payer_of(world, sandbox) for _ in range(3)]
    follower = await world.register("sugar_daddy")
    await follower.ok("POST", f"/content/creators/{creator.user_id}/follow")
    subscriptions = {}
    for person, method in ((fan, card), (blocked, second), (silent, third)):
        made = await person.ok(
            "POST", "/subscriptions", json={"tierId": tier["tierId"], "interval": "month", "paymentMethodId": method}, key="s"
        )
        subscriptions[person.user_id] = made["id"]
    found = await told(world, creator, "subscriber", "subscriber", "subscriber")
    assert {data["userId"]: data["subscriptionId"] for _, data in found} == subscriptions

    await creator.ok("POST", f"/users/{blocked.user_id}/block")
    wishes = {"kinds": {"post": {"push": False, "inApp": False}}}
    shown = await silent.ok("PUT", "/notifications/preferences", json=wishes)
    assert shown["kinds"]["post"] == {"push": False, "inApp": False}
    assert shown["kinds"]["tip"] == {"push": True, "inApp": True}

    def ready() -> bool:
        with open_rows(world.settings, "test") as conn:
            both = "SELECT 1 FROM blocks, users WHERE user_id = %s AND id = %s AND preferences ->> 'pushPost' = 'false'"
            return conn.execute(both, (creator.user_id, silent.user_id)).fetchone() is not None

    async with asyncio.timeout(120):
        while not await asyncio.to_thread(ready):
            await asyncio.sleep(0.05)
    await publish(creator, recipientId=fan.user_id)  # for one person: the message tells it
    post_id = await publish(creator)
    [(_, data)] = await told(world, fan, "post")
    assert data == {"userId": creator.user_id, "postId": post_id}

    await assured(world, fan)
    tip = await fan.ok("POST", "/payments/tips", json={
        "toUserId": creator.user_id, "amount": "3.00", "currency": "USD", "paymentMethodId": card, "message": "for you",
    }, key="tip")
    bought = await fan.ok("POST", f"/payments/posts/{post_id}/purchase", json={"paymentMethodId": card}, key="buy")
    found = await told(world, creator, "purchase", "subscriber", "subscriber", "subscriber", "tip")
    sales = {kind: data for kind, data in found if kind != "subscriber"}
    assert sales == {
        "tip": {"userId": fan.user_id, "paymentId": tip["id"]},
        "purchase": {"userId": fan.user_id, "paymentId": bought["id"], "postId": post_id},
    }
    # Post, tip and purchase came by two topics, one partition after the other: whoever was to be told of the post is by now.
    for person in (blocked, silent, follower):
        await told(world, person)
    listed = (await creator.ok("GET", "/notifications/list"))["notifications"]
    assert "3.00" not in f"{listed}", "no amounts, no texts"
