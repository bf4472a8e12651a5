"""The newest messages of one conversation as a shard remembers them: numbers, digests and times, never text."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from configs.contracts.loading import RECENT_ENTRY, RECENT_MESSAGES

_ENTRY: Final = struct.Struct(RECENT_ENTRY)
_SIZE: Final = _ENTRY.size
_SLACK: Final = 64
"""Entries beyond the bound after which the oldest are cut off together."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Numbered(NamedTuple):
    """One message: digests of its request and its text, its place, who sent it and when."""

    request: bytes
    content: bytes
    seq: int
    ordinal: int
    by_high: bool
    epoch: int
    at: datetime

    def packed(self) -> bytes:
        sender = self.ordinal << 1 | self.by_high
        return _ENTRY.pack(self.request, self.content, self.seq, sender, self.epoch, (self.at - _EPOCH) // _MICROSECOND)


def request_digest(sender_id: str, client_message_id: str) -> bytes:
    """8 bytes that name a sender's request within a conversation."""
    return hashlib.sha256(f"{sender_id}:{client_message_id}".encode()).digest()[:8]


def content_digest(content: str) -> bytes:
    """8 bytes that tell two texts under one request apart."""
    return hashlib.sha256(content.encode()).digest()[:8]


class Recent:
    """The newest ``RECENT_MESSAGES`` messages by number, without gaps."""

    __slots__ = ("_entries",)

    def __init__(self, packed: bytes = b"") -> None:
        """``packed``: entries in order of their number, as the loader gives them."""
        self._entries = bytearray(packed)

    def __len__(self) -> int:
        return len(self._entries) // _SIZE

    @property
    def last(self) -> Numbered | None:
        return self._at(len(self._entries) - _SIZE) if self._entries else None

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
                del self._entries[: -RECENT_MESSAGES * _SIZE]
            return
        if last is None:
            self._entries += message.packed()
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
                standing = []
            standing.append(message)
        self._entries = bytearray().join(message.packed() for message in standing[-RECENT_MESSAGES:])

    def _at(self, place: int) -> Numbered:
        request, content, seq, sender, epoch, at_us = _ENTRY.unpack_from(self._entries, place)
        return Numbered(request, content, seq, sender >> 1, bool(sender & 1), epoch, _EPOCH + timedelta(microseconds=at_us))
