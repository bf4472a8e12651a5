"""Likes, comments, follows and feeds through the API, down to rows and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person
from content_world import ContentWorld, content_world, in_rows, shown
from log_writing import append, record

from cluster.connections.redis import apply_async
from configs.contracts import events, topics
from configs.contracts.content import COMMENTS_SHOWN, CommentEntry, comments_keys, put_comment
from configs.contracts.events.subscriptions import Terms
from configs.contracts.home import home_key, home_member
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import SubscriptionState
from configs.contracts.read_model import MARKER, REVOKED
from writers.connections import open_rows
from writers.rebuild import clear, write_everything
from writers.reconcile import reconcile

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentWorld]:
    async with content_world(tmp_path_factory.mktemp("content")) as made:
        yield made


async def feed_of(person: Person, **params: Any) -> list[str]:
    return [post["postId"] for post in (await person.ok("GET", "/content/feed", params=params))["posts"]]


async def test_likes_and_comments_are_counted_exactly(world: ContentWorld) -> None:
    """Whatever people repeat and undo at the same time, the counts are those of the rows."""
    creator = await world.creator()
    people = [await world.register("sugar_daddy") for _ in range(6)]
    post = await world.post(creator)
    path = f"/content/posts/{post['postId']}"
    await asyncio.gather(*(person.ok("POST", f"{path}/like") for person in people for _ in range(3)))
    await asyncio.gather(*(person.ok("DELETE", f"{path}/like") for person in people[:2] for _ in range(2)))
    texts = await asyncio.gather(*(
        person.ok("POST", f"{path}/comments", json={"text": f"from {index}"}, key=f"c{index}")
        for index, person in enumerate(people) for _ in range(3)
    ))
    assert len({item["commentId"] for item in texts}) == len(people)
    assert [(await shown(person, post["postId"]))["liked"] for person in people] == [False] * 2 + [True] * 4
    counts = await world.until(lambda: _counts(people[0], post["postId"], (4, 6)))
    assert counts == (4, 6)
    listed = (await people[0].ok("GET", f"{path}/comments", params={"limit": 4}))
    rest = await people[0].ok("GET", f"{path}/comments", params={"limit": 4, "cursor": listed["nextCursor"]})
    found = {item["commentId"]: item["userId"] for item in listed["comments"] + rest["comments"]}
    assert (len(found), rest["nextCursor"]) == (6, None)
    one, other = [name for name, user in found.items() if user != people[5].user_id][:2]
    assert (await people[5].ask("DELETE", f"{path}/comments/{one}")).status_code == 403
    await creator.ok("DELETE", f"{path}/comments/{one}")
    await next(p for p in people if p.user_id == found[other]).ok("DELETE", f"{path}/comments/{other}")
    assert (await creator.ask("DELETE", f"{path}/comments/{one}")).status_code == 404
    await world.until(lambda: _counts(people[0], post["postId"], (4, 4)))
    for bad in ({"text": ""}, {"text": " "}, {"text": "x" * 1_001}, {"text": "a\u0000b"}, {}):
        assert (await people[0].ask("POST", f"{path}/comments", json=bad)).status_code == 422
    conflict = await people[0].ask("POST", f"{path}/comments", json={"text": "another"}, key="c0")
    assert conflict.json()["code"] == "idempotency_conflict"


async def test_deleted_comments_are_forgotten_in_the_end_and_readers_do_not_load_them(
    world: ContentWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    creator, redis = await world.creator(), world.dependencies.redis
    post_id = (await world.post(creator))["postId"]
    path = f"/content/posts/{post_id}/comments"
    assert (await creator.ok("GET", path))["comments"] == []
    await creator.ok("POST", path, json={"text": "stays"})
    gone = [CommentEntry(new_id(), creator.user_id, "gone", "2026-01-01T00:00:00Z") for _ in range(3 * COMMENTS_SHOWN)]
    await apply_async(redis, [
        put_comment(post_id, entry, version=2 * number + deleted, deleted=deleted)
        for number, entry in enumerate(gone, 1) for deleted in (False, True)
    ])
    _, entries = comments_keys(post_id)
    assert COMMENTS_SHOWN < await redis.hlen(entries) <= 2 * COMMENTS_SHOWN + 1
    remembered = gone[-COMMENTS_SHOWN:]
    await apply_async(redis, [
        put_comment(post_id, entry, version=2 * number, deleted=False)
        for number, entry in enumerate(remembered, 2 * COMMENTS_SHOWN + 1)
    ])
    read, loaded = world.dependencies.reads.read, 0

    async def counted(*commands: Any) -> Any:
        nonlocal loaded
        replies = await read(*commands)
        if not any(REVOKED in command for command in commands):  # which the replica polls meanwhile
            loaded += sum(len(reply) for reply in replies if isinstance(reply, list))
        return replies

    with monkeypatch.context() as patched:
        patched.setattr(world.dependencies.reads, "read", counted)
        assert [item["text"] for item in (await creator.ok("GET", path))["comments"]] == ["stays"]
    assert 2 <= loaded < COMMENTS_SHOWN


async def _counts(person: Person, post_id: str, expected: tuple[int, int]) -> tuple[int, int] | None:
    post = await shown(person, post_id)
    found = post["likeCount"], post["commentCount"]
    return found if found == expected else None


async def test_a_feed_holds_the_posts_of_whom_one_follows(world: ContentWorld) -> None:
    one, other, reader = await world.creator(), await world.creator(), await world.register("sugar_daddy")
    early = [(await world.post(one, caption=str(index)))["postId"] for index in range(3)]
    assert await feed_of(reader) == []
    await reader.ok("POST", f"/content/creators/{one.user_id}/follow")
    await reader.ok("POST", f"/content/creators/{other.user_id}/follow")
    await world.until(lambda: _is_feed(reader, early[::-1]))
    late = [(await world.post(creator))["postId"] for creator in (other, one)]
    whole = [*late[::-1], *early[::-1]]
    await world.until(lambda: _is_feed(reader, whole))
    first = await reader.ok("GET", "/content/feed", params={"limit": 2})
    second = await reader.ok("GET", "/content/feed", params={"limit": 3, "cursor": first["nextCursor"]})
    assert [post["postId"] for post in first["posts"] + second["posts"]] == whole
    assert second["nextCursor"] is None
    assert (await other.ask("GET", "/content/feed", params={"cursor": first["nextCursor"]})).json()["code"] == "cursor_invalid"
    await one.ok("DELETE", f"/content/posts/{late[1]}")
    assert await feed_of(reader) == [late[0], *early[::-1]]
    await reader.ok("DELETE", f"/content/creators/{one.user_id}/follow")
    await world.until(lambda: _is_feed(reader, [late[0]]))
    followed = (await reader.ok("GET", "/content/following"))["creators"]
    assert [creator["userId"] for creator in followed] == [other.user_id]
    assert (await reader.ask("POST", f"/content/creators/{reader.user_id}/follow")).json()["code"] == "self_target"


async def test_posts_that_come_back_are_in_feeds_that_were_filled_meanwhile(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.register("sugar_daddy")
    unlisted, removed, last = [(await world.post(creator, caption=str(index)))["postId"] for index in range(3)]
    await reader.ok("POST", f"/content/creators/{creator.user_id}/follow")
    await world.until(lambda: _is_feed(reader, [last, removed, unlisted]))
    told: dict[str, Any] = {
        "decision_id": new_id(), "target_type": "post", "target_id": removed, "subject_id": creator.user_id,
        "action": "remove", "statement": "why", "decided_by": "person:m",
    }
    decided = events.CaseDecided(**told, category="nudity", number=1)
    await append(world.settings, record(world.settings, topics.MODERATION_DECIDED, removed, decided))
    await creator.ok("PUT", f"/content/posts/{unlisted}", json={"state": "unlisted"})
    await world.until(lambda: in_rows(world, removed, "removed") and in_rows(world, unlisted, "unlisted"))
    await world.dependencies.redis.delete(home_key(reader.user_id))
    assert await feed_of(reader) == [last]
    assert set(await world.dependencies.redis.zrange(home_key(reader.user_id), 0, -1)) == {
        b"*", home_member(last, creator.user_id).encode()
    }
    await creator.ok("PUT", f"/content/posts/{unlisted}", json={"state": "published"})
    await world.until(lambda: _is_feed(reader, [last, unlisted]))
    reversed_ = events.AppealDecided(**told, appeal_id=new_id(), outcome="reversed", number=2)
    await append(world.settings, record(world.settings, topics.MODERATION_DECIDED, removed, reversed_))
    await world.until(lambda: _is_feed(reader, [last, removed, unlisted]))


async def _is_feed(person: Person, expected: list[str]) -> bool:
    return await feed_of(person) == expected


async def test_a_page_of_a_feed_costs_the_same_however_much_the_feed_holds(world: ContentWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    creators, reader = [await world.creator() for _ in range(4)], await world.register("sugar_daddy")
    asked: list[tuple[Any, ...]] = []
    read = world.dependencies.reads.read

    async def counted(*commands: Any) -> Any:
        if not any(REVOKED in command for command in commands):  # which the replica polls meanwhile
            asked.extend(commands)
        return await read(*commands)

    async def page_cost() -> int:
        """The words that a page's commands have; 0: its feed was filled for it, as after the projection of a follow."""
        asked.clear()
        page = await reader.ok("GET", "/content/feed", params={"limit": 3})
        assert len(page["posts"]) == 3
        assert len({post["creator"]["userId"] for post in page["posts"]}) == 1
        filled = asked.count(("ZSCORE", home_key(reader.user_id), MARKER)) > 1
        return 0 if filled else sum(map(len, asked))

    async def cost(creator: Person, posts: int, whole: int) -> int:
        await reader.ok("POST", f"/content/creators/{creator.user_id}/follow")
        for number in range(posts):
            await world.post(creator, caption=str(number))
        await world.until(lambda: _holds(reader, whole))
        with monkeypatch.context() as patched:
            patched.setattr(world.dependencies.reads, "read", counted)
            return int(await world.until(page_cost))

    small = await cost(creators[0], 4, 4)
    for number, creator in enumerate(creators[1:], 1):
        assert await cost(creator, 12, 4 + 12 * number) == small


