"""Two people talk through the API: order, resends, reading, catching up, ends, and what outsiders get."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from api_world import PATIENCE_S, Person, World, forged

from cluster.connections.redis import apply_async
from configs.contracts.conversations import (
    FEED_CHANGES,
    WINDOW_MESSAGES,
    MessageEntry,
    StoredMessage,
    feed_key,
    head_key,
    page_name,
    put_change,
    put_message,
    put_page,
    window_key,
)
from configs.contracts.ids import match_id, new_id
from configs.contracts.read_model import GENERATION

pytestmark = pytest.mark.servers


async def couple(world: World) -> tuple[Person, Person, str]:
    """Two people who match, and their conversation."""
    one, other = await world.register(), await world.register("sugar_daddy")
    await one.swipe(other)
    answer = await other.swipe(one)
    assert answer["matched"]
    return one, other, answer["matchId"]


async def say(person: Person, conversation: str, content: str = "hello", ident: str | None = None) -> Any:
    return await person.ok("POST", "/messaging/send", json=body(conversation, content, ident))


def body(conversation: str, content: Any = "hello", ident: str | None = None) -> dict[str, Any]:
    return {"conversationId": conversation, "content": content, "clientMessageId": ident or new_id()}


async def history(person: Person, conversation: str, **params: Any) -> Any:
    return await person.ok("GET", f"/messaging/conversations/{conversation}/messages", params=params)


async def refused(person: Person, method: str, path: str, status: int, code: str, **options: Any) -> Any:
    answer = await person.ask(method, path, **options)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return answer


async def test_both_sides_see_the_messages_in_one_order_and_read_their_own_writes(world: World) -> None:
    one, other, conversation = await couple(world)
    for number in range(1, 6):
        sent = await say((one, other)[number % 2], conversation, f"text {number}")
        assert sent["seq"] == number
        page = await history(one, conversation)
        assert page["messages"][0]["content"] == f"text {number}"
    mine, theirs = await history(one, conversation), await history(other, conversation)
    assert mine["messages"] == theirs["messages"]
    assert [message["seq"] for message in mine["messages"]] == [5, 4, 3, 2, 1]
    assert {message["senderId"] for message in mine["messages"]} == {one.user_id, other.user_id}


async def test_lists_show_the_last_message_and_how_many_are_unread(world: World) -> None:
    one, other, conversation = await couple(world)
    for path, name in (("/messaging/conversations", "conversations"), ("/matching/matches", "matches")):
        [entry] = (await one.ok("GET", path))[name]
        assert (entry.get("lastMessage"), entry["unreadCount"]) == (None, 0)
    await say(one, conversation, "first")
    await say(other, conversation, "second")
    await say(other, conversation, "third")
    for path, name in (("/messaging/conversations", "conversations"), ("/matching/matches", "matches")):
        [mine], [theirs] = (await one.ok("GET", path))[name], (await other.ok("GET", path))[name]
        assert mine["lastMessage"]["content"] == theirs["lastMessage"]["content"] == "third"
        assert (mine["unreadCount"], theirs["unreadCount"]) == (2, 1)
    assert await one.ok("POST", f"/messaging/conversations/{conversation}/read", json={"seq": 2}) == {"readSeq": 2}
    [mine] = (await one.ok("GET", "/messaging/conversations"))["conversations"]
    [theirs] = (await other.ok("GET", "/messaging/conversations"))["conversations"]
    assert (mine["unreadCount"], mine["readSeq"], mine["otherReadSeq"]) == (1, 2, 0)
    assert (theirs["unreadCount"], theirs["otherReadSeq"]) == (1, 2)


async def test_the_conversation_that_was_written_in_last_comes_first(world: World) -> None:
    async def listed(person: Person, **params: Any) -> tuple[list[str], str | None]:
        page = await person.ok("GET", "/messaging/conversations", params=params)
        return [item["conversationId"] for item in page["conversations"]], page.get("nextCursor")

    one, other, older = await couple(world)
    third = await world.register("sugar_daddy")
    await one.swipe(third)
    newer = (await third.swipe(one))["matchId"]
    assert (await listed(one))[0] == [newer, older]
    await say(one, older, "after all")
    assert (await listed(one))[0] == [older, newer]
    await say(third, newer, "hello")
    await say(other, older, "well")
    assert (await listed(one))[0] == [older, newer]
    first, cursor = await listed(one, limit=1)
    await say(one, newer, "meanwhile")
    assert (await listed(one, limit=1, cursor=cursor))[0] == [], "what moved to the first page stands there"
    assert (first, (await listed(one))[0]) == ([older], [newer, older])


async def test_a_resend_gets_the_first_answer_and_another_text_is_refused(world: World) -> None:
    one, other, conversation = await couple(world)
    first = await say(one, conversation, "hello", "m-1")
    await say(other, conversation)
    assert await say(one, conversation, "hello", "m-1") == first
    await refused(one, "POST", "/messaging/send", 409, "content_conflict", json=body(conversation, "bye", "m-1"))
    assert (await say(other, conversation, "bye", "m-1"))["seq"] == 3, "ids are each sender's own"
    both = await asyncio.gather(*(say(one, conversation, "at once", "m-2") for _ in range(5)))
    assert len({answer["messageId"] for answer in both}) == 1
    assert len((await history(one, conversation))["messages"]) == 4


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("", 422, "invalid"), (" \n\t ", 422, "invalid"), ("x" * 5_001, 422, "invalid"), ("a\x00b", 422, "invalid"),
        ("\x1b[31mred", 422, "invalid"), (None, 422, "invalid"), (7, 422, "invalid"), (["x"], 422, "invalid"),
        ("x" * 70_000, 413, "body_too_large"),
    ],
)
async def test_texts_that_are_none_change_nothing(world: World, content: Any, status: int, code: str) -> None:
    one, _, conversation = await couple(world)
    await refused(one, "POST", "/messaging/send", status, code, json=body(conversation, content))
    assert (await history(one, conversation))["messages"] == []


async def test_what_is_no_request_is_refused(world: World) -> None:
    one, _, conversation = await couple(world)
    path = "/messaging/send"
    await refused(one, "POST", path, 422, "media_unknown", json=body(conversation) | {"attachments": [new_id()]})
    await refused(one, "POST", path, 422, "invalid", json=body(conversation, ident="with space"))
    await refused(one, "POST", path, 422, "invalid", json=body(conversation, ident="x" * 65))
    await refused(one, "POST", path, 422, "invalid", json=body("no id"))
    await refused(one, "POST", path, 422, "invalid", json=body(conversation.upper()))
    headers = {"content-type": "application/json"}
    await refused(one, "POST", path, 400, "malformed_body", content=b'{"conversationId"', headers=headers)
    lone = b'{"conversationId":"%s","clientMessageId":"m","content":"\\ud800"}' % conversation.encode()
    answer = await one.ask("POST", path, content=lone, headers=headers)
    assert answer.status_code in (400, 422)
    for seq in (0, -1, 2**31, "1", 1.5, None, True):
        await refused(one, "POST", f"/messaging/conversations/{conversation}/read", 422, "invalid", json={"seq": seq})
    await refused(one, "POST", f"/messaging/conversations/{conversation}/read", 422, "invalid", json={"seq": 1})
    assert (await history(one, conversation))["messages"] == []


async def test_the_longest_text_arrives_as_it_was_sent(world: World) -> None:
    one, other, conversation = await couple(world)
    text = "🙂" * 5_000
    await say(one, conversation, text)
    assert (await history(other, conversation))["messages"][0]["content"] == text


async def test_outsiders_cannot_tell_a_conversation_from_none(world: World) -> None:
    one, _, conversation = await couple(world)
    await say(one, conversation)
    outsider = await world.register()
    for name in (conversation, match_id(one.user_id, outsider.user_id), new_id()):
        answers = [
            await refused(outsider, "POST", "/messaging/send", 404, "not_found", json=body(name)),
            await refused(outsider, "POST", f"/messaging/conversations/{name}/read", 404, "not_found", json={"seq": 1}),
            await refused(outsider, "GET", f"/messaging/conversations/{name}/messages", 404, "not_found"),
        ]
        assert len({answer.text for answer in answers}) == 1
    assert len((await history(one, conversation))["messages"]) == 1


@pytest.mark.parametrize("how", ["unmatch", "unmatched by the other", "block", "blocked by the other"])
async def test_after_the_end_was_answered_nothing_is_sent_read_or_shown(world: World, how: str) -> None:
    one, other, conversation = await couple(world)
    await say(one, conversation)
    position = (await one.ok("GET", "/messaging/sync"))["position"]
    actor, target = (other, one) if "by the other" in how else (one, other)
    if "block" in how:
        await actor.ok("POST", f"/users/{target.user_id}/block")
    else:
        await actor.ok("DELETE", f"/matching/matches/{conversation}")
        await actor.ok("DELETE", f"/matching/matches/{conversation}")
    for person in (one, other):
        await refused(person, "POST", "/messaging/send", 404, "not_found", json=body(conversation))
        await refused(person, "POST", f"/messaging/conversations/{conversation}/read", 404, "not_found", json={"seq": 1})
        await refused(person, "GET", f"/messaging/conversations/{conversation}/messages", 404, "not_found")
        assert (await person.ok("GET", "/messaging/conversations"))["conversations"] == []
    missed = await one.ok("GET", "/messaging/sync", params={"since": position})
    assert (missed["endedMatchIds"], missed["messages"], missed["matches"]) == ([conversation], [], [])


async def test_messages_sent_while_the_match_ends_are_accepted_before_the_end_or_never(world: World) -> None:
    one, other, conversation = await couple(world)

    async def talk() -> list[int]:
        return [
            (await other.ask("POST", "/messaging/send", json=body(conversation))).status_code for _ in range(30)
        ]

    async def leave() -> None:
        await asyncio.sleep(0.1)
        await one.ok("DELETE", f"/matching/matches/{conversation}")
        after.append((await other.ask("POST", "/messaging/send", json=body(conversation))).status_code)

    after: list[int] = []
    statuses, _ = await asyncio.gather(talk(), leave())
    assert after == [404]
    assert statuses == sorted(statuses), "no message is accepted after one was refused"


async def test_an_undo_ends_a_match_without_messages_and_is_refused_once_there_is_one(world: World) -> None:
    one, other, conversation = await couple(world)
    answer = await other.ok("POST", "/matching/undo", key="u-1")
    assert answer["endedMatch"]
    assert await other.ok("POST", "/matching/undo", key="u-1") == answer
    await refused(one, "POST", "/messaging/send", 404, "not_found", json=body(conversation))
    assert (await other.swipe(one))["matched"], "a pair may match again after an undo"
    assert (await say(one, conversation))["seq"] == 1, "what held the conversation ended with its match"
    await refused(other, "POST", "/matching/undo", 409, "undo_has_messages")
    assert (await say(other, conversation))["seq"] == 2
    assert len((await one.ok("GET", "/matching/matches"))["matches"]) == 1


async def test_an_undo_of_no_match_leaves_conversations_alone(world: World) -> None:
    one, other, third = [await world.register(role) for role in ("sugar_baby", "sugar_daddy", "sugar_daddy")]
    await one.swipe(other)
    await one.swipe(third, "pass")
    assert await one.ok("POST", "/matching/undo") == {
        "targetUserId": third.user_id, "action": "pass", "endedMatch": False
    }
    await other.swipe(one)
    assert (await say(one, match_id(one.user_id, other.user_id)))["seq"] == 1
    await refused(await world.register(), "POST", "/matching/undo", 409, "nothing_to_undo")


async def test_history_is_paged_newest_first_and_cursors_belong_to_their_reader_and_conversation(world: World) -> None:
    one, other, conversation = await couple(world)
    for number in range(7):
        await say(one, conversation, f"{number}")
    seen: list[int] = []
    params: dict[str, Any] = {"limit": 3}
    while True:
        page = await history(other, conversation, **params)
        seen += [message["seq"] for message in page["messages"]]
        if len(seen) == 3:
            await say(one, conversation, "meanwhile")
            stolen = page["nextCursor"]
        if page.get("nextCursor") is None:
            break
        params["cursor"] = page["nextCursor"]
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    _, third, elsewhere = await couple(world)
    path = f"/messaging/conversations/{conversation}/messages"
    await refused(one, "GET", path, 422, "cursor_invalid", params={"cursor": stolen})
    for bad in (forged(stolen), "AAAA", stolen + "A"):
        await refused(other, "GET", path, 422, "cursor_invalid", params={"cursor": bad})
    other_path = f"/messaging/conversations/{elsewhere}/messages"
    await refused(third, "GET", other_path, 422, "cursor_invalid", params={"cursor": stolen})
    for limit in (0, 101, "x"):
        await refused(other, "GET", path, 422, "invalid", params={"limit": limit})


async def test_a_message_that_redis_does_not_have_is_asked_for_and_never_passed_over(world: World) -> None:
    one, other, conversation = await couple(world)
    for number in range(3):
        await say(one, conversation, f"{number}")
    await world.dependencies.redis.hdel(window_key(conversation), "2")
    answer = await other.ask("GET", f"/messaging/conversations/{conversation}/messages")
    assert (answer.status_code, answer.json()["code"]) == (503, "read_model_unknown")
    assert page_name(conversation, "w") in world.shards.loader.warmed


def stored(conversation: str, sender: str, seq: int) -> StoredMessage:
    entry = MessageEntry(new_id(), seq, sender, seq, f"m{seq}", f"text {seq}", "2026-03-01T12:00:00.000Z")
    return StoredMessage(entry, 1, 1 << 40 | seq)


async def test_older_messages_come_from_pages_and_only_the_newest_stay_together(world: World) -> None:
    one, other, conversation = await couple(world)
    many = [stored(conversation, one.user_id, seq) for seq in range(1, WINDOW_MESSAGES + 151)]
    await apply_async(world.dependencies.redis, [put_message(conversation, message) for message in many])
    assert await world.dependencies.redis.hlen(window_key(conversation)) == WINDOW_MESSAGES
    first = await history(other, conversation, limit=100)
    second = await history(other, conversation, limit=100, cursor=first["nextCursor"])
    assert [message["seq"] for message in second["messages"]] == list(range(250, 150, -1))
    answer = await other.ask(
        "GET", f"/messaging/conversations/{conversation}/messages", params={"limit": 100, "cursor": second["nextCursor"]}
    )
    assert answer.status_code == 503
    assert {page_name(conversation, 0), page_name(conversation, 1)} <= set(world.shards.loader.warmed)
    for number in (0, 1):
        page = msgspec.json.encode([message.entry for message in many[100 * number : 100 * number + 100]])
        await apply_async(world.dependencies.redis, [put_page(page_name(conversation, number), page)])
    third = await history(other, conversation, limit=100, cursor=second["nextCursor"])
    assert [message["content"] for message in third["messages"]] == [f"text {seq}" for seq in range(150, 50, -1)]


async def catch_up(person: Person, since: str, **params: Any) -> Any:
    return await person.ok("GET", "/messaging/sync", params={"since": since, **params})


async def test_everything_missed_is_told_once_after_a_position(world: World) -> None:
    one, other, conversation = await couple(world)
    await say(one, conversation, "before")
    begin = await other.ok("GET", "/messaging/sync")
    assert (begin["messages"], begin["more"]) == ([], False)
    assert (await catch_up(other, begin["position"]))["messages"] == []
    await say(one, conversation, "missed 1")
    await say(other, conversation, "missed 2, from another device")
    await one.ok("POST", f"/messaging/conversations/{conversation}/read", json={"seq": 3})
    third = await world.register()
    await other.swipe(third)
    await third.swipe(other)
    missed = await catch_up(other, begin["position"])
    assert [(message["seq"], message["content"]) for message in missed["messages"]] == [
        (2, "missed 1"), (3, "missed 2, from another device")
    ]
    assert missed["reads"] == [{"conversationId": conversation, "userId": one.user_id, "seq": 3}]
    assert [match["user"]["userId"] for match in missed["matches"]] == [third.user_id]
    assert missed["endedMatchIds"] == []
    after = await catch_up(other, missed["position"])
    assert (after["messages"], after["reads"], after["matches"], after["more"]) == ([], [], [], False)
    assert [message["seq"] for message in (await catch_up(other, begin["position"]))["messages"]] == [2, 3], "as often as asked"


async def test_what_was_missed_comes_in_pages(world: World) -> None:
    one, other, conversation = await couple(world)
    position = (await other.ok("GET", "/messaging/sync"))["position"]
    for number in range(7):
        await say(one, conversation, f"{number}")
    seen: list[int] = []
    more = True
    while more:
        page = await catch_up(other, position, limit=3)
        seen += [message["seq"] for message in page["messages"]]
        position, more = page["position"], page["more"]
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_a_message_that_is_not_in_its_conversation_yet_is_not_passed_by(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster a person's changes and a conversation's messages are on two nodes, of which one may be slower."""
    one, other, conversation = await couple(world)
    await say(one, conversation, "before")
    redis, head = world.dependencies.redis, head_key(conversation)
    before = await redis.hmget(head, "last", "top")
    position = (await other.ok("GET", "/messaging/sync"))["position"]
    await say(one, conversation, "missed")
    after = await redis.hmget(head, "last", "top")
    await redis.hset(head, mapping=dict(zip(("last", "top"), before, strict=True)))
    await refused(other, "GET", "/messaging/sync", 503, "read_model_unknown", params={"since": position})
    monkeypatch.setattr("serve_apps.messaging.sync.GAP_S", PATIENCE_S)
    waiting = asyncio.create_task(catch_up(other, position))
    await asyncio.sleep(0.1)
    await redis.hset(head, mapping=dict(zip(("last", "top"), after, strict=True)))
    missed = await waiting
    assert [message["content"] for message in missed["messages"]] == ["missed"]
    await apply_async(redis, [put_change(other.user_id, f"m:{conversation}:9")])
    after_that = await catch_up(other, missed["position"])
    assert (after_that["messages"], after_that["more"]) == ([], False), "no shard knows the ninth: it was a replaced one's"


