"""Locked content leaks nothing: no route shows its text, its media or what leads to them to anybody who has not paid."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person
from content_world import ContentWorld, content_world

from configs.contracts.ids import new_id

pytestmark = pytest.mark.servers

CANARY = "canary5f3a9c"
PPV = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}
BODIES = {"createComment": {"text": "let me see"}, "updatePost": {"caption": "mine now"}}


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentWorld]:
    async with content_world(tmp_path_factory.mktemp("content")) as made:
        yield made


async def test_no_route_shows_locked_content_to_who_has_not_paid(world: ContentWorld) -> None:
    creator = await world.creator()
    readers = {
        "stranger": await world.register("sugar_daddy"),
        "adult": await world.adult(await world.register("sugar_daddy")),
        "follower": await world.adult(await world.register("sugar_daddy")),
        "another creator": await world.creator(),
        "blocks": await world.adult(await world.register("sugar_daddy")),
        "blocked": await world.adult(await world.register("sugar_daddy")),
    }
    for name in ("follower", "blocks", "blocked"):
        await readers[name].ok("POST", f"/content/creators/{creator.user_id}/follow")
    await readers["blocks"].ok("POST", f"/users/{creator.user_id}/block")
    await creator.ok("POST", f"/users/{readers['blocked'].user_id}/block")
    media: list[str] = []
    posts: list[str] = []
    for access, state in (
        ({"visibility": "subscribers"}, "published"), (PPV, "published"), ({"visibility": "public"}, "draft"),
        ({"visibility": "public"}, "scheduled"), (PPV, "unlisted"), ({"visibility": "public"}, "removed"),
    ):
        media.append(await world.media(creator, new_id()))
        begin = state if state in ("draft", "scheduled") else "published"
        when = {"scheduledAt": (datetime.now(UTC) + timedelta(days=1)).isoformat()} if state == "scheduled" else {}
        made = await world.post(
            creator, contentType="image", mediaIds=[media[-1]], caption=f"{CANARY} words", access=access, state=begin, **when
        )
        posts.append(made["postId"])
        assert CANARY in made["caption"]
        if begin == "published":
            comment = {"text": f"{CANARY} says the creator"}
            await creator.ok("POST", f"/content/posts/{made['postId']}/comments", json=comment)
        if state in ("unlisted", "removed"):
            await creator.ok("DELETE", f"/content/posts/{made['postId']}")
    # A pay-per-view message: its recipient finds the post, and has not paid; the text of the message is everybody's of the two.
    media.append(await world.media(creator, new_id()))
    recipient = readers["adult"]
    await creator.swipe(recipient)
    conversation = (await recipient.swipe(creator))["matchId"]
    sold = await world.post(
        creator, contentType="image", mediaIds=[media[-1]], caption=f"{CANARY} words", access=PPV, recipientId=recipient.user_id,
    )
    posts.append(sold["postId"])
    await creator.ok("POST", "/messaging/send", json={
        "conversationId": conversation, "content": "for you", "clientMessageId": "paid", "postId": sold["postId"],
    })
    stub = await recipient.ok("GET", f"/content/posts/{sold['postId']}")
    assert (stub["access"], stub["caption"], stub["price"]["amount"], stub["mediaCount"]) == ("purchase", None, "5.00", 1)
    [message] = (await recipient.ok("GET", f"/messaging/conversations/{conversation}/messages"))["messages"]
    assert (message["content"], message["postId"]) == ("for you", sold["postId"])
    for name in readers.keys() - {"adult"}:
        assert (await readers[name].ask("GET", f"/content/posts/{sold['postId']}")).status_code == 404, name
    await world.until(lambda: _in_feed(readers["follower"], posts[0], posts[1]))
    operations = list(_operations(await world.document()))
    assert {"getPost", "listCreatorPosts", "getFeed", "listComments"} <= {name for name, _, _, _ in operations}
    secrets = [CANARY, *media]
    shown: set[str] = set()
    for name, method, path, body in operations:
        for target in {_filled(path, post, creator.user_id, media_id, conversation) for post, media_id in zip(posts, media, strict=True)}:
            for who, reader in readers.items():
                answer = await reader.ask(method, target, json=body) if body is not None else await reader.ask(method, target)
                text = answer.text + str(answer.headers)
                assert answer.status_code < 500, (name, target, text)
                assert not [secret for secret in secrets if secret in text], (name, target, who, text)
            # Requests of a reader must not use up their rate limits and so hide what they would have seen.
            await _forget_limits(world)
            nobody = await world.client.request(method, f"/api/v1{target}", json=body)
            assert not [secret for secret in secrets if secret in nobody.text], (name, target, "nobody")
            if method == "GET" and CANARY in (await creator.ask(method, target)).text:
                shown.add(name)
    # The same walk does find it for its creator, so it would find it for others.
    assert {"getPost", "listCreatorPosts", "listDrafts", "listComments"} <= shown


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


def _filled(path: str, post_id: str, creator_id: str, media_id: str, conversation_id: str) -> str:
    def value(found: re.Match[str]) -> str:
        if "/conversations/" in path:
            return conversation_id
        if "/media/" in path:
            return media_id
        return post_id if "/posts/" in path else creator_id

    return re.sub(r"\{[^}]+\}", value, path)


async def _in_feed(person: Person, *post_ids: str) -> bool:
    feed = await person.ok("GET", "/content/feed")
    return set(post_ids) <= {post["postId"] for post in feed["posts"]}


async def _forget_limits(world: ContentWorld) -> None:
    keys = [key async for key in world.dependencies.redis.scan_iter(match="limit:*", count=1_000)]
    if keys:
        await world.dependencies.redis.delete(*keys)
