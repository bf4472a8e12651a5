"""Messages and read marks."""

from __future__ import annotations

from typing import ClassVar

from configs.contracts import topics
from configs.contracts.events.base import Id, Payload
from configs.contracts.topics import Topic


class MessageSent(Payload, frozen=True, kw_only=True):
    """Message ``seq`` of its conversation. The event's id is ``message_id``, derived from conversation, sender and
    ``client_message_id``.

    ``epoch`` is that of the conversation's shard: a message does not count when one of a later epoch has the same or a
    lower ``seq`` (a replaced shard wrote it last, and nobody was told). ``ordinal``: how many of the messages up to this
    one, itself included, are the sender's. ``post_id``: a pay-per-view post that only the recipient finds; what it holds
    is not here. ``attachments``: the sender's media, in their order.
    """

    TYPE: ClassVar[str] = "message_sent"
    message_id: Id
    conversation_id: Id
    sender_id: Id
    recipient_id: Id
    seq: int
    ordinal: int
    epoch: int
    client_message_id: str
    content: str
    post_id: Id | None = None
    attachments: tuple[Id, ...] = ()


class MessageRead(Payload, frozen=True, kw_only=True):
    """The reader has read up to message ``seq``; of several marks the highest counts.

    ``ordinal``: how many of the messages up to there are the other's.
    """

    TYPE: ClassVar[str] = "message_read"
    conversation_id: Id
    reader_id: Id
    other_id: Id
    seq: int
    ordinal: int


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.MESSAGING_MESSAGE_SENT, MessageSent),
    (topics.MESSAGING_MESSAGE_READ, MessageRead),
)