async def test_a_position_that_is_too_old_or_of_a_lost_read_model_is_gone(world: World) -> None:
    one, other, conversation = await couple(world)
    await say(one, conversation)
    position = (await other.ok("GET", "/messaging/sync"))["position"]
    for number in range(FEED_CHANGES + 1):
        await apply_async(world.dependencies.redis, [put_change(other.user_id, f"r:{conversation}:{one.user_id}:{number}")])
    assert await world.dependencies.redis.zcard(feed_key(other.user_id)) == FEED_CHANGES + 1
    await refused(other, "GET", "/messaging/sync", 410, "resync", params={"since": position})
    fresh = (await other.ok("GET", "/messaging/sync"))["position"]
    assert (await catch_up(other, fresh))["more"] is False
    await world.dependencies.redis.set(GENERATION, "another life")
    try:
        await refused(other, "GET", "/messaging/sync", 410, "resync", params={"since": fresh})
    finally:
        await world.dependencies.redis.set(GENERATION, "test")
    await refused(one, "GET", "/messaging/sync", 422, "cursor_invalid", params={"since": fresh})
    await refused(other, "GET", "/messaging/sync", 422, "cursor_invalid", params={"since": forged(fresh)})
    await refused(other, "GET", "/messaging/sync", 422, "invalid", params={"since": "no position!"})


async def test_a_feed_that_ran_out_and_began_anew_is_told_whole(world: World) -> None:
    one, other, conversation = await couple(world)
    await say(one, conversation)
    position = (await other.ok("GET", "/messaging/sync"))["position"]
    await world.dependencies.redis.delete(feed_key(other.user_id))
    assert (await catch_up(other, position))["messages"] == []
    await say(one, conversation, "in the new feed")
    assert [message["content"] for message in (await catch_up(other, position))["messages"]] == ["in the new feed"]


async def test_nothing_of_a_message_is_in_a_log_line(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    one, other, conversation = await couple(world)
    secret = "do not write this down"
    await say(one, conversation, secret)
    await refused(one, "POST", "/messaging/send", 422, "invalid", json=body(conversation, secret + "\x00"))
    await refused(other, "POST", "/messaging/send", 404, "not_found", json=body(new_id(), secret))
    printed = capfd.readouterr()
    assert secret not in printed.out + printed.err
