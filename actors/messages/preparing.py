"""What a conversation shard has to know before a turn decides: whom Redis admits, and what only the rows remember.

Each step returns the commands, with what it found written into them; the turn itself looks nothing up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec
import structlog

from actors.messages.admission import Admitted, Sending
from actors.messages.commands import MarkRead, NoConversation, SendMessage
from actors.messages.state import Answer, MessageMemory, message_id
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.loading import RowLoader

log = structlog.get_logger(__name__)

Admit = Callable[[Sequence[Sending]], Awaitable[Sequence[Admitted | DependencyUnavailable]]]
"""Of each conversation whether both members are active, and how many of each sender's messages may be sent now."""
Unknown = Callable[[Sequence[tuple[str, str]]], Awaitable[frozenset[tuple[str, str]]]]
"""Which of some (person, media) are no media that the person may send."""
Refused = dict[int, Answer | PlatformError]


async def everything(conversations: Sequence[Sending]) -> Sequence[Admitted]:
    """For shards without a read model: tests, tools."""
    return [Admitted(False, {sender: (count, 0) for sender, count in sending.counts.items()}) for sending in conversations]


async def no_media(sent: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """For shards without media: tests, tools."""
    return frozenset()


def _request(command: SendMessage) -> tuple[str, str, str]:
    return command.conversation_id, command.sender_id, command.client_message_id


class Preparing:
    """The steps of one service's commands, over its memory and its loader."""

    def __init__(
        self, memory: MessageMemory, loader: RowLoader, ensure_loaded: Callable[[Sequence[str]], Awaitable[None]], *,
        admit: Admit, unknown: Unknown, clock: Callable[[], datetime],
    ) -> None:
        """``ensure_loaded``: brings conversations into the memory; raises ShardUnavailable."""
        self._memory = memory
        self._loader = loader
        self._ensure_loaded = ensure_loaded
        self._admit = admit
        self._unknown = unknown
        self._clock = clock

    async def admitted(self, commands: Sequence[SendMessage]) -> tuple[Refused, Sequence[SendMessage]]:
        """What is answered already, by index, and the messages, those beyond their sender's rate marked."""
        now = self._clock()
        by_name: dict[str, list[int]] = {}
        for index, command in enumerate(commands):
            by_name.setdefault(command.conversation_id, []).append(index)
        asked: list[tuple[list[int], list[int], Sending]] = []
        for name, indexes in by_name.items():
            members = self._memory.active_members(name)
            if members is not None:
                counted = [index for index in indexes if self._memory.counts(commands[index], now)]
                asked.append((indexes, counted, Sending(members, Counter(commands[index].sender_id for index in counted))))
        if not asked:
            return {}, commands
        refused: Refused = {}
        marked = list(commands)
        for (indexes, counted, _), admitted in zip(asked, await self._admit([sending for *_, sending in asked]), strict=True):
            if isinstance(admitted, DependencyUnavailable):
                refused |= dict.fromkeys(indexes, admitted)
                continue
            if admitted.away:
                refused |= dict.fromkeys(indexes, NoConversation())
            taken = Counter[str]()
            for index in counted:
                sender = commands[index].sender_id
                allowed, wait_ms = admitted.allowed[sender]
                taken[sender] += 1
                if taken[sender] > allowed:
                    marked[index] = msgspec.structs.replace(commands[index], wait_ms=wait_ms)
        return refused, marked

    async def attaching(self, commands: Sequence[SendMessage], refused: Refused) -> Sequence[SendMessage]:
        """The messages, those with an attachment that its sender may not send marked; ``refused`` where nobody can tell."""
        attaching = [index for index, command in enumerate(commands) if command.attachments and index not in refused]
        if not attaching:
            return commands
        try:
            unknown = await self._unknown([
                (commands[index].sender_id, media_id) for index in attaching for media_id in commands[index].attachments
            ])
        except DependencyUnavailable as error:
            refused |= dict.fromkeys(attaching, error)
            return commands
        marked = list(commands)
        for index in attaching:
            if any((commands[index].sender_id, media_id) in unknown for media_id in commands[index].attachments):
                marked[index] = msgspec.structs.replace(commands[index], unknown=True)
        return marked

    async def present(self, names: Sequence[str]) -> None:
        """Looks again for conversations that were not there: whoever was notified of a match finds it in rows, while the
        tail may bring it a second later."""
        now = self._clock()
        absent = self._memory.absent(names, now)
        if not absent:
            return
        try:
            with self._memory.loading(absent):
                self._memory.load_again(await self._loader.conversations(absent), absent, now)
        except DependencyUnavailable as error:
            log.warning("conversations_not_looked_for", conversations=len(absent), reason=error.message)

    async def placed(self, commands: Sequence[MarkRead]) -> list[MarkRead]:
        """The marks, those of messages older than the memory with their count from rows."""
        placed = list(commands)
        try:
            await self._ensure_loaded([command.conversation_id for command in commands])
            old = [index for index, command in enumerate(commands) if self._memory.forgotten_place(command)]
            if old:
                counts = await self._loader.ordinals([
                    (commands[index].conversation_id, commands[index].seq, commands[index].reader_id) for index in old
                ])
                for index, (stored, ordinal) in zip(old, counts, strict=True):
                    if self._memory.reaches(commands[index].conversation_id, stored):
                        placed[index] = msgspec.structs.replace(commands[index], ordinal=ordinal)
        except DependencyUnavailable as error:
            log.warning("read_marks_wait", commands=len(commands), reason=error.message)
        return placed

    async def looked_up(self, commands: Sequence[SendMessage]) -> list[SendMessage]:
        """The messages, those that may repeat one older than the memory with what the rows hold under their request."""
        looked = list(commands)
        try:
            await self._ensure_loaded([command.conversation_id for command in commands])
            places = self._memory.without_older(commands)
            if places:
                for (name, before), older in zip(places, await self._loader.older_requests(places), strict=True):
                    self._memory.load_older(name, before, *older)
            old = [index for index, command in enumerate(commands) if self._memory.perhaps_older(command)]
            if old:
                found = await self._loader.sent([
                    (commands[index].conversation_id, message_id(*_request(commands[index]))) for index in old
                ])
                for index, (stored, entry) in zip(old, found, strict=True):
                    if self._memory.reaches(commands[index].conversation_id, stored):
                        looked[index] = msgspec.structs.replace(commands[index], earlier=entry)
        except DependencyUnavailable as error:
            log.warning("old_requests_not_looked_up", commands=len(commands), reason=error.message)
        return looked
