"""A conversation's service on a simulated log: limits, read marks and their coalescing, what is older than its memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conversation_world import CONVERSATION, HIGH, LOW, PARTITIONS, World

from actors.messages import state
from actors.messages.admission import Admitted, Sending
from actors.messages.client import ConversationsClient
from actors.messages.commands import (
    ContentConflict,
    HoldConversation,
    Look,
    Marked,
    Member,
    NoConversation,
    NoteMatch,
    SendMessage,
    Sent,
    SeqUnknown,
    TooManyMessages,
)
from actors.messages.conversation import Conversation
from actors.messages.older import BITS, Older
from actors.messages.recent import Numbered, Recent, content_digest, request_digest
from actors.messages.shard import MessageService
from actors.messages.state import MessageMemory, message_id
from configs.contracts.errors import DependencyUnavailable, ShardUnavailable
from configs.contracts.ids import match_id, new_id, pair, partition_of
from configs.contracts.loading import RECENT_MESSAGES, ConversationRow
from configs.settings import Limits


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    made.match()
    await made.start()
    yield made
    await made.close()


async def test_a_senders_rate_is_limited_in_one_conversation() -> None:
    world = World(messages_per_conversation_a_minute=2)
    world.match()
    await world.start()
    first = await world.send(request="r")
    await world.send()
    refused = await world.send()
    assert isinstance(refused, TooManyMessages)
    assert refused.retry_after_s == 30
    assert (await world.send(request="r")).message_id == first.message_id, "a repeated request is always answered"
    assert (await world.send(HIGH)).seq == 3, "the other side has a rate of its own"
    world.now += timedelta(seconds=30)
    assert (await world.send()).seq == 4
    await world.close()


async def test_only_new_messages_of_members_count_for_their_senders_rate_and_those_beyond_it_are_refused() -> None:
    asked: list[dict[str, int]] = []

    async def admit(conversations: Sequence[Sending]) -> list[Admitted]:
        [sending] = conversations
        assert sending.members == (LOW, HIGH)
        asked.append(dict(sending.counts))
        return [Admitted(False, dict.fromkeys(sending.counts, (1, 39_100)))]

    world = World(messages_per_conversation_a_minute=2)
    world.admit = admit
    world.match()
    await world.start()
    first = await world.send(request="r")
    answers: Sequence[Any] = await world.service.send([
        SendMessage(CONVERSATION, sender, request, "hello")
        for sender, request in ((LOW, "r"), (LOW, "s"), (LOW, "t"), (new_id(), "u"), (HIGH, "v"))
    ])
    assert asked == [{LOW: 1}, {LOW: 2, HIGH: 1}]
    assert [type(answer) for answer in answers] == [Sent, Sent, TooManyMessages, NoConversation, Sent]
    assert answers[0].message_id == first.message_id, "a repeated request is always answered"
    assert answers[2].retry_after_s == 40
    assert isinstance(await world.send(), TooManyMessages), "beyond the conversation's own rate"
    assert asked[-1] == {}, "what that refuses does not count"
    await world.close()


async def test_whom_nobody_can_tell_of_waits_and_the_others_of_the_batch_do_not() -> None:
    world = World()
    other = new_id()
    low, high = pair(LOW, other)
    closed = match_id(LOW, other)
    away = DependencyUnavailable("a node of Redis is rebuilt")

    async def admit(conversations: Sequence[Sending]) -> list[Admitted | DependencyUnavailable]:
        return [
            away if other in sending.members else Admitted(False, dict.fromkeys(sending.counts, (9, 0)))
            for sending in conversations
        ]

    async def unknown(sent: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        raise DependencyUnavailable("and that of media")

    world.admit = admit
    world.match()
    world.unknown = unknown
    await world.start()
    await world.service.note_match([NoteMatch(closed, low, high, 1, 1)])
    answers: Sequence[Any] = await world.service.send([
        SendMessage(closed, LOW, "a", "hello"), SendMessage(CONVERSATION, LOW, "b", "hello"),
        SendMessage(CONVERSATION, LOW, "c", "look", ("media",)), SendMessage(CONVERSATION, LOW, "d", "bye"),
    ])
    assert answers[0] is away
    assert isinstance(answers[2], DependencyUnavailable)
    assert [answers[index].seq for index in (1, 3)] == [1, 2]
    assert len(world.messages()) == 2
    await world.close()


async def test_a_clock_that_goes_back_reorders_nothing_and_keeps_nobody_waiting() -> None:
    world = World(messages_per_conversation_a_minute=2)
    world.match()
    await world.start()
    before = [await world.send(), await world.send()]
    assert isinstance(await world.send(), TooManyMessages)
    world.now -= timedelta(hours=1)
    after = await world.send()
    assert (after.seq, after.sent_at) == (3, before[1].sent_at), "a later message is never older"
    world.now += timedelta(hours=1, minutes=2)
    assert [type(await world.send()) for _ in range(3)] == [Sent, Sent, TooManyMessages]
    await world.close()


async def test_a_clock_that_goes_back_keeps_no_read_mark_waiting(world: World) -> None:
    for _ in range(3):
        await world.send(LOW)
    assert (await world.read(HIGH, 1)).recorded
    world.now -= timedelta(hours=1)
    assert (await world.read(HIGH, 2)).recorded
    world.now += timedelta(hours=2)
    assert (await world.read(HIGH, 3)).recorded


async def test_read_marks_only_move_forward_and_not_past_the_last_message(world: World) -> None:
    for sender in (LOW, LOW, HIGH, LOW):
        await world.send(sender)
    assert await world.read(HIGH, 5) == SeqUnknown(4)
    marked = await world.read(HIGH, 3)
    assert (marked.seq, marked.ordinal, marked.recorded) == (3, 2, True)
    world.now += timedelta(seconds=2)
    assert await world.read(HIGH, 1) == Marked(3, 2, LOW)
    assert [(mark.seq, mark.ordinal) for mark in world.marks()] == [(3, 2)]
    assert await world.service.look([Look(CONVERSATION, LOW)]) == [Member(HIGH, 4, 0, 3)]
    assert await world.service.look([Look(CONVERSATION, HIGH)]) == [Member(LOW, 4, 3, 0)]


class OneService:
    """An ``ActorPool`` over one service."""

    def __init__(self, service: MessageService) -> None:
        self._service = service

    def shard_of(self, key: str) -> int:
        return partition_of(key, PARTITIONS)

    async def ask(self, service: str, shard: int, method: str, command: Any, *, traceparent: str | None = None) -> Any:
        [answer] = await getattr(self._service, method)([command])
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_marks_within_a_second_are_one_event_and_all_are_answered_when_it_is_durable(world: World) -> None:
    for _ in range(6):
        await world.send()
    client = ConversationsClient(OneService(world.service))  # type: ignore[arg-type]
    first = await client.read(CONVERSATION, HIGH, 1)
    assert isinstance(first, Marked)
    assert first.recorded
    waiting = [asyncio.create_task(client.read(CONVERSATION, HIGH, seq)) for seq in (2, 5, 3)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting)
    assert len(world.marks()) == 1
    world.now += timedelta(seconds=1)
    assert {answer.seq for answer in await asyncio.gather(*waiting)} == {5}  # type: ignore[union-attr]
    assert [mark.seq for mark in world.marks()] == [1, 5]


async def test_a_mark_older_than_the_memory_is_counted_by_the_rows() -> None:
    world = World()
    at = world.now - timedelta(days=1)
    packed = b"".join(
        Numbered(request_digest(LOW, f"r{seq}"), content_digest("x"), seq, seq, False, 1, at).packed()
        for seq in range(1_001, 1_257)
    )
    world.rows.rows[CONVERSATION] = ConversationRow(CONVERSATION, LOW, HIGH, "active", 1, packed, {HIGH: (4, 2)})
    await world.start()
    assert await world.read(HIGH, 4) == Marked(4, 2, LOW)
    assert (await world.read(HIGH, 500)).ordinal == 250
    assert world.rows.counts == [(CONVERSATION, 500, HIGH)]
    world.now += timedelta(seconds=2)
    assert (await world.read(HIGH, 1_100)).ordinal == 1_100
    assert (await world.send(request="r1200", content="x")).seq == 1_200
    await world.close()


def numbered(seq: int, at: datetime) -> bytes:
    return Numbered(request_digest(LOW, f"r{seq}"), content_digest("x"), seq, seq, False, 1, at).packed()


async def test_a_request_older_than_the_memory_gets_its_first_answer_from_the_rows() -> None:
    world = World()
    at = world.now - timedelta(days=1)
    everything = {seq: numbered(seq, at) for seq in range(1, 1_257)}
    recent = b"".join(everything[seq] for seq in range(1_001, 1_257))
    world.rows.older = everything
    world.rows.by_id = {message_id(CONVERSATION, LOW, f"r{seq}"): entry for seq, entry in everything.items()}
    world.rows.rows[CONVERSATION] = ConversationRow(CONVERSATION, LOW, HIGH, "active", 1, recent, {})
    await world.start()
    first = await world.send(request="r900", content="x")
    assert (first.seq, first.sent_at, first.recorded) == (900, at, False)
    assert await world.send(request="r900", content="another text") == ContentConflict()
    assert not world.messages()
    for number in range(50):
        assert (await world.send(request=f"new {number}")).seq == 1_257 + number
    assert world.rows.asked_older == 1, "the rows are asked once for what was sent before"
    assert len(world.rows.looked_for) < 2 + 20, "a new request is hardly ever looked for"
    for number in range(50, 400):
        await world.send(request=f"new {number}")
    while not isinstance(last := await world.send(request=(name := new_id())), Sent):
        pass
    assert isinstance(await world.send(request="new 3"), ShardUnavailable), "the rows do not hold it yet"
    world.rows.away = True
    assert isinstance(await world.send(request="new 3"), ShardUnavailable)
    assert (await world.send(request=name)).seq == last.seq, "what is remembered needs no rows"
    world.rows.away = False
    fourth = Numbered(request_digest(LOW, "new 3"), content_digest("hello"), 1_260, 1_260, False, 1, at).packed()
    world.rows.by_id[message_id(CONVERSATION, LOW, "new 3")] = fourth
    assert isinstance(await world.send(request="new 3"), ShardUnavailable), "what stands there may still be displaced"
    world.rows.stored = 1 << 62
    assert (await world.send(request="new 3")).seq == 1_260
    await world.close()


async def test_the_messages_of_the_last_minute_in_rows_count_for_rates() -> None:
    world = World(messages_per_conversation_a_minute=2)
    recent = b"".join(numbered(seq, world.now - timedelta(seconds=20 * (4 - seq))) for seq in (1, 2, 3))
    world.rows.rows[CONVERSATION] = ConversationRow(CONVERSATION, LOW, HIGH, "active", 1, recent, {})
    await world.start()
    assert isinstance(await world.send(), TooManyMessages), "a restart forgot what had been sent"
    assert (await world.send(HIGH)).seq == 4
    await world.close()


async def test_messages_that_only_the_log_holds_count_for_rates_after_a_restart() -> None:
    world = World(messages_per_conversation_a_minute=3)
    world.match()
    await world.start()
    for _ in range(3):
        await world.send()
    await world.start()
    assert isinstance(await world.send(), TooManyMessages), "a restart forgot what had been sent"
    assert (await world.send(HIGH)).seq == 4
    await world.close()


def test_a_filter_of_requests_forgets_none_and_hardly_names_others() -> None:
    digests = [request_digest(LOW, str(number)) for number in range(6_000)]
    older = Older()
    for size, digest in enumerate(digests, 1):
        older.add(digest)
        if size in (10, 700, 3_000, 6_000):
            assert all(known in older for known in digests[:size])
            wrong = sum(request_digest(HIGH, str(number)) in older for number in range(2_000))
            assert wrong < 2_000 * 0.15
    loaded = Older(digests)
    assert sum(request_digest(HIGH, str(number)) in loaded for number in range(2_000)) < 2_000 * 0.03
    assert older.__sizeof__() <= 8_192
    assert digests[0] in Older.everything()


def test_a_conversation_without_forgotten_messages_has_no_filter_of_requests() -> None:
    older = Conversation().recent.older
    assert older is not None
    assert older.__sizeof__() == 0
    assert request_digest(LOW, "r") not in older
    older.add(request_digest(LOW, "r"))
    assert request_digest(LOW, "r") in older
    assert older.__sizeof__() == BITS // 8


def test_the_memory_that_conversations_take_is_told() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        memory = MessageMemory(Limits(), epoch_of=lambda key: 1)
        taken = tracemalloc.get_traced_memory()[0] - before
        for number in range(60):
            low, high = pair(new_id(), new_id())
            conversation = memory._use(match_id(low, high))
            conversation.load(None)
            conversation.joined(low, high)
            for seq in range(1, 3 + number * 20):
                conversation.recent.add(Numbered(seq.to_bytes(8), bytes(8), seq, seq, False, 1, at))
        taken = tracemalloc.get_traced_memory()[0] - before - taken
    finally:
        tracemalloc.stop()
    assert taken > 500_000
    assert memory.nbytes() == pytest.approx(taken, rel=0.1)


def test_a_long_conversation_keeps_its_newest_messages_in_one_buffer() -> None:
    """One of another size every minute left holes in the heap, so that a shard's memory grew with its messages."""
    recent, at, sizes = Recent(), datetime(2026, 1, 1, tzinfo=UTC), set()
    for seq in range(1, 8 * RECENT_MESSAGES):
        recent.add(Numbered(seq.to_bytes(8), bytes(8), seq, seq, False, 1, at))
        if seq > 2 * RECENT_MESSAGES:
            sizes.add(recent.__sizeof__())
    assert len(sizes) == 1
    assert len(recent) >= RECENT_MESSAGES
    for place in range(len(recent)):
        seq = recent.first_seq + place
        assert (found := recent.number(seq)) is not None
        assert (found.seq, found.request) == (seq, seq.to_bytes(8))
    assert recent.forgot == recent.first_seq - 1


