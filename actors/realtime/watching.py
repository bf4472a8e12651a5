"""Whose presence the sockets of one gateway want to know, and telling them when it changes.

Whether somebody may know is asked of the conversation's shard each time before they are told anything: no answer of a
while ago outlives an unmatch or a block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from actors.messages.commands import Member, NoConversation
from actors.realtime.hub import Socket
from actors.realtime.presence import Presences, Seen
from cluster.connections.cluster_fanout import Hearing
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.frames import Presence, encode
from configs.contracts.realtime import presence_channel

log = structlog.get_logger(__name__)

LOOK_AGAIN_S: Final = 60.0
"""Every watched person is looked at so often, should a change not have been told."""
LOOK_SOON_S: Final = 5.0
"""Over so long everybody is looked at after a gateway died: it told nobody that its sockets are gone."""
HEARD_WITHIN_S: Final = 5.0
TOLD_EVERY_S: Final = 1.0
"""Changes of one person within so long are told together."""


class Looking(Protocol):
    """What is needed of ``actors.messages.client.ConversationsClient``."""

    async def look(self, conversation_id: str, user_id: str) -> Member | NoConversation: ...


class Watching:
    """The watched people of one gateway. Everything bounded by sockets × ``frames.WATCHED_LIMIT``."""

    def __init__(self, conversations: Looking, presences: Presences, subscriptions: Hearing) -> None:
        self._conversations = conversations
        self._presences = presences
        self._subscriptions = subscriptions
        self._watchers: dict[str, dict[tuple[Socket, str], None]] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._all = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> list[asyncio.Task[None]]:
        """The tasks that run until ``close``."""
        self._tasks = [
            asyncio.create_task(self._tell_changes(), name="presence"),
            asyncio.create_task(self._look_again(LOOK_AGAIN_S), name="presence-again"),
            asyncio.create_task(self._look_soon(), name="presence-soon"),
        ]
        return self._tasks

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._watchers)

    async def watch(self, socket: Socket, conversation_ids: Sequence[str]) -> None:
        """Replaces what the socket watches and tells it the present state. Raises DependencyUnavailable."""
        wanted = list(dict.fromkeys(conversation_ids))
        members = await self._members(socket, wanted)
        self.forget(socket)
        if socket.closed is not None:
            return
        for conversation_id, (other_id, _) in members.items():
            socket.watching[conversation_id] = (other_id, None)
            watchers = self._watchers.setdefault(other_id, {})
            watchers[(socket, conversation_id)] = None
        try:
            async with asyncio.timeout(HEARD_WITHIN_S):
                await asyncio.gather(*(
                    asyncio.shield(self._subscriptions.add(presence_channel(other_id))) for other_id, _ in members.values()
                ))
        except TimeoutError as error:
            raise DependencyUnavailable("Redis does not answer") from error
        await self._tell({other_id: [(socket, conversation, seq)] for conversation, (other_id, seq) in members.items()})

    def forget(self, socket: Socket) -> None:
        """The socket watches nobody."""
        for conversation_id in list(socket.watching):
            self._drop(socket, conversation_id)

    def _drop(self, socket: Socket, conversation_id: str) -> None:
        other_id, _ = socket.watching.pop(conversation_id, ("", None))
        watchers = self._watchers.get(other_id)
        if watchers is not None:
            watchers.pop((socket, conversation_id), None)
            if not watchers:
                del self._watchers[other_id]
                self._subscriptions.remove(presence_channel(other_id))

    def changed(self, user_id: str) -> None:
        """A person's presence may have changed."""
        if user_id in self._watchers:
            self._changed.add(user_id)
            self._wake.set()

    async def _members(self, socket: Socket, conversation_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Conversation -> the other member and its last number, of those in which the socket's person takes part now."""
        user_id = socket.session.user_id
        answers = await asyncio.gather(*(
            self._conversations.look(conversation_id, user_id) for conversation_id in conversation_ids
        ))
        return {
            conversation_id: (answer.other_id, answer.last_seq)
            for conversation_id, answer in zip(conversation_ids, answers, strict=True) if isinstance(answer, Member)
        }

    async def _tell(self, watchers: dict[str, list[tuple[Socket, str, int]]]) -> None:
        """Tells each watcher the person's presence unless it is what they were told last."""
        people = list(watchers)
        for user_id, seen in zip(people, await self._presences.look(people), strict=True):
            for socket, conversation_id, last_seq in watchers[user_id]:
                self._tell_one(socket, conversation_id, user_id, seen, last_seq)

    def _tell_one(self, socket: Socket, conversation_id: str, user_id: str, seen: Seen, last_seq: int) -> None:
        watched = socket.watching.get(conversation_id)
        if watched is None or watched == (user_id, seen):
            return
        socket.watching[conversation_id] = (user_id, seen)
        socket.tell(encode(Presence(
            conversation_id=conversation_id, user_id=user_id, online=seen.online, last_active_bucket=seen.bucket, last_seq=last_seq,
        )))

    async def _tell_changes(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(TOLD_EVERY_S)
            self._wake.clear()
            changed, self._changed = self._changed, set()
            await self._look(changed)

    def look_at_all(self) -> None:
        """Looks at everybody who is watched within some seconds."""
        self._all.set()

    async def _look_soon(self) -> None:
        while True:
            await self._all.wait()
            self._all.clear()
            await self._round(LOOK_SOON_S)

    async def _look_again(self, over_s: float) -> None:
        while True:
            await self._round(over_s)

    async def _round(self, over_s: float) -> None:
        """Looks at a share of all watched people every second."""
        people = list(self._watchers)
        for share in range(int(over_s)):
            await asyncio.sleep(1.0)
            await self._look(set(people[share :: int(over_s)]))

    async def _look(self, user_ids: set[str]) -> None:
        watchers: dict[str, list[tuple[Socket, str, int]]] = {}
        pairs = [
            (user_id, socket, conversation_id)
            for user_id in user_ids for socket, conversation_id in self._watchers.get(user_id, ())
        ]
        if not pairs:
            return
        try:
            answers = await asyncio.gather(*(
                self._conversations.look(conversation_id, socket.session.user_id) for _, socket, conversation_id in pairs
            ), return_exceptions=True)
            for (user_id, socket, conversation_id), answer in zip(pairs, answers, strict=True):
                if isinstance(answer, Member):
                    watchers.setdefault(user_id, []).append((socket, conversation_id, answer.last_seq))
                elif isinstance(answer, NoConversation):
                    self._drop(socket, conversation_id)
                elif isinstance(answer, DependencyUnavailable):  # one shard is away: those of the others are told
                    self._changed.add(user_id)
                else:
                    raise answer
            await self._tell(watchers)
        except DependencyUnavailable as error:
            log.warning("presence_not_told", reason=error.message)
            self._changed |= user_ids & self._watchers.keys()
        except PlatformError as error:
            log.error("presence_failed", reason=str(error))  # noqa: TRY400  the next change is told again