async def _holds(person: Person, count: int) -> bool:
    return len(await feed_of(person, limit=100)) == count


async def test_a_subscription_follows_its_creator_and_opens_what_it_is_worth(world: ContentWorld) -> None:
    """Only what the provider has reported opens anything; a checkout alone has the creator followed."""
    creator, reader = await world.creator(), await world.register("sugar_daddy")
    tier = new_id()
    kinds = ({"visibility": "subscribers"}, {"visibility": "ppv", "price": {"amount": "5", "currency": "USD"}})
    posts = [(await world.post(creator, access=access))["postId"] for access in kinds]
    now, name = datetime.now(UTC), new_id()
    terms = Terms(tier_id=tier, rank=1, tier_name="Gold", revision=1, interval="month", amount_minor=500, currency="USD", trial_days=9)
    requested = events.SubscriptionRequested(
        subscription_id=name, subscriber_id=reader.user_id, creator_id=creator.user_id, account_id="a",
        payment_method_id="p", terms=terms, checkout_until=now + timedelta(minutes=30), body_digest="",
    )
    await append(world.settings, record(world.settings, topics.SUBSCRIPTION_CREATED, reader.user_id, requested))
    await world.until(lambda: _is_feed(reader, posts[::-1]))
    assert [post["access"] for post in (await reader.ok("GET", "/content/feed"))["posts"]] == ["purchase", "subscribe"]
    for path in (f"/content/posts/{posts[0]}/like", f"/content/posts/{posts[0]}/comments"):
        refused = await reader.ask("POST", path, json={"text": "hello"})
        assert (refused.status_code, refused.json()["code"], refused.json()["access"]) == (402, "payment_needed", "subscribe")
    observed = events.SubscriptionObserved(owner_id=reader.user_id, fact=SubscriptionState(
        provider="p", livemode=False, event_id="e", object_id="o", as_of=now, status="trialing", subscriber_id=reader.user_id,
        creator_id=creator.user_id, request_id=name, tier_id=tier, interval="month", amount_minor=500, currency="USD",
        period_start=now, period_end=now + timedelta(days=9), trial_end=now + timedelta(days=9),
    ))
    await append(world.settings, record(world.settings, topics.SUBSCRIPTION_CREATED, reader.user_id, observed))
    await world.until(lambda: _opens(reader, posts[0]))
    assert [post["access"] for post in (await reader.ok("GET", "/content/feed"))["posts"]] == ["purchase", "open"]
    await reader.ok("POST", f"/content/posts/{posts[0]}/like")


