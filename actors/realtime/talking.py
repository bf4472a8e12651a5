"""What one person's frames do to a conversation: messages, marks, typing. Asked of the conversation's shard each time."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from actors.messages.commands import (
    AttachmentUnknown,
    ContentConflict,
    Member,
    NoConversation,
    ReadAnswer,
    SendAnswer,
    SendMessage,
    Sent,
    SeqUnknown,
    TooManyMessages,
)
from actors.realtime.hub import Socket
from actors.realtime.presence import Presences
from configs.contracts.changes import rfc3339
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.frames import (
    Ack,
    Acknowledge,
    Delivered,
    MarkDelivered,
    MarkRead,
    Send,
    Typing,
    TypingTold,
    encode,
    error,
)
from configs.contracts.realtime import frames_channel

MARKS_WAITING: Final = 20_000
"""Read marks of one gateway that wait for their conversation's next second; past it the answer is an error."""


class Conversations(Protocol):
    """What is needed of ``actors.messages.client.ConversationsClient``."""

    async def send(self, command: SendMessage) -> SendAnswer: ...

    async def read(self, conversation_id: str, reader_id: str, seq: int) -> ReadAnswer: ...

    async def look(self, conversation_id: str, user_id: str) -> Member | NoConversation: ...


class Talking:
    """Carries out frames of open sockets. What others are told of messages and read marks, the shard publishes."""

    def __init__(self, conversations: Conversations, presences: Presences) -> None:
        self._conversations = conversations
        self._presences = presences
        self._marking: set[asyncio.Task[None]] = set()

    async def carry_out(self, socket: Socket, frame: Send | MarkDelivered | MarkRead | Acknowledge | Typing) -> None:
        """Raises DependencyUnavailable: it may have taken effect; the same frame again is safe."""
        if isinstance(frame, Send):
            await self._send(socket, frame)
        elif isinstance(frame, MarkRead):
            self._read(socket, frame)
        elif isinstance(frame, Acknowledge):
            await self._presences.acknowledged(socket.session.user_id, frame.notification_id)
        else:
            await self._hint(socket, frame)

    async def _send(self, socket: Socket, frame: Send) -> None:
        answer = await self._conversations.send(SendMessage(
            conversation_id=frame.conversation_id, sender_id=socket.session.user_id,
            client_message_id=frame.client_message_id, content=frame.content,
            attachments=frame.attachments,
        ))
        if isinstance(answer, Sent):
            socket.tell(encode(Ack(
                client_message_id=frame.client_message_id, conversation_id=frame.conversation_id,
                message_id=answer.message_id, seq=answer.seq, sent_at=rfc3339(answer.sent_at),
            )))
        elif isinstance(answer, TooManyMessages):
            _refuse(socket, frame, "too_many_requests", retry_after_ms=answer.retry_after_s * 1_000)
        elif isinstance(answer, AttachmentUnknown):
            _refuse(socket, frame, "media_unknown")
        else:
            _refuse(socket, frame, "conflict" if isinstance(answer, ContentConflict) else "not_found")

    def _read(self, socket: Socket, frame: MarkRead) -> None:
        """In the background: a mark may wait until the reader's last one in the conversation is a second old."""
        if len(self._marking) >= MARKS_WAITING:
            raise DependencyUnavailable("too many read marks wait", waiting=len(self._marking))
        task = asyncio.create_task(self._mark(socket, frame), name="read-mark")
        self._marking.add(task)
        task.add_done_callback(self._marking.discard)

    async def _mark(self, socket: Socket, frame: MarkRead) -> None:
        try:
            answer = await self._conversations.read(frame.conversation_id, socket.session.user_id, frame.seq)
        except PlatformError:
            _refuse(socket, frame, "dependency_unavailable", retry_after_ms=1_000)
            return
        if isinstance(answer, SeqUnknown):
            _refuse(socket, frame, "invalid")
        elif isinstance(answer, NoConversation):
            _refuse(socket, frame, "not_found")

    async def _hint(self, socket: Socket, frame: MarkDelivered | Typing) -> None:
        """Typing and delivered marks: never durable, told to the other member only."""
        user_id = socket.session.user_id
        member = await self._conversations.look(frame.conversation_id, user_id)
        if not isinstance(member, Member):
            _refuse(socket, frame, "not_found")
            return
        told: Any
        if isinstance(frame, Typing):
            told = TypingTold(conversation_id=frame.conversation_id, user_id=user_id)
        elif frame.seq > member.last_seq:
            _refuse(socket, frame, "invalid")
            return
        else:
            socket.session.reported(frame)
            if not await self._presences.delivered(user_id, frame.conversation_id, frame.seq):
                return
            told = Delivered(conversation_id=frame.conversation_id, user_id=user_id, seq=frame.seq)
        await self._presences.tell((frames_channel(member.other_id), encode(told)))

    async def close(self) -> None:
        for task in self._marking:
            task.cancel()
        await asyncio.gather(*self._marking, return_exceptions=True)


def _refuse(socket: Socket, frame: Any, code: str, *, retry_after_ms: int | None = None) -> None:
    socket.tell(encode(error(
        code, ref=frame.ref, client_message_id=getattr(frame, "client_message_id", None), retry_after_ms=retry_after_ms
    )))
