"""Calling conversation shards."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from actors.messages.commands import (
    SERVICE,
    EndConversation,
    HasMessages,
    Held,
    HoldConversation,
    Look,
    MarkLater,
    MarkRead,
    Member,
    NoConversation,
    NoteMatch,
    ReadAnswer,
    ReleaseConversation,
    SendAnswer,
    SendMessage,
)
from actors.sharding.client import ActorPool
from configs.contracts.errors import ShardUnavailable

READERS_WAITING = 20_000
"""Readers whose mark waits for its second in one client; past it the answer is 503."""


@dataclass(slots=True)
class _Waiting:
    """A mark that waits until the reader's last one is a second old; later marks raise it."""

    seq: int
    answer: asyncio.Future[ReadAnswer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ConversationsClient:
    """Conversation shards by conversation. A call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Repeating any of them is safe: a message by its ``client_message_id``, everything else because it only moves forward.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool
        self._marks: dict[tuple[str, str], _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, command: SendMessage, *, traceparent: str | None = None) -> SendAnswer:
        """Gives the message its number, durable in the log before the answer; a repeated one gets the first answer."""
        return cast(SendAnswer, await self._ask("send", command.conversation_id, command, traceparent))

    async def read(
        self, conversation_id: str, reader_id: str, seq: int, *, traceparent: str | None = None
    ) -> ReadAnswer:
        """Moves the reader's mark forward, durable before the answer; at most one event a reader and second.

        Within a second of the last one the answer waits for the second's end and stands for the highest mark until then.
        """
        key = (conversation_id, reader_id)
        waiting = self._marks.get(key)
        if waiting is None:
            answer = await self._mark(conversation_id, reader_id, seq, traceparent)
            if not isinstance(answer, MarkLater):
                return answer
            waiting = self._marks.get(key)
            if waiting is None:
                if len(self._marks) >= READERS_WAITING:
                    raise ShardUnavailable("too many read marks wait", waiting=len(self._marks))
                waiting = self._marks[key] = _Waiting(seq)
                task = asyncio.create_task(self._later(key, waiting, answer.wait_s, traceparent))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        waiting.seq = max(waiting.seq, seq)
        return await asyncio.shield(waiting.answer)

    async def end(self, command: EndConversation, *, traceparent: str | None = None) -> None:
        """Ends the conversation for both: no message is accepted after this returned."""
        await self._ask("end", command.conversation_id, command, traceparent)

    async def note_match(self, command: NoteMatch, *, traceparent: str | None = None) -> None:
        """Opens the conversation of a match that the caller was just told of; without it the log's tail does."""
        await self._ask("note_match", command.conversation_id, command, traceparent)

    async def hold(self, conversation_id: str) -> Held | HasMessages:
        """Keeps a conversation without messages without messages, for some seconds."""
        return cast(Held | HasMessages, await self._ask("hold", conversation_id, HoldConversation(conversation_id), None))

    async def release(self, conversation_id: str) -> None:
        """Ends a hold."""
        await self._ask("release", conversation_id, ReleaseConversation(conversation_id), None)

    async def look(self, conversation_id: str, user_id: str) -> Member | NoConversation:
        """Whether the person may take part in the conversation now."""
        return cast(Member | NoConversation, await self._ask("look", conversation_id, Look(conversation_id, user_id), None))

    async def _mark(
        self, conversation_id: str, reader_id: str, seq: int, traceparent: str | None
    ) -> ReadAnswer | MarkLater:
        command = MarkRead(conversation_id, reader_id, seq)
        return cast(ReadAnswer | MarkLater, await self._ask("read", conversation_id, command, traceparent))

    async def _later(self, key: tuple[str, str], waiting: _Waiting, wait_s: float, traceparent: str | None) -> None:
        """Asks again when the second is over, and answers everybody who waits."""
        try:
            while True:
                await asyncio.sleep(wait_s)
                seq = waiting.seq
                answer = await self._mark(*key, seq, traceparent)
                if isinstance(answer, MarkLater):
                    wait_s = answer.wait_s
                elif waiting.seq > seq:
                    wait_s = 0.0
                else:
                    break
            del self._marks[key]
            if not waiting.answer.done():
                waiting.answer.set_result(answer)
        except BaseException as error:
            self._marks.pop(key, None)
            if not waiting.answer.done():
                if isinstance(error, Exception):
                    waiting.answer.set_exception(error)
                    waiting.answer.exception()  # every waiter may have gone
                else:
                    waiting.answer.cancel()
            if not isinstance(error, Exception):
                raise

    async def _ask(self, method: str, conversation_id: str, command: object, traceparent: str | None) -> object:
        shard = self._pool.shard_of(conversation_id)
        return await self._pool.ask(SERVICE, shard, method, command, traceparent=traceparent)
