"""Pure decisions on messages and read marks, rebuilt from rows and the log.

Merging needs no order: of two messages with one number the later epoch's counts, read marks and the state of a match
only move forward. So late, repeated and foreign events are harmless.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from actors.entries import Entries
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
    MarkLater,
    MarkRead,
    Member,
    NoConversation,
    NoteMatch,
    SendMessage,
    Sent,
    SeqUnknown,
    TooManyMessages,
)
from actors.messages.conversation import ACTIVE, LONG_AGO, UNREAD, Conversation
from actors.messages.older import Older
from actors.messages.rates import Rates
from actors.messages.recent import Numbered, content_digest, request_digest
from actors.sharding.memory import Append, Decision
from configs.contracts.errors import ShardUnavailable
from configs.contracts.events import Event, Matched, MessageRead, MessageSent, Unmatched
from configs.contracts.ids import derived_id, new_id
from configs.contracts.loading import OLDER_REQUESTS, PAIR_CODES, ConversationRow
from configs.contracts.topics import (
    MATCHING_MATCHED,
    MESSAGING_MESSAGE_READ,
    MESSAGING_MESSAGE_SENT,
)
from configs.settings import Limits

Command = SendMessage | MarkRead | EndConversation | HoldConversation
Answer = (
    Sent | NoConversation | ContentConflict | AttachmentUnknown | TooManyMessages | Marked | MarkLater | SeqUnknown | Ended | Held | HasMessages
)

MARK_EVERY: Final = timedelta(seconds=1)
LOOK_AGAIN: Final = timedelta(seconds=0.2)
"""Between two looks for a conversation that is not there."""
ABSENT: Final = 10_000
"""Ids of no conversation that are remembered, some 200 bytes each; about 20 batches of rows, so that one is remembered while
its command waits for its turn."""


def message_id(conversation_id: str, sender_id: str, client_message_id: str) -> str:
    """The id of a message, the same on every repetition of its request."""
    return derived_id(conversation_id, f"{sender_id}:{client_message_id}")


class MessageMemory:
    """Conversations in memory. ``epoch_of`` tells the epoch under which a conversation's shard writes.

    An evicted conversation's rates begin with what the rows hold of its last minute. Ids of which neither rows nor log know
    anything are no entries: whoever asks for many of them displaces nobody's conversation.
    """

    def __init__(
        self, limits: Limits, *, epoch_of: Callable[[str], int], owns: Callable[[str], bool] = lambda conversation_id: True
    ) -> None:
        self._conversations: Entries[Conversation] = Entries(Conversation)
        self._absent: OrderedDict[str, datetime] = OrderedDict()
        """Ids that are in no rows and of which nothing was heard since, and when they were last looked for again."""
        self._rates = Rates(limits)
        self._hold = timedelta(seconds=limits.undo_hold_s)
        self._epoch_of = epoch_of
        self._owns = owns
        self._restored_hold = LONG_AGO
        self._restored_at: Callable[[str], int] = lambda conversation_id: 0
        self._loading: Counter[str] = Counter()

    def succeed(self, now: datetime, restored_at: Callable[[str], int]) -> None:
        """This memory follows on that of another life, whose holds it does not know: for as long as a hold lasts, no
        conversation gets its first message but those of matches made since (``restored_at``: from which version on)."""
        self._restored_hold, self._restored_at = now + self._hold, restored_at

    def needs(self, command: Command) -> Sequence[str]:
        return () if isinstance(command, EndConversation) else (command.conversation_id,)

    def known(self, key: str) -> bool:
        conversation = self._conversations.get(key)
        return key in self._absent if conversation is None else conversation.loaded

    def _use(self, key: str) -> Conversation:
        """The conversation, of which something is known from now on."""
        conversation = self._conversations.use(key)
        if self._absent.pop(key, None) is not None:
            conversation.load(None)
        return conversation

    def _note_absent(self, key: str, looked_at: datetime) -> None:
        self._absent[key] = looked_at
        self._absent.move_to_end(key)
        if len(self._absent) > ABSENT:
            self._absent.popitem(last=False)

    def load(self, key: str, row: object | None) -> None:
        """Merges a ``ConversationRow``; None: there is none. What the rows hold of the last minute counts for rates."""
        if self.known(key):
            return
        if row is None and self._conversations.get(key) is None:
            self._note_absent(key, LONG_AGO)
            return
        conversation = self._conversations.use(key)
        counted = {message.seq for message, _ in conversation.waiting}
        conversation.load(row if isinstance(row, ConversationRow) else None)
        for message in conversation.recent.last_minute():
            if message.seq not in counted:
                self._rates.count(conversation, by_high=message.by_high, at=message.at)

    @contextmanager
    def loading(self, keys: Sequence[str]) -> Iterator[None]:
        """While rows of these conversations are on their way they are not forgotten: the rows may be older."""
        self._loading.update(keys)
        try:
            yield
        finally:
            self._loading.subtract(keys)
            for key in keys:
                if not self._loading[key]:
                    del self._loading[key]

    def conflict_key(self, command: Command) -> str:
        return command.conversation_id

    def decide(self, command: Command, now: datetime) -> Decision[Answer]:
        """Raises ShardUnavailable: the conversation is held for an undo, or what only rows know is not known."""
        if isinstance(command, EndConversation):
            return _answer(Ended())
        conversation = self._conversations.get(command.conversation_id) or Conversation()
        if isinstance(command, HoldConversation):
            return _answer(HasMessages() if conversation.last_seq else Held())
        if isinstance(command, MarkRead):
            return self._mark(command, conversation, now)
        return self._send(command, conversation, now)

    def _send(self, command: SendMessage, conversation: Conversation, now: datetime) -> Decision[Answer]:
        other = conversation.other(command.sender_id)
        if other is None:
            return _answer(NoConversation())
        found = conversation.recent.find(request_digest(command.sender_id, command.client_message_id))
        if found is None and self._perhaps_older(command, conversation):
            if command.earlier is None:
                raise ShardUnavailable("it is not known whether this repeats an old request")
            found = Numbered.unpacked(command.earlier) if command.earlier else None
        ident = message_id(command.conversation_id, command.sender_id, command.client_message_id)
        if found is not None:
            if found.content != content_digest(command.content, command.post_id, command.attachments):
                return _answer(ContentConflict())
            return _answer(Sent(ident, found.seq, found.ordinal, found.epoch, found.at, other))
        if now < conversation.hold_until or (
            now < self._restored_hold and not conversation.last_seq
            and conversation.match_version < self._restored_at(command.conversation_id)
        ):
            raise ShardUnavailable("the match is being undone")
        if command.unknown:
            return _answer(AttachmentUnknown())
        wait = max(self._rates.wait(conversation, command.sender_id, now), timedelta(milliseconds=command.wait_ms))
        if wait > timedelta():
            return _answer(TooManyMessages(max(1, math.ceil(wait.total_seconds()))))
        last = conversation.recent.last
        at = now if last is None else max(now, last.at)
        seq, ordinal = conversation.last_seq + 1, conversation.sent_by(command.sender_id) + 1
        epoch = self._epoch_of(command.conversation_id)
        payload = MessageSent(
            message_id=ident, conversation_id=command.conversation_id, sender_id=command.sender_id, recipient_id=other,
            seq=seq, ordinal=ordinal, epoch=epoch, client_message_id=command.client_message_id, content=command.content,
            post_id=command.post_id, attachments=command.attachments,
        )
        event = Event(ident, at, command.conversation_id, payload)
        return Decision(
            (Append(MESSAGING_MESSAGE_SENT, command.conversation_id, event),),
            lambda versions: Sent(ident, seq, ordinal, epoch, at, other, versions[0], recorded=True),
        )

    def _mark(self, command: MarkRead, conversation: Conversation, now: datetime) -> Decision[Answer]:
        other = conversation.other(command.reader_id)
        if other is None:
            return _answer(NoConversation())
        known = conversation.marks.get(command.reader_id, UNREAD)
        if command.seq <= known.seq:
            return _answer(Marked(known.seq, known.ordinal, other))
        if command.seq > conversation.last_seq:
            return _answer(SeqUnknown(conversation.last_seq))
        # A clock that went back keeps nobody waiting.
        if timedelta() <= now - known.at < MARK_EVERY:
            return _answer(MarkLater(max(0.01, (known.at + MARK_EVERY - now).total_seconds())))
        counted = conversation.received_up_to(command.seq, command.reader_id)
        ordinal = command.ordinal if counted is None else counted
        if ordinal < 0:
            raise ShardUnavailable("the place of the mark is not known yet")
        payload = MessageRead(
            conversation_id=command.conversation_id, reader_id=command.reader_id, other_id=other, seq=command.seq,
            ordinal=ordinal,
        )
        event = Event(new_id(), now, command.conversation_id, payload)
        return Decision(
            (Append(MESSAGING_MESSAGE_READ, command.conversation_id, event),),
            lambda versions: Marked(command.seq, ordinal, other, versions[0], recorded=True),
        )

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if isinstance(payload, MessageSent | MessageRead):
            if not self._owns(payload.conversation_id):
                return
            conversation = self._use(payload.conversation_id)
            if isinstance(payload, MessageRead):
                conversation.mark(payload, event.occurred_at)
                conversation.read_version = max(version, conversation.read_version)
                return
            if version > conversation.sent_version:
                conversation.sent_version = version
                by_high = payload.sender_id > payload.recipient_id
                self._rates.count(conversation, by_high=by_high, at=event.occurred_at)
            conversation.take(payload, event.occurred_at, version)
        elif isinstance(payload, Matched):
            self._become(payload.match_id, payload.generation, ACTIVE, version, (payload.low_id, payload.high_id))
        elif isinstance(payload, Unmatched):
            code = PAIR_CODES[payload.reason]
            self._become(payload.match_id, payload.generation, code, version, (payload.low_id, payload.high_id))

    def note(self, command: NoteMatch) -> None:
        """Takes in a match as its authority recorded it."""
        pair = (command.low_id, command.high_id)
        self._become(command.conversation_id, command.generation, ACTIVE, command.version, pair)

    def end(self, command: EndConversation) -> None:
        """Takes in the end of a match as its authority recorded it."""
        self._become(command.conversation_id, command.generation, PAIR_CODES[command.reason], command.version, None)

    def active_members(self, conversation_id: str) -> tuple[str, str] | None:
        """Both members of a conversation that is in memory and active."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.other(conversation.low_id) is None:
            return None
        return conversation.low_id, conversation.high_id

    def counts(self, command: SendMessage, now: datetime) -> bool:
        """Whether the message is one more of its sender's: not an outsider's, a repetition that is remembered, or beyond
        the conversation's own rate."""
        conversation = self._conversations.get(command.conversation_id)
        return (
            conversation is not None and conversation.other(command.sender_id) is not None
            and conversation.recent.find(request_digest(command.sender_id, command.client_message_id)) is None
            and self._rates.wait(conversation, command.sender_id, now) <= timedelta()
        )

    def hold(self, conversation_id: str, now: datetime) -> None:
        """Accepts no message from now on, for a while."""
        self._use(conversation_id).hold_until = now + self._hold

    def release(self, conversation_id: str) -> None:
        conversation = self._conversations.get(conversation_id)
        if conversation is not None:
            conversation.hold_until = LONG_AGO

    def look(self, command: Look) -> Member | NoConversation:
        """What the memory knows of a person in a conversation that is loaded."""
        conversation = self._conversations.get(command.conversation_id)
        other = None if conversation is None else conversation.other(command.user_id)
        if conversation is None or other is None:
            return NoConversation()
        marks = conversation.marks
        return Member(
            other, conversation.last_seq, marks.get(command.user_id, UNREAD).seq, marks.get(other, UNREAD).seq
        )

    def _perhaps_older(self, command: SendMessage, conversation: Conversation) -> bool:
        older = conversation.recent.older
        return older is None or request_digest(command.sender_id, command.client_message_id) in older

    def without_older(self, commands: Sequence[SendMessage]) -> list[tuple[str, int]]:
        """(conversation, number of the oldest message that is remembered) where only rows know which requests were
        earlier, and somebody may repeat one."""
        found: dict[str, int] = {}
        for command in commands:
            conversation = self._conversations.get(command.conversation_id)
            if conversation is not None and conversation.loaded and conversation.recent.older is None:
                found[command.conversation_id] = conversation.recent.first_seq
        return list(found.items())

    def load_older(self, conversation_id: str, before_seq: int, stored: int, requests: bytes) -> None:
        """Takes in the requests of all messages before ``before_seq``; ``stored``: the version of the rows' last message."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.recent.first_seq != before_seq or stored < conversation.forgot_up_to:
            return
        conversation.recent.older = (
            Older.everything() if len(requests) > OLDER_REQUESTS * 8
            else Older([requests[place : place + 8] for place in range(0, len(requests), 8)])
        )

    def perhaps_older(self, command: SendMessage) -> bool:
        """Whether the request may have been sent before everything that is remembered, so that rows must tell."""
        conversation = self._conversations.get(command.conversation_id)
        return (
            conversation is not None and conversation.other(command.sender_id) is not None
            and conversation.recent.find(request_digest(command.sender_id, command.client_message_id)) is None
            and self._perhaps_older(command, conversation)
        )

    def reaches(self, conversation_id: str, stored: int) -> bool:
        """Whether rows whose last message has this version know everything that is not remembered here."""
        conversation = self._conversations.get(conversation_id)
        return conversation is not None and stored >= conversation.forgot_up_to

    def forgotten_place(self, command: MarkRead) -> bool:
        """Whether the mark names a message older than those remembered, so that rows must count."""
        conversation = self._conversations.get(command.conversation_id)
        return (
            conversation is not None
            and conversation.marks.get(command.reader_id, UNREAD).seq < command.seq <= conversation.last_seq
            and conversation.received_up_to(command.seq, command.reader_id) is None
        )

    def absent(self, conversation_ids: Sequence[str], now: datetime) -> list[str]:
        """Those that were in no rows and were not looked for lately: a match may be in rows before it is in the tail."""
        found = []
        for name in dict.fromkeys(conversation_ids):
            looked_at = self._absent.get(name)
            conversation = self._conversations.get(name)
            if conversation is not None and conversation.loaded and not conversation.code:
                looked_at = conversation.looked_at
            if looked_at is not None and now - looked_at >= LOOK_AGAIN:
                found.append(name)
        return found

    def load_again(self, rows: Mapping[str, ConversationRow], conversation_ids: Sequence[str], now: datetime) -> None:
        """Takes in what the rows say by now of absent conversations."""
        for name in conversation_ids:
            row = rows.get(name)
            if name in self._absent and row is None:
                self._note_absent(name, now)
            elif name in self._absent or self._conversations.get(name) is not None:
                self._use(name).load_again(row, now)

    def _become(
        self, conversation_id: str, generation: int, code: int, version: int, members: tuple[str, str] | None
    ) -> None:
        if not self._owns(conversation_id):
            return
        conversation = self._use(conversation_id)
        if members is not None:
            conversation.joined(*members)
        conversation.become(generation, code)
        conversation.match_version = max(version, conversation.match_version)

    def entries(self) -> int:
        return len(self._conversations)

    def nbytes(self) -> int:
        """Bytes of the conversations that are remembered, about."""
        return self._conversations.nbytes(Conversation.nbytes)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """As ``Memory.evict``, for messages only; ``forget`` knows all three topics."""
        return self.forget(limit, lambda topic, key: committed(key))

    def forget(self, limit: int, committed: Callable[[str, str], int], now: datetime = LONG_AGO) -> int:
        """Forgets the least recently used conversations beyond ``limit``; returns how many.

        Only those that are not held, of which the rows hold everything: ``committed(topic, key)`` is the version up to
        which, exclusive.
        """
        def forgettable(key: str, conversation: Conversation) -> bool:
            newest: Mapping[str, int] = {
                MESSAGING_MESSAGE_SENT.name: conversation.sent_version,
                MESSAGING_MESSAGE_READ.name: conversation.read_version,
                MATCHING_MATCHED.name: conversation.match_version,
            }
            return key not in self._loading and conversation.hold_until <= now and all(
                not version or version < committed(topic, key) for topic, version in newest.items()
            )

        return self._conversations.evict(limit, forgettable)


def _answer(answer: Answer) -> Decision[Answer]:
    return Decision((), lambda _: answer)
