"""A conversation's service on a simulated log: order of turns, ends, holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from conversation_world import CONVERSATION, HIGH, LOW, World

from actors.messages.commands import (
    AttachmentUnknown,
    ContentConflict,
    EndConversation,
    Ended,
    HasMessages,
    Held,
    HoldConversation,
    Look,
    NoConversation,
    NoteMatch,
    ReleaseConversation,
    SendMessage,
    Sent,
)
from configs.contracts.errors import LogUnavailable, ShardUnavailable
from configs.contracts.events import Matched
from configs.contracts.ids import match_id, new_id
from configs.contracts.loading import ConversationRow


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    made.match()
    await made.start()
    yield made
    await made.close()


async def test_messages_of_both_sides_are_numbered_in_one_order_and_durable_when_answered(world: World) -> None:
    answers = await world.service.send([
        SendMessage(CONVERSATION, sender, request, request) for sender, request in
        ((LOW, "a"), (HIGH, "b"), (LOW, "c"), (HIGH, "a"))
    ])
    assert [(answer.seq, answer.ordinal) for answer in answers] == [(1, 1), (2, 1), (3, 2), (4, 2)]  # type: ignore[union-attr]
    assert [payload.seq for payload in world.messages()] == [1, 2, 3, 4]
    assert len({answer.message_id for answer in answers}) == 4, "requests are named per sender"  # type: ignore[union-attr]
    assert world.messages()[0].recipient_id == HIGH


async def test_a_repeated_request_gets_the_first_answer_and_another_text_is_a_conflict(world: World) -> None:
    first = await world.send(request="r")
    await world.send(HIGH)
    world.now += timedelta(seconds=5)
    again = await world.send(request="r")
    assert (again.message_id, again.seq, again.sent_at, again.recorded) == (first.message_id, 1, first.sent_at, False)
    assert await world.send(request="r", content="other") == ContentConflict()
    assert (await world.send(HIGH, request="r", content="other")).seq == 3, "the other side's requests are its own"
    assert len(world.messages()) == 3


async def test_an_attachment_that_may_not_be_sent_is_refused_and_a_repetition_is_not(world: World) -> None:
    mine, lost = new_id(), set[str]()

    async def unknown(sent: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        return frozenset((person, media) for person, media in sent if media != mine or media in lost)

    world.unknown = unknown

    async def send(request: str, *attachments: str, content: str = "") -> Any:
        [answer] = await world.service.send([SendMessage(CONVERSATION, LOW, request, content, attachments)])
        return answer

    assert await send("r1", mine, new_id()) == AttachmentUnknown()
    assert world.messages() == []
    first = await send("r1", mine)
    assert world.messages()[0].attachments == (mine,)
    assert await send("r1", mine, content="with a text") == ContentConflict()
    assert await send("r1") == ContentConflict(), "the same without its attachment"
    lost.add(mine)
    assert (await send("r1", mine)).seq == first.seq, "what was sent stays sent"
    assert await send("r2", mine) == AttachmentUnknown()
    await world.start()
    assert (await send("r1", mine)).seq == first.seq


async def test_a_new_life_goes_on_with_the_next_number_and_knows_every_request(world: World) -> None:
    first = await world.send(request="r")
    await world.start()
    assert (await world.send(request="r")).seq == first.seq
    assert (await world.send()).seq == 2
    assert [payload.epoch for payload in world.messages()] == [1, 2]


async def test_a_life_that_sees_its_successor_ends(world: World) -> None:
    await world.start()
    async with asyncio.timeout(30):
        while not world.died:
            await asyncio.sleep(0.01)
    assert set(world.died) == {"replaced by epoch 2"}


async def test_outsiders_and_unknown_conversations_are_answered_alike_and_append_nothing(world: World) -> None:
    assert await world.send(new_id()) == NoConversation()
    assert await world.read(new_id(), 1) == NoConversation()
    [unknown] = await world.service.send([SendMessage(match_id(LOW, new_id()), LOW, "r", "x")])
    assert unknown == NoConversation()
    looks = await world.service.look([Look(CONVERSATION, new_id()), Look(match_id(LOW, new_id()), LOW)])
    assert looks == [NoConversation(), NoConversation()]
    assert world.messages() == []


async def test_a_match_is_open_at_once_when_somebody_was_told_of_it() -> None:
    world = World()
    await world.start()
    assert await world.send() == NoConversation()
    await world.service.note_match([NoteMatch(CONVERSATION, LOW, HIGH, 1, 7)])
    assert (await world.send()).seq == 1
    await world.close()


async def test_a_match_is_open_as_soon_as_rows_hold_it_even_for_somebody_who_asked_before() -> None:
    world = World()
    await world.start()
    assert await world.send() == NoConversation()
    world.rows.rows[CONVERSATION] = ConversationRow(CONVERSATION, LOW, HIGH, "active", 1, b"", {})
    assert (await world.send()).seq == 1
    await world.close()
    ended = World()
    await ended.start()
    await ended.service.end([EndConversation(CONVERSATION, 1, "unmatched", 1)])
    assert await ended.send() == NoConversation()
    ended.rows.rows[CONVERSATION] = ConversationRow(CONVERSATION, LOW, HIGH, "active", 1, b"", {})
    ended.now += timedelta(seconds=1)
    assert await ended.send() == NoConversation(), "rows that are behind reopen nothing"
    await ended.close()


async def test_after_the_end_no_message_is_accepted_not_even_by_a_late_word_of_the_match(world: World) -> None:
    await world.send(request="r")
    world.unmatch()
    assert await world.service.end([EndConversation(CONVERSATION, 1, "unmatched", 1)]) == [Ended()]
    await world.service.note_match([NoteMatch(CONVERSATION, LOW, HIGH, 1, 0)])
    assert await world.send() == NoConversation()
    assert await world.send(request="r") == NoConversation()
    assert await world.read(HIGH, 1) == NoConversation()
    await world.start()
    assert await world.send() == NoConversation()
    assert len(world.messages()) == 1


async def test_the_end_is_answered_after_every_message_that_was_decided_before_it(world: World) -> None:
    await world.send()
    world.appender.mode = "late"
    sending = asyncio.create_task(world.send())
    while not world.appender.blocked:
        await asyncio.sleep(0.01)
    ending = asyncio.create_task(world.service.end([EndConversation(CONVERSATION, 1, "unmatched", 1)]))
    await asyncio.sleep(0.01)
    assert not ending.done()
    world.appender.release()
    assert isinstance(await sending, Sent)
    assert await ending == [Ended()]


async def test_an_end_is_refused_while_a_message_may_still_arrive() -> None:
    world = World(append_deadline_ms=500)
    world.match()
    await world.start()
    await world.send()
    world.appender.mode = "late"
    assert isinstance(await world.send(), LogUnavailable)
    [answer] = await world.service.end([EndConversation(CONVERSATION, 1, "unmatched", 1)])
    assert isinstance(answer, ShardUnavailable)
    world.appender.release()
    while world.service.describe()["unsettled"]:
        await asyncio.sleep(0.01)
    assert await world.service.end([EndConversation(CONVERSATION, 1, "unmatched", 1)]) == [Ended()]
    assert await world.send() == NoConversation()
    await world.close()


async def test_a_hold_keeps_messages_out_until_it_is_released_or_over(world: World) -> None:
    assert await world.service.hold([HoldConversation(CONVERSATION)]) == [Held()]
    assert isinstance(await world.send(), ShardUnavailable)
    await world.service.release([ReleaseConversation(CONVERSATION)])
    assert (await world.send()).seq == 1
    assert await world.service.hold([HoldConversation(CONVERSATION)]) == [HasMessages()]
    assert (await world.send()).seq == 2, "a refused hold holds nothing"


async def test_a_hold_ends_by_itself_and_with_the_next_match(world: World) -> None:
    await world.service.hold([HoldConversation(CONVERSATION)])
    world.now += timedelta(seconds=world.settings.limits.undo_hold_s)
    assert (await world.send()).seq == 1
    other = World()
    other.match()
    await other.start()
    await other.service.hold([HoldConversation(CONVERSATION)])
    await other.service.end([EndConversation(CONVERSATION, 1, "undone", 1)])
    assert await other.send() == NoConversation()
    await other.service.note_match([NoteMatch(CONVERSATION, LOW, HIGH, 2, 3)])
    assert (await other.send()).seq == 1
    await world.close()
    await other.close()


async def test_a_hold_outlives_the_shard_that_gave_it(world: World) -> None:
    assert await world.service.hold([HoldConversation(CONVERSATION)]) == [Held()]
    await world.start()
    assert isinstance(await world.send(), ShardUnavailable), "a killed shard let a message in while the match was undone"
    world.now += timedelta(seconds=world.settings.limits.undo_hold_s)
    assert (await world.send()).seq == 1
    await world.start()
    assert (await world.send()).seq == 2, "a conversation with messages was held by nobody"


async def test_a_match_made_after_a_restart_takes_messages_at_once(world: World) -> None:
    await world.start()
    assert isinstance(await world.send(), ShardUnavailable)
    version = world.recorded(Matched(match_id=CONVERSATION, low_id=LOW, high_id=HIGH, generation=2))
    await world.service.note_match([NoteMatch(CONVERSATION, LOW, HIGH, 2, 1 << 40 | version)])
    assert (await world.send()).seq == 1


async def test_a_held_conversation_is_not_forgotten(world: World) -> None:
    await world.service.hold([HoldConversation(CONVERSATION)])
    assert world.service.memory.forget(0, lambda topic, key: 1 << 60, world.now) == 0
    assert world.service.memory.forget(0, lambda topic, key: 1 << 60, world.now + timedelta(seconds=60)) == 1
