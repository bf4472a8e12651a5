"""A conversation's service on a simulated log: order of turns, ends, holds, limits, read marks and their coalescing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from simulated_log import SimulatedAppender, SimulatedLog, SimulatedTail

from actors.messages.admission import Admitted, Sending
from actors.messages.client import ConversationsClient
from actors.messages.commands import (
    AttachmentUnknown,
    ContentConflict,
    EndConversation,
    Ended,
    HasMessages,
    Held,
    HoldConversation,
    Look,
    Marked,
    MarkRead,
    Member,
    NoConversation,
    NoteMatch,
    ReleaseConversation,
    SendMessage,
    Sent,
    SeqUnknown,
    TooManyMessages,
)
from actors.messages.older import Older
from actors.messages.preparing import Admit, Unknown, everything, no_media
from actors.messages.recent import Numbered, content_digest, request_digest
from actors.messages.shard import MessageService
from actors.messages.state import message_id
from cluster.connections.kafka import Record
from configs.contracts.errors import DependencyUnavailable, LogUnavailable, ShardUnavailable
from configs.contracts.events import Event, Matched, Unmatched, encode
from configs.contracts.ids import match_id, new_id, pair, partition_of
from configs.contracts.loading import ConversationRow
from configs.contracts.topics import MATCHING_MATCHED, MESSAGING_MESSAGE_READ, MESSAGING_MESSAGE_SENT
from configs.settings import Limits, Log, Plan, Settings

LOW, HIGH = pair(new_id(), new_id())
CONVERSATION = match_id(LOW, HIGH)
PARTITIONS = 2


class Rows:
    """A loader without rows, but those that a test puts there."""

    def __init__(self) -> None:
        self.rows: dict[str, ConversationRow] = {}
        self.counts: list[tuple[str, int, str]] = []
        self.epochs = 0
        self.older: dict[int, bytes] = {}
        self.by_id: dict[str, bytes] = {}
        self.asked_older = 0
        self.looked_for: list[str] = []
        self.away = False
        self.stored = 0
        """The version of the last message in rows."""

    async def positions(self, topics: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        return {}

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        self.epochs += 1
        return dict.fromkeys(shards, self.epochs)

    async def conversations(self, conversation_ids: Sequence[str]) -> Mapping[str, ConversationRow]:
        return {name: self.rows[name] for name in conversation_ids if name in self.rows}

    async def older_requests(self, places: Sequence[tuple[str, int]]) -> Sequence[tuple[int, bytes]]:
        self.asked_older += 1
        return [
            (self.stored, b"".join(entry[:8] for seq, entry in self.older.items() if seq < before))
            for _, before in places
        ]

    async def sent(self, places: Sequence[tuple[str, str]]) -> Sequence[tuple[int, bytes]]:
        if self.away:
            raise DependencyUnavailable("away")
        self.looked_for += [ident for _, ident in places]
        return [(self.stored, self.by_id.get(ident, b"")) for _, ident in places]

    async def ordinals(self, places: Sequence[tuple[str, int, str]]) -> Sequence[tuple[int, int]]:
        self.counts += places
        return [(self.stored, seq // 2) for _, seq, _ in places]


class World:
    def __init__(self, *, append_deadline_ms: int = 30_000, **limits: int) -> None:
        self.settings = Settings(
            profile="test", plan=Plan(), log=Log(partitions=PARTITIONS, append_deadline_ms=append_deadline_ms),
            limits=Limits(**{"messages_per_conversation_a_minute": 1_000} | limits),
        )
        self.log = SimulatedLog()
        self.rows = Rows()
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.died: list[str] = []
        self.lives: list[tuple[MessageService, SimulatedAppender]] = []
        self.admit: Admit = everything
        self.unknown: Unknown = no_media

    async def start(self) -> MessageService:
        appender = SimulatedAppender(self.log)
        service = MessageService(
            settings=self.settings, shards=range(PARTITIONS), appender=appender, loader=self.rows,  # type: ignore[arg-type]
            die=self.died.append, clock=lambda: self.now, admit=self.admit, unknown=lambda sent: self.unknown(sent),
            tail=lambda feeds, label: SimulatedTail(self.log, feeds, label),  # type: ignore[arg-type, return-value]
        )
        self.lives.append((service, appender))
        await service.start()
        return service

    @property
    def service(self) -> MessageService:
        return self.lives[-1][0]

    @property
    def appender(self) -> SimulatedAppender:
        return self.lives[-1][1]

    def recorded(self, payload: Matched | Unmatched) -> int:
        """As the pair's authority appends it."""
        event = Event(new_id(), self.now, payload.match_id, payload)
        partition = partition_of(payload.match_id, PARTITIONS)
        record = Record(MATCHING_MATCHED.name, partition, payload.match_id, encode(event))
        return self.log.append([record])[0]

    def match(self, generation: int = 1) -> None:
        self.recorded(Matched(match_id=CONVERSATION, low_id=LOW, high_id=HIGH, generation=generation))

    def unmatch(self) -> None:
        self.recorded(Unmatched(
            match_id=CONVERSATION, low_id=LOW, high_id=HIGH, generation=1, ended_by=LOW, reason="unmatched"
        ))

    async def send(self, sender: str = LOW, request: str | None = None, content: str = "hello") -> Any:
        [answer] = await self.service.send([SendMessage(CONVERSATION, sender, request or new_id(), content)])
        return answer

    async def read(self, reader: str, seq: int) -> Any:
        [answer] = await self.service.read([MarkRead(CONVERSATION, reader, seq)])
        return answer

    def messages(self) -> list[Any]:
        return [event.payload for _, _, event in self.log.events(MESSAGING_MESSAGE_SENT.name)]

    def marks(self) -> list[Any]:
        return [event.payload for _, _, event in self.log.events(MESSAGING_MESSAGE_READ.name)]

    async def close(self) -> None:
        for service, _ in self.lives:
            await service.close()


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


async def test_conversations_are_forgotten_only_when_the_rows_hold_all_their_topics(world: World) -> None:
    await world.send()
    await world.read(HIGH, 1)
    everything = dict.fromkeys(("messaging.message_sent", "messaging.message_read", "matching.matched"), 1 << 60)
    for topic in everything:
        behind = everything | {topic: 0}
        assert world.service.memory.forget(0, lambda name, key, behind=behind: behind[name]) == 0  # type: ignore[misc]
    assert world.service.memory.forget(0, lambda name, key: everything[name]) == 1
