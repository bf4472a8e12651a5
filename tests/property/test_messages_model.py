"""A conversation's messages are numbered without gaps, once each, whatever is retried, lost, replayed, evicted, reloaded
and written by a shard that was replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from message_world import counted, entry_of, rows_of
from simulated_shard import SimulatedShard

from actors.messages import recent as remembered
from actors.messages.commands import (
    ContentConflict,
    EndConversation,
    Marked,
    MarkLater,
    MarkRead,
    NoConversation,
    NoteMatch,
    SendMessage,
    Sent,
    SeqUnknown,
)
from actors.messages.state import MessageMemory
from configs.contracts.errors import ShardUnavailable
from configs.contracts.events import Event, Matched, MessageRead, Unmatched
from configs.contracts.ids import derived_id, match_id, new_id, pair
from configs.contracts.positions import version_of
from configs.settings import Limits

LOW, HIGH = pair("00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002")
OUTSIDER = "00000000-0000-7000-8000-000000000003"
CONVERSATION = match_id(LOW, HIGH)
NO_LIMITS = Limits(messages_per_conversation_a_minute=10**9)
MEMBERS = st.sampled_from([LOW, HIGH])
TEXTS = st.sampled_from(["a", "b", "c"])


@dataclass
class Epoch:
    """The epoch of the present life."""

    number: int = 1


@dataclass
class Model:
    """What clients were told."""

    sent: dict[tuple[str, str], tuple[str, Sent]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    ended: bool = False
    asked: dict[tuple[str, str], str] = field(default_factory=dict)
    """Requests of which the client has no answer."""


class Messages(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.epoch = Epoch()
        self.shard = SimulatedShard(self.make, rows_of)
        self.model = Model()
        self.requests = 0
        assert self.ask(SendMessage(CONVERSATION, LOW, "too early", "a")) == NoConversation()
        self.append(Matched(match_id=CONVERSATION, low_id=LOW, high_id=HIGH, generation=1))

    def make(self) -> MessageMemory:
        return MessageMemory(NO_LIMITS, epoch_of=lambda key: self.epoch.number)

    def append(self, payload: Matched | Unmatched) -> None:
        """As the pair's authority does, with the tail handing it on."""
        event = Event(new_id(), self.shard.now, CONVERSATION, payload)
        self.shard.log.append((event, version_of(1, len(self.shard.log))))
        self.shard.memory.apply(*self.shard.log[-1])

    def ask(self, command: SendMessage | MarkRead) -> Any:
        """As the service does: what only rows know is asked of them; None: it is not known yet, nothing was done."""
        memory: Any = self.shard.memory
        for key in memory.needs(command):
            if not memory.known(key):
                memory.load(key, rows_of(key, self.shard.log[: self.shard.committed], self.shard.now))
        stored = counted(self.shard.log[: self.shard.committed])
        newest = stored[-1].version if stored else 0
        if isinstance(command, MarkRead):
            if memory.forgotten_place(command):
                found = stored[: command.seq]
                others = sum(fact.event.payload.sender_id != command.reader_id for fact in found)
                if memory.reaches(CONVERSATION, newest):
                    command = msgspec.structs.replace(command, ordinal=others if len(found) == command.seq else -1)
        else:
            for name, before in memory.without_older([command]):
                older = b"".join(entry_of(fact)[:8] for fact in stored[: max(0, before - 1)])
                memory.load_older(name, before, newest, older)
            if memory.perhaps_older(command):
                entry = next((entry_of(fact) for fact in stored if fact.event.payload.message_id == derived_id(
                    CONVERSATION, f"{command.sender_id}:{command.client_message_id}"
                )), b"")
                if memory.reaches(CONVERSATION, newest):
                    command = msgspec.structs.replace(command, earlier=entry)
        try:
            return self.shard.ask(command)
        except ShardUnavailable:
            return None

    def told(self, sender: str, request: str, content: str, answer: object) -> None:
        if answer is None:
            self.model.asked.setdefault((sender, request), content)
            return
        if self.model.ended:
            assert answer == NoConversation(), "a message was accepted after the end"
            return
        earlier = self.model.sent.get((sender, request))
        if earlier is not None:
            text, first = earlier
            if text != content:
                assert answer == ContentConflict()
                return
            assert isinstance(answer, Sent)
            assert not answer.recorded
            assert (answer.message_id, answer.seq, answer.ordinal, answer.sent_at) == (
                first.message_id, first.seq, first.ordinal, first.sent_at
            )
            return
        if isinstance(answer, ContentConflict):
            assert self.model.asked[(sender, request)] != content
            return
        assert isinstance(answer, Sent)
        assert answer.message_id == derived_id(CONVERSATION, f"{sender}:{request}")
        self.model.sent[(sender, request)] = (content, answer)

    def new_request(self) -> str:
        self.requests += 1
        return f"r{self.requests}"

    @rule(sender=MEMBERS, content=TEXTS)
    def send(self, sender: str, content: str) -> None:
        request = self.new_request()
        self.told(sender, request, content, self.ask(SendMessage(CONVERSATION, sender, request, content)))

    @rule(sender=MEMBERS, content=TEXTS, number=st.integers(1, 30))
    def send_again(self, sender: str, content: str, number: int) -> None:
        """A late retry, perhaps with another text, perhaps of what the other one sent."""
        request = f"r{number}"
        if (sender, request) in self.model.sent or (sender, request) in self.model.asked:
            self.told(sender, request, content, self.ask(SendMessage(CONVERSATION, sender, request, content)))

    @rule(sender=MEMBERS, content=TEXTS)
    def send_and_crash(self, sender: str, content: str) -> None:
        request = self.new_request()
        if not self.model.ended:
            self.model.asked[(sender, request)] = content
        self.epoch.number += 1
        try:
            self.shard.ask_and_crash(SendMessage(CONVERSATION, sender, request, content))
        except ShardUnavailable:
            self.shard.restart()

    @rule(sender=MEMBERS, count=st.integers(1, 3), known=st.booleans())
    def a_replaced_shard_writes_last(self, sender: str, count: int, known: bool) -> None:
        """Its messages stand in the log behind the barrier of its successor; nobody is told of them."""
        if self.model.ended:
            return
        old = self.make()
        for logged in self.shard.log:
            old.apply(*logged)
        old.load(CONVERSATION, None)
        number = self.epoch.number
        self.epoch.number += 1
        self.shard.restart()
        pending = []
        for _ in range(count):
            command = SendMessage(CONVERSATION, sender, self.new_request(), "a")
            self.model.asked[(sender, command.client_message_id)] = "a"
            self.epoch.number = number
            decision = old.decide(command, self.shard.now)
            pending.append(decision.appends[0].event)
            old.apply(pending[-1], version_of(1, len(self.shard.log) + len(pending)))
        self.epoch.number = number + 1
        if known:
            # The successor answers somebody before the others' records arrive in the log and in its tail.
            self.send(HIGH if sender == LOW else LOW, "b")
        for event in pending:
            self.shard.log.append((event, version_of(1, len(self.shard.log))))
        if not known:
            # In the log already, not yet in the tail.
            self.send(HIGH if sender == LOW else LOW, "b")
        for logged in self.shard.log[-count - 1 :]:
            self.shard.memory.apply(*logged)

    @rule(reader=MEMBERS, back=st.integers(-1, 5))
    def read(self, reader: str, back: int) -> None:
        last = len(counted(self.shard.log))
        seq = max(0, last - back)
        before = max((event.payload.seq for event, _ in self.shard.log
                      if isinstance(event.payload, MessageRead) and event.payload.reader_id == reader), default=0)
        answer = self.ask(MarkRead(CONVERSATION, reader, seq))
        if answer is None:
            return
        if self.model.ended:
            assert answer == NoConversation()
        elif isinstance(answer, SeqUnknown):
            assert seq > last or seq <= before
        elif not isinstance(answer, MarkLater):
            assert isinstance(answer, Marked)
            assert answer.seq >= max(seq, self.model.read.get(reader, 0)), "a read mark moved backwards"
            self.model.read[reader] = answer.seq
            if answer.recorded:
                messages = counted(self.shard.log)
                others = sum(fact.event.payload.sender_id != reader for fact in messages[: answer.seq])
                assert answer.ordinal == others, "unread counts are wrong"

    @rule(user=st.just(OUTSIDER))
    def outsider(self, user: str) -> None:
        before = len(self.shard.log)
        assert self.shard.ask(SendMessage(CONVERSATION, user, "x", "a")) == NoConversation()
        assert self.shard.ask(MarkRead(CONVERSATION, user, 1)) == NoConversation()
        assert len(self.shard.log) == before

    @rule(reason=st.sampled_from(["unmatched", "blocked"]))
    def end(self, reason: str) -> None:
        if len(self.shard.log) < 15:
            return
        event = Unmatched(
            match_id=CONVERSATION, low_id=LOW, high_id=HIGH, generation=1, ended_by=LOW, reason=reason  # type: ignore[arg-type]
        )
        self.shard.log.append((Event(new_id(), self.shard.now, CONVERSATION, event), version_of(1, len(self.shard.log))))
        self.shard.memory.end(EndConversation(CONVERSATION, 1, reason, self.shard.log[-1][1]))  # type: ignore[arg-type, attr-defined]
        self.model.ended = True

    @rule()
    def told_of_the_match_late(self) -> None:
        self.shard.memory.note(NoteMatch(CONVERSATION, LOW, HIGH, 1, self.shard.log[0][1]))  # type: ignore[attr-defined]

    @rule()
    def crash(self) -> None:
        self.epoch.number += 1
        self.shard.restart()

    @rule(records=st.integers(0, 30))
    def rows_follow(self, records: int) -> None:
        self.shard.commit(records)

    @rule()
    def evict(self) -> None:
        self.shard.evict()

    @rule(index=st.integers(0, 60))
    def tail_repeats(self, index: int) -> None:
        self.shard.repeat(index)

    @rule(seconds=st.sampled_from([0.1, 2.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.shard.pass_time(seconds)

    @invariant()
    def numbers_have_no_gaps(self) -> None:
        seqs = [fact.event.payload.seq for fact in counted(self.shard.log)]
        assert seqs == list(range(1, len(seqs) + 1))

    @invariant()
    def what_was_acknowledged_stands_once(self) -> None:
        stored = {fact.event.payload.message_id: fact for fact in counted(self.shard.log)}
        assert len(stored) == len(counted(self.shard.log)), "a message stands twice"
        for content, answer in self.model.sent.values():
            payload = stored[answer.message_id].event.payload
            assert (payload.seq, payload.ordinal, payload.content) == (answer.seq, answer.ordinal, content)

    @invariant()
    def ordinals_count(self) -> None:
        sent: Mapping[str, list[int]] = {LOW: [], HIGH: []}
        for fact in counted(self.shard.log):
            sent[fact.event.payload.sender_id].append(fact.event.payload.ordinal)
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in sent.values())


class Forgetful(Messages):
    """With a memory of three messages, so that most requests and marks are older than it."""

    def __init__(self) -> None:
        self._usual = remembered.RECENT_MESSAGES, remembered._SLACK
        remembered.RECENT_MESSAGES, remembered._SLACK = 3, 1  # type: ignore[misc]
        super().__init__()

    def teardown(self) -> None:
        remembered.RECENT_MESSAGES, remembered._SLACK = self._usual  # type: ignore[misc]


TestMessages = Messages.TestCase
TestMessages.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestForgetful = Forgetful.TestCase
TestForgetful.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