async def test_ids_of_no_conversation_take_bounded_memory_and_displace_nobody(world: World) -> None:
    await world.send()
    tracemalloc.start()
    for _ in range(30):
        looks = await world.service.look([Look(new_id(), LOW) for _ in range(500)])
        assert looks == [NoConversation()] * 500
    [unknown] = await world.service.send([SendMessage(new_id(), LOW, "r", "x")])
    assert unknown == NoConversation()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 8_000_000, "whoever asks for random ids fills the shard's memory"
    assert world.service.memory.entries() == 1
    assert world.service.memory.forget(1, lambda topic, key: 1 << 60) == 0, "a real conversation had to go"
    assert world.service.memory.known(CONVERSATION)


async def test_a_match_is_found_whether_or_not_the_shard_remembers_that_it_was_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "ABSENT", 2)
    for others in (0, 5):
        for how in ("rows", "told", "held and told"):
            world = World()
            await world.start()
            assert await world.send() == NoConversation()
            await world.service.look([Look(new_id(), LOW) for _ in range(others)])
            if how == "rows":
                world.rows.rows[CONVERSATION] = ConversationRow(CONVERSATION, LOW, HIGH, "active", 1, b"", {})
                world.now += timedelta(seconds=1)
            else:
                if how == "held and told":
                    await world.service.hold([HoldConversation(CONVERSATION)])
                await world.service.note_match([NoteMatch(CONVERSATION, LOW, HIGH, 1, 7)])
            await world.service.look([Look(new_id(), LOW) for _ in range(others)])
            assert (await world.send()).seq == 1
            await world.close()


async def test_conversations_are_forgotten_only_when_the_rows_hold_all_their_topics(world: World) -> None:
    await world.send()
    await world.read(HIGH, 1)
    everything = dict.fromkeys(("messaging.message_sent", "messaging.message_read", "matching.matched"), 1 << 60)
    for topic in everything:
        behind = everything | {topic: 0}
        assert world.service.memory.forget(0, lambda name, key, behind=behind: behind[name]) == 0  # type: ignore[misc]
    assert world.service.memory.forget(0, lambda name, key: everything[name]) == 1
