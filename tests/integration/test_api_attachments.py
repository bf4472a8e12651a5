"""Media in messages: whose they may be, who sees them and when, and what a resend may change."""

from __future__ import annotations

from typing import Any

import pytest
from api_world import Person, World

from cluster.connections.redis import apply_async
from configs.contracts.albums import put_media
from configs.contracts.conversations import MessageEntry
from configs.contracts.ids import match_id, new_id
from configs.contracts.media import MediaRecord
from configs.contracts.read_model import put_record

pytestmark = pytest.mark.servers


async def couple(world: World) -> tuple[Person, Person, str]:
    one, other = await world.register(), await world.register("sugar_daddy")
    await one.swipe(other)
    assert (await other.swipe(one))["matched"]
    return one, other, match_id(one.user_id, other.user_id)


async def picture_of(world: World, owner: Person, version: int = 1, media_id: str = "", **changes: Any) -> str:
    """A picture in the read model, processed and approved unless told otherwise."""
    media_id = media_id or new_id()
    facts: dict[str, Any] = {
        "media_id": media_id, "owner_id": owner.user_id, "kind": "image", "state": "ready", "review": "approved",
        "width": 4, "height": 3, "derivatives": ("large.webp", "thumb.webp"), "created_at": "2026-03-01T12:00:00.000Z",
    }
    await apply_async(world.dependencies.redis, [put_media(MediaRecord(**(facts | changes)), version)])
    return media_id


async def adult(world: World, person: Person) -> None:
    facts = {"verification": "verified", "verified": True}
    await apply_async(world.dependencies.redis, [put_record(person.user_id, facts, 1 << 39)])


def body(conversation: str, *attachments: str, content: str = "", ident: str = "") -> dict[str, Any]:
    return {
        "conversationId": conversation, "content": content, "clientMessageId": ident or new_id(), "attachments": attachments,
    }


async def send(person: Person, conversation: str, *attachments: str, **more: str) -> Any:
    return await person.ok("POST", "/messaging/send", json=body(conversation, *attachments, **more))


async def shown(person: Person, conversation: str) -> list[Any]:
    """Of the newest message, as one person sees it."""
    found = await person.ok("GET", f"/messaging/conversations/{conversation}/messages")
    attachments: list[Any] = found["messages"][0]["attachments"]
    return attachments


async def test_a_picture_is_shown_to_the_other_once_it_is_approved_and_their_age_is_proved(world: World) -> None:
    one, other, conversation = await couple(world)
    media = await picture_of(world, one, review="pending")
    position = (await other.ok("GET", "/messaging/sync"))["position"]
    await send(one, conversation, media)
    assert (await shown(one, conversation))[0]["media"]["url"], "the sender sees what is theirs"
    await adult(world, other)
    assert await shown(other, conversation) == [{"mediaId": media, "media": None}]
    await picture_of(world, one, 2, media)
    [seen] = await shown(other, conversation)
    assert seen["media"]["url"].startswith("http")
    [missed] = (await other.ok("GET", "/messaging/sync", params={"since": position}))["messages"]
    assert missed["attachments"][0]["media"]["mediaId"] == media
    [listed] = (await other.ok("GET", "/messaging/conversations"))["conversations"]
    assert listed["lastMessage"]["attachments"] == [{"mediaId": media, "media": None}]
    await picture_of(world, one, 3, media, state="removed")
    for person in (one, other):
        assert await shown(person, conversation) == [{"mediaId": media, "media": None}]


async def test_whose_age_is_not_proved_sees_no_picture_of_another(world: World) -> None:
    one, other, conversation = await couple(world)
    media = await picture_of(world, one)
    await send(one, conversation, media, content="look")
    assert await shown(other, conversation) == [{"mediaId": media, "media": None}]
    assert (await other.ask("GET", f"/media/{media}")).status_code == 404


async def test_what_is_no_media_of_the_sender_is_refused_and_changes_nothing(world: World) -> None:
    one, other, conversation = await couple(world)
    mine = await picture_of(world, one)
    for wrong in (
        await picture_of(world, other), new_id(), await picture_of(world, one, state="removed"),
        await picture_of(world, one, state="rejected"), await picture_of(world, one, review="rejected"),
    ):
        answer = await one.ask("POST", "/messaging/send", json=body(conversation, mine, wrong, content="hello"))
        assert (answer.status_code, answer.json()["code"]) == (422, "media_unknown")
    for invalid in (
        body(conversation), body(conversation, mine, content="  "), body(conversation, mine, mine),
        body(conversation, *(new_id() for _ in range(5))), body(conversation, "https://example.com/x.jpg"),
    ):
        answer = await one.ask("POST", "/messaging/send", json=invalid)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), invalid
    assert (await one.ok("GET", f"/messaging/conversations/{conversation}/messages"))["messages"] == []


async def test_a_resend_gets_the_first_answer_whatever_became_of_the_picture(world: World) -> None:
    one, _, conversation = await couple(world)
    media = await picture_of(world, one)
    first = await send(one, conversation, media, ident="same")
    await picture_of(world, one, 2, media, state="removed")
    assert await send(one, conversation, media, ident="same") == first
    answer = await one.ask("POST", "/messaging/send", json=body(conversation, ident="same", content="other"))
    assert (answer.status_code, answer.json()["code"]) == (409, "content_conflict")


def test_messages_without_attachments_are_stored_as_before() -> None:
    entry = MessageEntry(new_id(), 1, new_id(), 1, "c", "text", "2026-03-01T12:00:00.000Z")
    from msgspec import json

    assert b"attachments" not in json.encode(entry)
