"""The newest messages of one conversation as a shard remembers them: numbers, digests and times, never text."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from actors.messages.older import Older
from configs.contracts.loading import RECENT_ENTRY, RECENT_MESSAGES

_ENTRY: Final = struct.Struct(RECENT_ENTRY)
_SIZE: Final = _ENTRY.size
_KEPT: Final = RECENT_MESSAGES * _SIZE
_SLACK: Final = 64
"""Entries beyond the bound after which the oldest are cut off together."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTE: Final = timedelta(minutes=1)


class Numbered(NamedTuple):
    """One message: digests of its request and its text, its place, who sent it and when."""

    request: bytes
    content: bytes
    seq: int
    ordinal: int
    by_high: bool
    epoch: int
    at: datetime

    @classmethod
    def unpacked(cls, entry: bytes | bytearray, place: int = 0) -> Numbered:
        request, content, seq, sender, epoch, at_us = _ENTRY.unpack_from(entry, place)
        return cls(request, content, seq, sender >> 1, bool(sender & 1), epoch, _EPOCH + timedelta(microseconds=at_us))

    def packed(self) -> bytes:
        sender = self.ordinal << 1 | self.by_high
        return _ENTRY.pack(self.request, self.content, self.seq, sender, self.epoch, (self.at - _EPOCH) // _MICROSECOND)


def request_digest(sender_id: str, client_message_id: str) -> bytes:
    """8 bytes that name a sender's request within a conversation."""
    return hashlib.sha256(f"{sender_id}:{client_message_id}".encode()).digest()[:8]


def content_digest(content: str, post_id: str | None = None, attachments: tuple[str, ...] = ()) -> bytes:
    """8 bytes that tell two texts, and what goes with them, under one request apart.

    No text holds the separators (``texts.CONTROL``).
    """
    said = "\x1f".join((content, *attachments))
    return hashlib.sha256((said if post_id is None else f"{said}\0{post_id}").encode()).digest()[:8]


class Recent:
    """The newest ``RECENT_MESSAGES`` messages by number, without gaps.

    ``older``: which requests may have been sent before those; None: only the rows know. ``forgot`` grows whenever
    something that did not come from rows is not remembered any more.
    """

    __slots__ = ("_entries", "forgot", "older")

    def __init__(self, packed: bytes = b"") -> None:
        """``packed``: entries in order of their number, as the loader gives them."""
        self._entries = bytearray(packed)
        self.forgot = 0
        self.older: Older | None = Older() if self.first_seq <= 1 else None

    def __len__(self) -> int:
        return len(self._entries) // _SIZE

    @property
    def last(self) -> Numbered | None:
        return self._at(len(self._entries) - _SIZE) if self._entries else None

    @property
    def first_seq(self) -> int:
        """The number of the oldest that is remembered; 0: none is."""
        return self._at(0).seq if self._entries else 0

    def last_minute(self) -> Iterator[Numbered]:
        """The messages of the minute that ended with the last one, newest first."""
        last = self.last
        for place in range(len(self._entries) - _SIZE, -1, -_SIZE):
            message = self._at(place)
            if last is None or message.at < last.at - _MINUTE:
                return
            yield message

    def find(self, request: bytes) -> Numbered | None:
        """The message that was sent under this request."""
        place = self._entries.find(request)
        while place >= 0 and place % _SIZE:
            place = self._entries.find(request, place + 1)
        return None if place < 0 else self._at(place)

    def number(self, seq: int) -> Numbered | None:
        """The message with this number; None: it is older than what is remembered, or not there yet."""
        if not self._entries:
            return None
        place = (seq - self._at(0).seq) * _SIZE
        return self._at(place) if 0 <= place < len(self._entries) else None

    def add(self, message: Numbered) -> None:
        """Takes in a message; repeated ones change nothing.

        One of a later epoch displaces those of earlier ones from its number on.
        """
        last = self.last
        if last is not None and message.seq == last.seq + 1 and message.epoch >= last.epoch:
            self._entries += message.packed()
            if len(self._entries) > (RECENT_MESSAGES + _SLACK) * _SIZE:
                self._let_go(self._at(place) for place in range(0, len(self._entries) - _KEPT, _SIZE))
                self._cut()
            return
        if last is None:
            self._entries += message.packed()
            if message.seq > 1:
                self.older = None
                self.forgot += 1
            return
        self.merge((message,))

    def merge(self, messages: Iterable[Numbered]) -> None:
        """``add`` for messages in any order."""
        best: dict[int, Numbered] = {}
        for message in (*(self._at(place) for place in range(0, len(self._entries), _SIZE)), *messages):
            known = best.get(message.seq)
            if known is None or known.epoch < message.epoch:
                best[message.seq] = message
        standing: list[Numbered] = []
        for seq in sorted(best):
            message = best[seq]
            if standing and message.epoch < standing[-1].epoch:
                continue
            if standing and seq != standing[-1].seq + 1:
                # What lies between is older than this memory: only the newest run counts.
                standing, self.older = [], None
                self.forgot += 1
            standing.append(message)
        if not self._entries and standing and standing[0].seq > 1:
            self.older = None
            self.forgot += 1
        self._let_go(standing[:-RECENT_MESSAGES])
        self._entries = bytearray().join(message.packed() for message in standing[-RECENT_MESSAGES:])

    def _cut(self) -> None:
        """Keeps the newest entries, in the buffer that is there: a deletion at its front would make the next entries ask for
        another one, and those of thousands of conversations leave holes in the heap."""
        self._entries[:_KEPT] = self._entries[-_KEPT:]
        del self._entries[_KEPT:]

    def _let_go(self, messages: Iterable[Numbered]) -> None:
        for message in messages:
            self.forgot += 1
            if self.older is not None:
                self.older.add(message.request)

    def __sizeof__(self) -> int:
        return self._entries.__sizeof__()

    def _at(self, place: int) -> Numbered:
        return Numbered.unpacked(self._entries, place)
