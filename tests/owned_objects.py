"""Somebody with one of everything that the API gives an id to: for calls on one's own objects and on somebody else's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from api_world import Person
from content_world import ContentWorld
from local_http import local_client
from media_world import picture, put, upload_body
from payments_world import RETURN, TIER, SandboxDriver, in_rows, payer_of
from soft_authenticator import Authenticator

from configs.contracts.ids import new_id
from writers.connections import open_rows


@dataclass(frozen=True)
class Side:
    """A creator and a fan who have matched; the fan subscribes, tips and comments. ``ids``: by what they name."""

    creator: Person
    fan: Person
    ids: dict[str, str]


async def side(world: ContentWorld, sandbox: SandboxDriver, number: int) -> Side:
    """Objects are made in the way in which an app makes them; only age assurance and the media's processing are stated."""
    creator = await world.creator()
    fan, method = await payer_of(world, sandbox)
    await world.adult(fan)
    ids = {"creator": creator.user_id, "fan": fan.user_id, "method": method}
    await _talk(creator, fan, ids)
    await _publish(world, creator, fan, ids, number)
    await _sell(world, sandbox, creator, fan, ids)
    await _sign_in(world, creator, ids)
    return Side(creator, fan, ids)


async def _talk(creator: Person, fan: Person, ids: dict[str, str]) -> None:
    await creator.swipe(fan)
    ids["match"] = ids["conversation"] = (await fan.swipe(creator))["matchId"]
    sent = await fan.ok("POST", "/messaging/send", json={
        "conversationId": ids["conversation"], "content": "hello", "clientMessageId": new_id(),
    })
    ids["message"] = sent["messageId"]


async def _publish(world: ContentWorld, creator: Person, fan: Person, ids: dict[str, str], number: int) -> None:
    ids["media"] = await world.media(creator, new_id())
    content = picture(number)
    granted = await creator.ok("POST", "/media/uploads", json=upload_body(content))
    async with local_client(timeout=60) as store:
        await put(store, granted, content)
    ids["upload"] = granted["mediaId"]
    price = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}
    ids["post"] = (await world.post(creator))["postId"]
    ids["draft"] = (await world.post(creator, state="draft"))["postId"]
    ids["ppv"], ids["ppv too"] = [(await world.post(creator, access=price))["postId"] for _ in range(2)]
    ids["direct"] = (await world.post(creator, access=price, recipientId=fan.user_id))["postId"]
    ids["comment"] = (await fan.ok("POST", f"/content/posts/{ids['post']}/comments", json={"text": "first"}))["commentId"]


async def _sell(world: ContentWorld, sandbox: SandboxDriver, creator: Person, fan: Person, ids: dict[str, str]) -> None:
    link = await creator.ok("POST", "/payments/connect/onboarding", json=RETURN)
    async with local_client(timeout=60) as client:
        assert (await client.post(link["url"])).status_code == 303
    ids["tier"] = (await creator.ok("POST", "/subscriptions/tiers", json=TIER))["tierId"]
    ids["tier above"] = (await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"rank": 2, "name": "More", "priceMonthly": "20"}))["tierId"]
    ids["promo"] = (await creator.ok("POST", "/subscriptions/promo-codes", json={"code": "SPRING", "percent": 10}))["promoId"]
    made = await fan.ok("POST", "/subscriptions", json={
        "tierId": ids["tier"], "interval": "month", "paymentMethodId": ids["method"],
    }, key=new_id())
    assert made["status"] == "active"
    ids["subscription"] = made["id"]
    ids["payment"] = (await fan.ok("POST", "/payments/tips", json={
        "toUserId": creator.user_id, "amount": "40.00", "currency": "USD", "paymentMethodId": ids["method"],
    }, key=new_id()))["id"]
    await asyncio.to_thread(in_rows, world.settings, "SELECT 1 FROM tips WHERE id = %s AND status = 'completed'", ids["payment"])
    await sandbox.advance(3)
    with open_rows(world.settings, "test") as conn:
        conn.execute("UPDATE ledger_entries SET available_at = now() WHERE party_id = %s", (creator.user_id,))
    ids["payout"] = (await creator.ok("POST", "/payments/payouts", json={"amount": "20.00", "currency": "USD"}, key=new_id()))["id"]


async def _sign_in(world: ContentWorld, creator: Person, ids: dict[str, str]) -> None:
    ceremony = await creator.ok("POST", "/auth/passkeys/options")
    await creator.ok("POST", "/auth/passkeys", json={
        "challenge": ceremony["challenge"], "credential": Authenticator().create(ceremony["options"]), "name": "phone",
    })
    (passkey,) = (await creator.ok("GET", "/auth/passkeys"))["passkeys"]
    ids["passkey"] = passkey["passkeyId"]
    before = await _sessions(creator)
    answer = await world.client.post("/api/v1/auth/login", json={"email": creator.email, "password": creator.password})
    assert answer.status_code == 200, answer.text
    (ids["session"],) = await world.until(lambda: _sessions_beside(creator, before))
    ids["device"] = (await creator.ok("POST", "/notifications/devices", json={"platform": "fcm", "token": f"token-{new_id()}"}))["deviceId"]
    token = world.dependencies.tokens.issue_service("test", 600)
    told = await world.client.post(
        "/api/v1/notifications/send", json={"userId": creator.user_id, "type": "system", "title": "Hello"},
        headers={"Authorization": f"Bearer {token}"},
    )
    ids["notification"] = told.json()["notificationId"]


async def _sessions_beside(person: Person, known: set[str]) -> set[str]:
    return await _sessions(person) - known


async def _sessions(person: Person) -> set[str]:
    found: dict[str, Any] = await person.ok("GET", "/auth/sessions")
    return {item["sessionId"] for item in found["sessions"]}
