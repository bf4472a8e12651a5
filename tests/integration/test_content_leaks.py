"""Locked content leaks nothing: no route, frame or push shows its text, its media or what leads to them to who has not paid."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from api_world import Person
from content_world import ContentWorld, content_world
from local_http import local_client
from payments_world import RETURN, TIER
from realtime_world import Device, RunningGateway

from actors.sharding.client import ActorPool
from configs.contracts.ids import new_id
from configs.contracts.realtime import GATEWAYS
from writers.push.outbox import KEY, Entry

pytestmark = pytest.mark.servers

CANARY = "canary5f3a9c"
PPV = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}
HERE = (48.2, 16.37)
BODIES = {"createComment": {"text": "let me see"}, "updatePost": {"caption": "mine now"}}
UNANSWERED = {
    "getPlaylist", "getPayout", "getPayment", "getSubscription", "exportMe", "explainCard", "getModerationCase", "getCaseMedia", "listAudit",
    "listModerationQueue", "getMarkedPicture", "getWebPushKey",
}
"""Reading routes that no reader of the walk gets anything from."""


@dataclass(frozen=True)
class Locked:
    """A post, and what nobody may find who is not entitled to it. ``opens_to``: the reader who is."""

    post_id: str
    media_id: str
    canary: str
    opens_to: str = ""

    def secrets(self, reader: str) -> tuple[str, ...]:
        return () if reader == self.opens_to else (self.canary, self.media_id)


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentWorld]:
    async with content_world(tmp_path_factory.mktemp("content")) as made:
        yield made


async def test_no_route_shows_locked_content_to_who_has_not_paid(world: ContentWorld) -> None:
    creator = await world.creator(at=HERE)
    readers = {
        "stranger": await world.register("sugar_daddy", at=HERE),
        "adult": await world.adult(await world.register("sugar_daddy", at=HERE)),
        "follower": await world.adult(await world.register("sugar_daddy", at=HERE)),
        "another creator": await world.creator(at=HERE),
        "lower tier": await world.adult(await world.register("sugar_daddy", at=HERE)),
        "lapsed": await world.adult(await world.register("sugar_daddy", at=HERE)),
        "blocks": await world.adult(await world.register("sugar_daddy", at=HERE)),
        "blocked": await world.adult(await world.register("sugar_daddy", at=HERE)),
        "past due": await world.adult(await world.register("sugar_daddy", at=HERE)),
        "buyer of another": await world.adult(await world.register("sugar_daddy", at=HERE)),
        "refunded": await world.adult(await world.register("sugar_daddy", at=HERE)),
    }
    banned = await world.adult(await world.register("sugar_daddy", at=HERE))
    for name in ("follower", "blocks", "blocked"):
        await readers[name].ok("POST", f"/content/creators/{creator.user_id}/follow")
    await readers["blocks"].ok("POST", f"/users/{creator.user_id}/block")
    await creator.ok("POST", f"/users/{readers['blocked'].user_id}/block")
    low, high = await _tiers(creator)
    await world.subscribed(readers["lower tier"], creator, low, days_left=20)
    await world.subscribed(readers["lapsed"], creator, high, days_left=-20)
    await world.subscribed(readers["past due"], creator, high, days_left=-3.5, status="past_due")
    await world.subscribed(banned, creator, high, days_left=20)
    async with _listening(world, readers) as devices:
        since = {name: (await reader.ok("GET", "/messaging/sync"))["position"] for name, reader in readers.items()}
        locked, conversation = await _published(world, creator, readers, high)
        await _bought(world, creator, readers, locked)
        await _banned(world, banned, locked[0])
        await _name(world, readers | {"banned": banned}, locked, conversation)
        await _walk(world, creator, readers | {"banned": banned}, locked, conversation)
        await _exported(world, readers["refunded"], "refunded", locked)
        synced = {
            name: str(await reader.ok("GET", "/messaging/sync", params={"since": since[name]})) for name, reader in readers.items()
        }
        assert "for you" in synced["adult"]
        assert not [name for name, text in synced.items() if _found(text, name, locked)]
        await _hear(world, readers, devices, locked, conversation)


async def _published(
    world: ContentWorld, creator: Person, readers: dict[str, Person], tier_id: str
) -> tuple[list[Locked], str]:
    """Posts that are locked in every way, with comments, and the conversation in which the last one is sold."""
    locked: list[Locked] = []

    async def publish(**fields: Any) -> Locked:
        media, canary = await world.media(creator, new_id()), f"{CANARY}{len(locked)}x"
        made = await world.post(creator, contentType="image", mediaIds=[media], caption=f"{canary} words", **fields)
        opens_to = "lower tier" if fields["access"] == {"visibility": "subscribers"} else ""
        locked.append(Locked(made["postId"], media, canary, opens_to))
        return locked[-1]

    for access, state in (
        ({"visibility": "subscribers"}, "published"), (PPV, "published"),
        ({"visibility": "tier_specific", "requiredTierId": tier_id}, "published"), ({"visibility": "public"}, "draft"),
        ({"visibility": "public"}, "scheduled"), (PPV, "unlisted"), ({"visibility": "public"}, "removed"),
    ):
        begin = state if state in ("draft", "scheduled") else "published"
        when = {"scheduledAt": (datetime.now(UTC) + timedelta(days=1)).isoformat()} if state == "scheduled" else {}
        post = await publish(access=access, state=begin, **when)
        if begin == "published":
            comment = {"text": f"{post.canary} says the creator"}
            await creator.ok("POST", f"/content/posts/{post.post_id}/comments", json=comment)
        if state in ("unlisted", "removed"):
            await creator.ok("DELETE", f"/content/posts/{post.post_id}")
    # A pay-per-view message: its recipient finds the post, and has not paid; the text of the message is everybody's of the two.
    recipient = readers["adult"]
    await creator.swipe(recipient)
    conversation = (await recipient.swipe(creator))["matchId"]
    sold = await publish(access=PPV, recipientId=recipient.user_id)
    await creator.ok("POST", "/messaging/send", json={
        "conversationId": conversation, "content": "for you", "clientMessageId": "paid", "postId": sold.post_id,
    })
    stub = await recipient.ok("GET", f"/content/posts/{sold.post_id}")
    assert (stub["access"], stub["caption"], stub["price"]["amount"], stub["mediaCount"]) == ("purchase", None, "5.00", 1)
    [message] = (await recipient.ok("GET", f"/messaging/conversations/{conversation}/messages"))["messages"]
    assert (message["content"], message["postId"]) == ("for you", sold.post_id)
    for name in readers.keys() - {"adult"}:
        assert (await readers[name].ask("GET", f"/content/posts/{sold.post_id}")).status_code == 404, name
    await world.until(lambda: _in_feed(readers["follower"], *(post.post_id for post in locked[:3])))
    opened = await readers["lower tier"].ok("GET", f"/content/posts/{locked[0].post_id}")
    assert (opened["access"], opened["caption"]) == ("open", f"{locked[0].canary} words")
    await world.until(lambda: _in_feed(readers["lower tier"], *(post.post_id for post in locked[:3])))
    return locked, conversation


async def _bought(world: ContentWorld, creator: Person, readers: dict[str, Person], locked: list[Locked]) -> None:
    """Two have bought a post: one another than those that are locked, the other got the money back."""
    other = (await world.post(creator, caption="another post", access=PPV))["postId"]

    def is_shown(reader: str, post_id: str, access: str) -> Any:
        async def holds() -> bool:
            return bool((await readers[reader].ok("GET", f"/content/posts/{post_id}"))["access"] == access)

        return world.until(holds)

    await world.paid(readers["buyer of another"], creator, post_id=other)
    await is_shown("buyer of another", other, "open")
    payment = await world.paid(readers["refunded"], creator, post_id=locked[1].post_id)
    await is_shown("refunded", locked[1].post_id, "open")
    await world.refunded(readers["refunded"], creator, payment)
    await is_shown("refunded", locked[1].post_id, "purchase")


async def _banned(world: ContentWorld, person: Person, opened: Locked) -> None:
    """Bans somebody who has paid for what is locked to others."""
    assert opened.canary in (await person.ask("GET", f"/content/posts/{opened.post_id}")).text
    headers = {"Authorization": f"Bearer {world.dependencies.tokens.issue_service('test', 600)}"}
    body = {"targetType": "user", "action": "ban", "category": "spam", "statement": "Spam.", "seen": 0}
    path = f"/api/v1/moderation/cases/{person.user_id}/decisions"

    async def decided() -> bool:
        return (await world.client.post(path, json=body, headers=headers)).status_code == 201

    async def refused() -> bool:
        return (await person.ask("GET", "/users/me")).status_code == 401

    await world.until(decided)
    await world.until(refused)


async def _name(world: ContentWorld, readers: dict[str, Person], locked: list[Locked], conversation: str) -> None:
    """Names what is locked in bodies of requests: nobody gets it into a message, a post or a profile of theirs by that."""
    for post in (*locked[:3], locked[-1]):
        message = {"conversationId": conversation, "content": "see", "clientMessageId": new_id()}
        image = {"contentType": "image", "mediaIds": [post.media_id], "access": {"visibility": "public"}}
        reported = {"targetType": "post", "targetId": post.post_id, "category": "other"}
        for method, path, body, taken in (
            ("POST", "/messaging/send", message | {"postId": post.post_id}, False),
            ("POST", "/messaging/send", message | {"attachments": [post.media_id]}, False),
            ("POST", "/content/posts", image | {"state": "published"}, False),
            ("POST", "/content/posts", image | {"state": "draft"}, False),
            ("PUT", "/users/me/photos", {"mediaIds": [post.media_id]}, False),
            ("POST", "/reports", reported, True),
            ("POST", "/reports", reported | {"targetType": "media", "targetId": post.media_id}, True),
        ):
            for who, reader in readers.items():
                answer = await reader.ask(method, path, json=body)
                # What is refused may repeat the ids that were sent, never what they name.
                assert post.canary not in answer.text or post.secrets(who) == (), (path, who, answer.text)
                assert 400 <= answer.status_code < 500 or (taken and answer.status_code == 201), (path, who, body, answer.text)
            await _forget_limits(world)


async def _exported(world: ContentWorld, reader: Person, name: str, locked: list[Locked]) -> None:
    """What a reader takes along of their own data holds nothing that is locked to them."""
    login = await world.client.post("/api/v1/auth/login", json={"email": reader.email, "password": reader.password})
    headers = {"Authorization": f"Bearer {login.json()['accessToken']}"}

    async def ready() -> Any:
        answer = await world.client.get("/api/v1/users/me/export", headers=headers)
        return answer.json()["url"] if answer.status_code == 200 else None

    async with local_client(timeout=60) as browser:
        file = await browser.get(await world.until(ready))
    data = json.loads(gzip.decompress(file.content))
    assert CANARY not in str(data)
    assert locked[1].post_id in str(data["postsBought"])
    assert data.pop("reportsMade"), "which repeat the ids that were reported"
    assert not _found(str(data), name, locked)


async def _walk(
    world: ContentWorld, creator: Person, readers: dict[str, Person], locked: list[Locked], conversation: str
) -> None:
    """Asks every route about everything, as everybody."""
    operations = list(_operations(await world.document()))
    assert {"getPost", "listCreatorPosts", "getFeed", "listComments"} <= {name for name, _, _, _ in operations}
    shown: set[str] = set()
    answered: set[str] = set()
    for name, method, path, body in operations:
        for target in {_filled(path, post, creator.user_id, conversation) for post in locked}:
            options = {"params": {"creatorId": creator.user_id} if name == "listTiers" else None, "json": body}
            for who, reader in readers.items():
                answer = await reader.ask(method, target, **options)
                text = answer.text + str(answer.headers)
                assert answer.status_code < 500, (name, target, text)
                assert not _found(text, who, locked), (name, target, who, text)
                if answer.status_code == 200:
                    answered.add(name)
            # Requests of a reader must not use up their rate limits and so hide what they would have seen.
            await _forget_limits(world)
            nobody = await world.client.request(method, f"/api/v1{target}", **options)
            assert not _found(nobody.text, "nobody", locked), (name, target, "nobody")
            if method == "GET" and CANARY in (await creator.ask(method, target, **options)).text:
                shown.add(name)
    # The same walk does find it for its creator, so it would find it for others; and it got answers, not refusals.
    assert {"getPost", "listCreatorPosts", "listDrafts", "listComments"} <= shown
    assert {name for name, method, _, _ in operations if method == "GET"} - answered == UNANSWERED
    told = (await readers["lower tier"].ok("GET", "/notifications/list"))["notifications"]
    assert {locked[number].post_id for number in range(3)} <= {entry["data"].get("postId") for entry in told}


async def _hear(
    world: ContentWorld, readers: dict[str, Person], devices: dict[str, Device], locked: list[Locked], conversation: str
) -> None:
    """Looks through everything that came to readers by itself: frames of sockets, and pushes with texts allowed."""
    await devices["adult"].got("message", postId=locked[-1].post_id, content="for you", conversationId=conversation)
    for post in locked[:3]:
        await devices["lower tier"].until(lambda post=post: [
            frame for frame in devices["lower tier"].of("notification") if frame["data"].get("postId") == post.post_id
        ])
    pushed = await world.until(lambda: _pushes(world, "for you", *(post.post_id for post in locked[:3])))
    for who, device in devices.items():
        await device.settled()
        heard = [*device.frames, *(push for push in pushed if push.user_id == readers[who].user_id)]
        assert not _found(str(heard), who, locked), (who, heard)


async def _pushes(world: ContentWorld, *expected: str) -> list[Entry]:
    """Everything that was pushed, once it holds all of these."""
    values = await world.dependencies.redis.lrange(KEY, 0, -1)
    return [msgspec.json.decode(value, type=Entry) for value in values] if all(
        any(text.encode() in value for value in values) for text in expected
    ) else []


@asynccontextmanager
async def _listening(world: ContentWorld, readers: dict[str, Person]) -> AsyncIterator[dict[str, Device]]:
    """A socket of each reader, and a device that is pushed names and texts."""
    died: list[str] = []
    pool = ActorPool(world.settings, resolve=world.shards.handle)
    gateway = await RunningGateway(world.settings, "gateway-0", pool, died).start()
    await world.until(lambda: world.dependencies.redis.hlen(GATEWAYS))
    devices: dict[str, Device] = {}
    for name, reader in readers.items():
        await reader.ok("PUT", "/notifications/preferences", json={"showContent": True})
        await reader.ok("POST", "/notifications/devices", json={"platform": "fcm", "token": f"token-{new_id()}"})
        devices[name] = await Device.open(reader, gateway.url)
    try:
        yield devices
    finally:
        for device in devices.values():
            await device.close()
        await gateway.close()
    assert died == []


async def _tiers(creator: Person) -> tuple[str, str]:
    """A tier of rank 1 and one of rank 5."""
    link = await creator.ok("POST", "/payments/connect/onboarding", json=RETURN)
    async with local_client(timeout=60) as client:
        assert (await client.post(link["url"])).status_code == 303
    made = [await creator.ok("POST", "/subscriptions/tiers", json=TIER | {"rank": rank, "name": f"T{rank}"}) for rank in (1, 5)]
    return made[0]["tierId"], made[1]["tierId"]


def _found(text: str, reader: str, locked: Iterable[Locked]) -> list[str]:
    """The secrets in a text that this reader may not see."""
    return [secret for post in locked for secret in post.secrets(reader) if secret in text]


def _operations(document: dict[str, Any]) -> Any:
    """(name, method, path, body) of every reading route, and of every other one that names something in its path."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if not path.startswith("/api/v1") or (method != "get" and "{" not in path):
                continue
            name = operation["operationId"]
            if name in ("block", "unblock"):
                continue
            body = BODIES.get(name, {}) if "requestBody" in operation else None
            yield name, method.upper(), path.removeprefix("/api/v1"), body


def _filled(path: str, post: Locked, creator_id: str, conversation_id: str) -> str:
    def value(found: re.Match[str]) -> str:
        if "/conversations/" in path:
            return conversation_id
        if "/media/" in path:
            return post.media_id
        if found[0] == "{month}":
            return f"{datetime.now(UTC):%Y-%m}"
        return post.post_id if "/posts/" in path else creator_id

    return re.sub(r"\{[^}]+\}", value, path)


async def _in_feed(person: Person, *post_ids: str) -> bool:
    feed = await person.ok("GET", "/content/feed")
    return set(post_ids) <= {post["postId"] for post in feed["posts"]}


async def _forget_limits(world: ContentWorld) -> None:
    keys = [key async for key in world.dependencies.redis.scan_iter(match="limit:*", count=1_000)]
    if keys:
        await world.dependencies.redis.delete(*keys)