async def _opens(person: Person, post_id: str) -> bool:
    return bool((await shown(person, post_id))["access"] == "open")


async def test_blocked_people_find_nothing_of_each_other(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.register("sugar_daddy")
    post = await world.post(creator)
    await reader.ok("POST", f"/content/creators/{creator.user_id}/follow")
    await world.until(lambda: _is_feed(reader, [post["postId"]]))
    await reader.ok("POST", f"/content/posts/{post['postId']}/comments", json={"text": "hello"})
    await creator.ok("POST", f"/users/{reader.user_id}/block")
    paths = [
        ("GET", f"/content/posts/{post['postId']}"), ("GET", f"/content/posts/{post['postId']}/comments"),
        ("POST", f"/content/posts/{post['postId']}/like"), ("GET", f"/content/creators/{creator.user_id}"),
        ("GET", f"/content/creators/{creator.user_id}/posts"), ("POST", f"/content/creators/{creator.user_id}/follow"),
    ]
    for method, path in paths:
        assert (await reader.ask(method, path)).status_code == 404, path
    assert await feed_of(reader) == []
    assert (await reader.ok("GET", "/content/following"))["creators"] == []
    assert (await creator.ok("GET", f"/content/posts/{post['postId']}/comments"))["comments"] == []


async def test_feeds_ask_for_the_posts_of_very_large_creators(world: ContentWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    creator = await world.creator()
    readers = [await world.register("sugar_daddy") for _ in range(3)]
    before = await world.post(creator)
    for reader in readers[:2]:
        await reader.ok("POST", f"/content/creators/{creator.user_id}/follow")
        await world.until(lambda reader=reader: _is_feed(reader, [before["postId"]]))
    with open_rows(world.settings, "test") as conn:
        conn.execute("INSERT INTO large_creators VALUES (%s, now())", (creator.user_id,))
        after = await world.post(creator)
        for reader in readers[:2]:
            await world.until(lambda reader=reader: _is_feed(reader, [after["postId"], before["postId"]]))
            assert await world.dependencies.redis.zcard(f"home:{{{reader.user_id}}}") == 2
        assert await feed_of(readers[2]) == []
        conn.execute("DELETE FROM large_creators")
    await world.dependencies.redis.delete("large")


async def test_rows_and_read_model_agree_and_a_lost_read_model_comes_back(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.register("sugar_daddy")
    post = await world.post(creator)
    path = f"/content/posts/{post['postId']}"
    await reader.ok("POST", f"{path}/like")
    await reader.ok("POST", f"{path}/comments", json={"text": "kept"})
    await reader.ok("POST", f"/content/creators/{creator.user_id}/follow")
    await world.until(lambda: _counts(reader, post["postId"], (1, 1)))
    await world.until(lambda: _is_feed(reader, [post["postId"]]))
    mine = {creator.user_id, reader.user_id, post["postId"]}
    ours = {"post", "draft", "follow", "heart", "post_count", "comment", "media_post"}
    report = await asyncio.to_thread(reconcile, world.settings)
    assert [item for item in report.differences if item.kind in ours and item.user_id in mine] == []
    before = await shown(reader, post["postId"])
    await asyncio.to_thread(clear, world.settings)
    await asyncio.to_thread(write_everything, world.settings)
    await world.adult(creator)
    assert await shown(reader, post["postId"]) == before
    assert [item["text"] for item in (await reader.ok("GET", f"{path}/comments"))["comments"]] == ["kept"]
    assert await feed_of(reader) == [post["postId"]]
