"""What a conversation shard is asked, and what it answers."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from configs.contracts.events import MatchEnd

SERVICE: Final = "messages"


class _Message(msgspec.Struct, frozen=True, gc=False):
    """Base of all commands and answers: pickled several times faster than dataclasses."""


class SendMessage(_Message, frozen=True, gc=False):
    """One message. The caller has checked only its form: ``frames.sayable``, a ``client_message_id`` of 1 to 64.

    ``post_id``: a post of the sender's that the caller found to be for the recipient. ``unknown``: filled in by the shard:
    an attachment is no media that the sender may send. ``wait_ms``: so too; the sender's rate is used up for so long.
    ``earlier``: filled in by the shard where the request may be older than its memory: what the rows hold under it (a
    ``RECENT_ENTRY``; empty: nothing).
    """

    conversation_id: str
    sender_id: str
    client_message_id: str
    content: str
    attachments: tuple[str, ...] = ()
    earlier: bytes | None = None
    post_id: str | None = None
    unknown: bool = False
    wait_ms: int = 0


class Sent(_Message, frozen=True, gc=False):
    """The message is durable. ``recorded`` False: it repeats an earlier request; ``version`` is then 0.

    ``ordinal``: how many of the messages up to this one are the sender's. ``version``: of the message_sent event.
    """

    message_id: str
    seq: int
    ordinal: int
    epoch: int
    sent_at: datetime
    recipient_id: str
    version: int = 0
    recorded: bool = False


class NoConversation(_Message, frozen=True, gc=False):
    """There is no such conversation, it has ended, or the person is no member: nobody can tell which."""


class ContentConflict(_Message, frozen=True, gc=False):
    """The ``client_message_id`` names an earlier message of the sender with another text or other attachments; nothing was recorded."""


class AttachmentUnknown(_Message, frozen=True, gc=False):
    """An attachment is no media of the sender, or was rejected or removed; nothing was recorded."""


class TooManyMessages(_Message, frozen=True, gc=False):
    """The limit of the sender or of the conversation is reached; nothing was recorded."""

    retry_after_s: int


class MarkRead(_Message, frozen=True, gc=False):
    """The reader has read up to message ``seq``. ``ordinal``: filled in by the shard where it is not in memory."""

    conversation_id: str
    reader_id: str
    seq: int
    ordinal: int = -1


class Marked(_Message, frozen=True, gc=False):
    """The reader's durable mark: ``seq`` may be higher than asked for. ``recorded`` False: nothing moved, ``version`` 0.

    ``ordinal``: how many of the messages up to ``seq`` are the other's.
    """

    seq: int
    ordinal: int
    other_id: str
    version: int = 0
    recorded: bool = False


class MarkLater(_Message, frozen=True, gc=False):
    """A mark of this reader was recorded less than a second ago: ask again, with the highest mark by then."""

    wait_s: float


class SeqUnknown(_Message, frozen=True, gc=False):
    """There is no message with this number yet; nothing was recorded."""

    last_seq: int


class NoteMatch(_Message, frozen=True, gc=False):
    """A pair has matched, as its authority recorded it: the conversation is open before the log's tail tells it."""

    conversation_id: str
    low_id: str
    high_id: str
    generation: int
    version: int


class EndConversation(_Message, frozen=True, gc=False):
    """The pair's match has ended, durable in matching.matched; no message is accepted after the answer.

    ``version``: of the unmatched event; 0: rows hold it.
    """

    conversation_id: str
    generation: int
    reason: MatchEnd
    version: int


class Ended(_Message, frozen=True, gc=False):
    """The end is known to the conversation's shard."""


class HoldConversation(_Message, frozen=True, gc=False):
    """Accept no message for some seconds, if there is none yet: the match may be undone."""

    conversation_id: str


class ReleaseConversation(_Message, frozen=True, gc=False):
    """The undo did not happen: accept messages again."""

    conversation_id: str


class Held(_Message, frozen=True, gc=False):
    """There is no message, and none is accepted until the match ends, it is released, or the hold is over."""


class HasMessages(_Message, frozen=True, gc=False):
    """At least one message exists; nothing is held."""


class Released(_Message, frozen=True, gc=False):
    """Messages are accepted again, if the conversation is active."""


class Look(_Message, frozen=True, gc=False):
    """Whether a person may take part in a conversation now (typing, presence, delivery)."""

    conversation_id: str
    user_id: str


class Member(_Message, frozen=True, gc=False):
    """The person is a member of an active conversation: with whom, its last message's number, both read marks."""

    other_id: str
    last_seq: int
    read_seq: int
    other_read_seq: int


SendAnswer = Sent | NoConversation | ContentConflict | TooManyMessages
ReadAnswer = Marked | NoConversation | SeqUnknown
