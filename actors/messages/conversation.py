"""One conversation in a shard's memory: who may write, the newest messages, read marks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from actors.messages.recent import Numbered, Recent, content_digest, request_digest
from configs.contracts.events import MessageRead, MessageSent
from configs.contracts.loading import PAIR_CODES, ConversationRow

ACTIVE, UNDONE, UNMATCHED, BLOCKED = (PAIR_CODES[name] for name in ("active", "undone", "unmatched", "blocked"))
_FINAL: Final = (UNMATCHED, BLOCKED)
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Mark(NamedTuple):
    """Up to where a member has read, how many of those are the other's, and when that was recorded."""

    seq: int = 0
    ordinal: int = 0
    at: datetime = LONG_AGO


UNREAD: Final = Mark()


class Conversation:
    """Until ``loaded``, messages wait; everything else merges with rows in any order."""

    __slots__ = (
        "code", "forgot_up_to", "generation", "high_id", "hold_until", "loaded", "looked_at", "low_id", "marks", "match_version", "newest_version", "read_version",
        "recent", "sent_due", "sent_version", "waiting",
    )

    def __init__(self) -> None:
        self.loaded = False
        self.low_id = ""
        self.high_id = ""
        self.generation = 0
        self.code = 0
        self.recent = Recent()
        self.waiting: list[tuple[Numbered, int]] = []
        self.marks: dict[str, Mark] = {}
        self.hold_until = LONG_AGO
        self.looked_at = LONG_AGO
        """When the rows were last asked for a conversation that was not there."""
        self.sent_due: tuple[datetime, datetime] = (LONG_AGO, LONG_AGO)
        """By side (lower id first): when the next message would be due if they came evenly."""
        self.sent_version = self.read_version = self.match_version = 0
        self.newest_version = 0
        """Of the last message, if it came from the log."""
        self.forgot_up_to = 0
        """Rows tell of messages that are not remembered once their last one has this version: before, they may lack some
        and hold what a replaced shard wrote last in their place."""

    def nbytes(self) -> int:
        """Bytes of what is remembered of the two, their messages and their requests, spare room included."""
        recent = self.recent
        own = (self, self.low_id, self.high_id, recent, recent.older, self.marks, *self.marks, *self.marks.values())
        return sum(map(sys.getsizeof, own))

    def other(self, member_id: str) -> str | None:
        """The other member, if this one is a member of a conversation that is active."""
        if self.code != ACTIVE:
            return None
        return self.high_id if member_id == self.low_id else self.low_id if member_id == self.high_id else None

    @property
    def last_seq(self) -> int:
        last = self.recent.last
        return 0 if last is None else last.seq

    def sent_by(self, member_id: str) -> int:
        """How many messages the member has sent."""
        last = self.recent.last
        return 0 if last is None else self._part(last, member_id)

    def received_up_to(self, seq: int, reader_id: str) -> int | None:
        """How many of the messages up to ``seq`` are the other's; None: it is older than what is remembered."""
        if seq == 0:
            return 0
        message = self.recent.number(seq)
        return None if message is None else seq - self._part(message, reader_id)

    def _part(self, message: Numbered, member_id: str) -> int:
        """How many of the messages up to this one are the member's."""
        mine = message.by_high == (member_id == self.high_id)
        return message.ordinal if mine else message.seq - message.ordinal

    def joined(self, low_id: str, high_id: str) -> None:
        self.low_id, self.high_id = low_id, high_id

    def become(self, generation: int, code: int) -> None:
        """Takes in a state of the pair. Who was unmatched or blocked stays so; otherwise the later state stays."""
        if self.code in _FINAL:
            self.code = BLOCKED if code == BLOCKED else self.code
        elif code in _FINAL or (generation, code != ACTIVE) > (self.generation, self.code != ACTIVE) or not self.code:
            self.code = code
            if generation > self.generation:
                self.hold_until = LONG_AGO  # it was for the match before
        self.generation = max(generation, self.generation)

    def take(self, payload: MessageSent, at: datetime, version: int) -> None:
        """Takes in a message of the log."""
        message = Numbered(
            request_digest(payload.sender_id, payload.client_message_id),
            content_digest(payload.content, payload.post_id, payload.attachments),
            payload.seq, payload.ordinal, payload.sender_id > payload.recipient_id, payload.epoch, at,
        )
        if not self.loaded:
            self.waiting.append((message, version))
            return
        forgot = self.recent.forgot
        self.recent.add(message)
        self._noted(((message, version),), forgot)

    def _noted(self, taken: Iterable[tuple[Numbered, int]], forgot: int) -> None:
        """After messages of the log were taken in; ``forgot``: the memory's count before."""
        last = self.recent.last
        for message, version in taken:
            if last is not None and (message.seq, message.epoch) == (last.seq, last.epoch):
                self.newest_version = version
        if self.recent.forgot != forgot:
            self.forgot_up_to = self.newest_version

    def mark(self, payload: MessageRead, at: datetime) -> None:
        """Takes in a read mark of the log; an earlier place than known changes nothing."""
        known = self.marks.get(payload.reader_id, UNREAD)
        if payload.seq > known.seq:
            self.marks[payload.reader_id] = Mark(payload.seq, payload.ordinal, max(at, known.at))

    def load(self, row: ConversationRow | None) -> None:
        """Merges what the rows hold with what was taken in before; only the first load counts."""
        if self.loaded:
            return
        self.loaded = True
        waiting, self.waiting = self.waiting, []
        if row is not None:
            self.joined(row.low_id, row.high_id)
            self.become(row.generation, PAIR_CODES[row.status])
            self.recent = Recent(row.recent)
            self._load_marks(row.reads)
        if waiting:
            forgot = self.recent.forgot
            self.recent.merge(message for message, _ in waiting)
            self._noted(waiting, forgot)

    def load_again(self, row: ConversationRow | None, at: datetime) -> None:
        """``load`` of one that the rows did not have; nothing is known of it but what the rows say now."""
        self.looked_at = at
        if row is not None and not self.code:
            self.loaded = False
            self.load(row)

    def _load_marks(self, reads: Mapping[str, tuple[int, int]]) -> None:
        for reader_id, (seq, ordinal) in reads.items():
            if seq > self.marks.get(reader_id, UNREAD).seq:
                self.marks[reader_id] = Mark(seq, ordinal)
