"""Conversations in the read model: keys, shapes and the only ways to change them.

All keys of a conversation share the hash tag ``{conversation id}``: ``conv:head`` its last message and read marks ·
``conv:msg`` its newest messages (cache) · ``conv:page:…:n`` older ones (cache). ``feed:{user}`` holds what has changed
for a person, in order (cache).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from configs.contracts.positions import version_text
from configs.contracts.read_model import MARKER, Operation, listing_keys

WINDOW_MESSAGES: Final = 200
"""Newest messages of a conversation that Redis keeps together."""
PAGE_MESSAGES: Final = 100
"""Messages on a page of older ones: page n holds the numbers from 100 n + 1 to 100 n + 100."""
WINDOW: Final = "w"
WINDOW_TTL_S: Final = 14 * 86_400
"""Windows are caches: after that long without a message they are written again from rows when somebody reads."""
PAGE_TTL_S: Final = 3_600
FEED_CHANGES: Final = 500
"""Newest changes of one person that are told one by one; whoever missed more loads everything anew."""
FEED_TTL_S: Final = 7 * 86_400


class MessageEntry(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One message of a conversation. ``ordinal``: how many of the messages up to this one are the sender's.

    ``post_id``: a post that has to be bought; what it holds is not here. ``attachments``: media of the sender's.
    """

    message_id: str
    seq: int
    sender_id: str
    ordinal: int
    client_message_id: str
    content: str
    sent_at: str
    post_id: str | None = None
    attachments: tuple[str, ...] = ()


def head_key(conversation_id: str) -> str:
    """Hash: ``*`` (known completely), ``last`` number, ``top`` (its stored message), ``r:{user}`` read marks."""
    return f"conv:head:{{{conversation_id}}}"


def window_key(conversation_id: str) -> str:
    """Hash: number -> stored message; with ``*`` every one of the newest ``WINDOW_MESSAGES`` is there."""
    return f"conv:msg:{{{conversation_id}}}"


def page_name(conversation_id: str, number: int | str) -> str:
    """Names a page of older messages, or with ``WINDOW`` the window, to whoever warms it."""
    return f"{conversation_id}:{number}"


def page_place(name: str) -> tuple[str, str]:
    """(conversation, page number or ``WINDOW``) of a page's name."""
    conversation_id, _, number = name.rpartition(":")
    return conversation_id, number


def page_key(name: str) -> str:
    conversation_id, number = page_place(name)
    return f"conv:page:{{{conversation_id}}}:{number}"


def feed_key(user_id: str) -> str:
    """Sorted set: what changed for the person -> its place, from 1; the member at 0 names this life of the feed."""
    return f"feed:{{{user_id}}}"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in the read model: with what orders it against another one under its number: the shard's epoch, then the version."""

    entry: MessageEntry
    epoch: int
    version: int

    def value(self) -> bytes:
        return f"{self.epoch:016x}{version_text(self.version)}".encode() + msgspec.json.encode(self.entry)


def put_message(conversation_id: str, message: StoredMessage) -> Operation:
    """Puts a message under its number, unless one of a later epoch stands there or before; such a one cuts off what
    earlier epochs put behind it."""
    return Operation(
        "message", (head_key(conversation_id), window_key(conversation_id)),
        (message.entry.seq, message.value(), WINDOW_MESSAGES, WINDOW_TTL_S),
    )


def put_window(conversation_id: str, messages: Sequence[StoredMessage]) -> Operation:
    """Puts the newest messages and says that they are all there."""
    args: list[str | bytes | int] = [WINDOW_TTL_S]
    for message in messages:
        args += (message.entry.seq, message.value())
    return Operation("window", (window_key(conversation_id),), tuple(args))


def put_page(name: str, value: bytes) -> Operation:
    return Operation("page", (page_key(name),), (value, PAGE_TTL_S))


def put_mark(conversation_id: str, reader_id: str, seq: int, ordinal: int) -> Operation:
    """Moves a reader's mark forward; ``ordinal``: how many of the messages up to there are the other's."""
    return Operation("mark", (head_key(conversation_id),), (f"r:{reader_id}", seq, ordinal))


def open_conversation(conversation_id: str) -> Operation:
    """Says that the head is known completely; for a new conversation, or after warming."""
    return Operation("open", (head_key(conversation_id),), (MARKER,))


def message_change(conversation_id: str, seq: int) -> str:
    return f"m:{conversation_id}:{seq}"


def mark_change(conversation_id: str, reader_id: str, seq: int) -> str:
    return f"r:{conversation_id}:{reader_id}:{seq}"


def match_change(match_id: str, generation: int, status: Literal["active", "ended"]) -> str:
    return f"x:{match_id}:{generation}:{status}"


def put_change(user_id: str, change: str) -> Operation:
    """Appends a change to what a person is told when they ask what they missed, once."""
    return Operation("feed", (feed_key(user_id),), (change, FEED_CHANGES, FEED_TTL_S))


def put_heard(user_id: str, conversation_id: str, seq: int, *, at_ms: int) -> Operation:
    """``put_change`` of a message; its conversation moves up in the person's list, never down, unless it has left it."""
    return Operation(
        "feed", (feed_key(user_id), *listing_keys("conv", user_id)),
        (message_change(conversation_id, seq), FEED_CHANGES, FEED_TTL_S, at_ms, conversation_id),
    )


_MESSAGES = msgspec.json.Decoder(MessageEntry)
_MESSAGE_PAGES = msgspec.json.Decoder(list[MessageEntry])


def read_message(value: bytes) -> MessageEntry:
    """The message of a stored value of head or window."""
    return _MESSAGES.decode(value[32:])


def read_page(value: bytes) -> list[MessageEntry]:
    return _MESSAGE_PAGES.decode(value)


def read_mark(value: bytes | None) -> tuple[int, int]:
    """(number, how many of those up to there are the other's); (0, 0) without a mark."""
    if value is None:
        return 0, 0
    seq, _, ordinal = value.partition(b":")
    return int(seq), int(ordinal)
