"""The service of conversation shards: messages and read marks, durable in their topics before the answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
import structlog

from actors.messages.admission import Admitted, Sending
from actors.messages.commands import (
    SERVICE,
    EndConversation,
    Ended,
    Held,
    HoldConversation,
    Look,
    Marked,
    MarkRead,
    Member,
    NoConversation,
    NoteMatch,
    ReleaseConversation,
    Released,
    SendMessage,
    Sent,
)
from actors.messages.state import Answer, Command, MessageMemory, message_id
from actors.sharding.group import Appender, ShardGroup, utc_now
from actors.sharding.service import HOUSEKEEPING_S
from actors.sharding.tail import Feed, LogTail
from actors.sharding.tenure import Tenure
from cluster.connections.kafka import LogAppender
from configs.contracts.errors import DependencyUnavailable, PlatformError, ShardUnavailable
from configs.contracts.events import Barrier, decode
from configs.contracts.ids import partition_of
from configs.contracts.loading import RowLoader
from configs.contracts.positions import version_of
from configs.contracts.telling import Publication, match_ended, message_told, read_told
from configs.contracts.topics import MATCHING_MATCHED, MESSAGING_MESSAGE_READ, MESSAGING_MESSAGE_SENT
from configs.settings import Settings

log = structlog.get_logger(__name__)

TOPICS = (MESSAGING_MESSAGE_SENT.name, MESSAGING_MESSAGE_READ.name, MATCHING_MATCHED.name)
"""A conversation has the id of its match, so all that concerns it stands in one partition number of each."""
_BARRIER = b'"type":"barrier"'

Admit = Callable[[Sequence[Sending]], Awaitable[Sequence[Admitted | DependencyUnavailable]]]
"""Of each conversation whether both members are active, and how many of each sender's messages may be sent now."""
Unknown = Callable[[Sequence[tuple[str, str]]], Awaitable[frozenset[tuple[str, str]]]]
"""Which of some (person, media) are no media that the person may send."""
_Refused = dict[int, Answer | PlatformError]
MakeTail = Callable[[Sequence[Feed], Callable[[], str]], LogTail]


def _request(command: SendMessage) -> tuple[str, str, str]:
    return command.conversation_id, command.sender_id, command.client_message_id


async def everything(conversations: Sequence[Sending]) -> Sequence[Admitted]:
    """For shards without a read model: tests, tools."""
    return [Admitted(False, {sender: (count, 0) for sender, count in sending.counts.items()}) for sending in conversations]


async def _none(sent: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """For shards without media: tests, tools."""
    return frozenset()


def _tell_nobody(channel: str, frame: bytes) -> None:
    """For shards without sockets: tests, tools."""


class MessageService:
    """Conversations of the shards given. A message's number, a read mark and the end of a match are each durable in the
    log (the end in its pair's authority's topic) before they are answered."""

    METHODS: tuple[str, ...] = ("send", "read", "end", "note_match", "hold", "release", "look")

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: Appender, loader: RowLoader,
        die: Callable[[str], None], tell: Callable[[str, bytes], None] = _tell_nobody,
        clock: Callable[[], datetime] = utc_now, tail: MakeTail | None = None, admit: Admit = everything,
        unknown: Unknown = _none,
    ) -> None:
        """``tell(channel, frame)`` reaches sockets, soon or never; it is called after what is told is durable."""
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            with self.memory.loading(keys):
                return await loader.conversations(keys)

        self.epoch = 0
        self.tenure = Tenure(loader, SERVICE, shards)
        self._shards = tuple(shards)
        self._name = f"{SERVICE}-{self._shards[0] if self._shards else 'none'}"
        self._partitions = settings.log.partitions
        self._tell = tell
        self._admit = admit
        self._unknown = unknown
        self._appender = appender
        self._loader = loader
        self._die = die
        self._clock = clock
        self._limit = settings.plan.keys_in_memory
        own = frozenset(self._shards)
        self.memory = MessageMemory(
            settings.limits, epoch_of=lambda key: self.tenure.of(self._partition(key)),
            owns=lambda key: self._partition(key) in own,
        )
        self.group: ShardGroup[Command, Answer] = ShardGroup(
            self.memory, appender, load_rows, partitions=settings.log.partitions,
            append_deadline_s=settings.log.append_deadline_ms / 1_000, die=die, clock=clock,
            sole=(MESSAGING_MESSAGE_SENT.name, MESSAGING_MESSAGE_READ.name), hurry=lambda: self._tail.hurry(),
        )
        make: MakeTail = tail or (lambda feeds, label: LogTail(
            settings, self._name, cast(LogAppender, appender), feeds, die=die, label=label, paced=True,
        ))
        self._tail = make([
            Feed(topic, self._shards, self._shards, self._take) for topic in TOPICS
        ], lambda: f"{self._name}/{self.tenure.highest}")
        self._housekeeping: asyncio.Task[None] | None = None
        self._restore_s = 0.0
        self._replayed = 0

    async def start(self) -> None:
        """Raises DependencyUnavailable: the loader or the broker does not answer; call again."""
        began = time.monotonic()
        claimed = await self.tenure.claim()
        self._replayed = await self._tail.replay(await self._loader.positions(TOPICS))
        for topic, offsets in self._tail.next_offsets.items():
            for partition, offset in offsets.items():
                self.group.follow(topic, partition, offset)
        if claimed > 1:
            offsets = dict(self._tail.next_offsets.get(MATCHING_MATCHED.name, {}))
            self.memory.succeed(self._clock(), lambda key: version_of(
                self._appender.generation(MATCHING_MATCHED.name), offsets.get(self._partition(key), 0)
            ))
        self._tail.follow()
        self.epoch = claimed
        self._restore_s = time.monotonic() - began
        self._housekeeping = asyncio.create_task(self._keep_house())

    async def close(self) -> None:
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        await asyncio.to_thread(self._tail.close)

    async def send(self, commands: Sequence[SendMessage]) -> list[Answer | PlatformError]:
        """Each message recorded once, in the order of its conversation's turns; told also when it is only repeated.

        A shard that died between the log and telling is made good for by whoever repeats the request.
        """
        names = [command.conversation_id for command in commands]
        await self._present(names)
        try:
            await self.group.ensure_loaded(names)
        except ShardUnavailable as error:
            return [error] * len(commands)
        refused, commands = await self._admitted(commands)
        commands = await self._attaching(commands, refused)
        kept = [command for index, command in enumerate(commands) if index not in refused]
        recorded = iter(await self.group.record(await self._looked_up(kept)))
        answers = [refused[index] if index in refused else next(recorded) for index in range(len(commands))]
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, Sent):
                self._tell_all(message_told(
                    command.conversation_id, answer.message_id, answer.seq, command.sender_id, answer.recipient_id,
                    command.content, answer.sent_at, command.client_message_id, command.post_id, command.attachments,
                ))
        return answers

    async def read(self, commands: Sequence[MarkRead]) -> list[Answer | PlatformError]:
        """Each mark moved forward."""
        answers = await self.group.record(await self._placed(commands))
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, Marked) and answer.recorded:
                self._tell_all(read_told(command.conversation_id, command.reader_id, answer.other_id, answer.seq))
        return answers

    async def end(self, commands: Sequence[EndConversation]) -> list[Answer | PlatformError]:
        """Each conversation closed: what was decided before is acknowledged by now, nothing is accepted later."""
        ended = [self.memory.active_members(command.conversation_id) for command in commands]
        for command in commands:
            self.memory.end(command)
        answers = await self.group.record(commands)
        for members in ended:
            if members is not None:
                low, high = members
                self._tell_all((match_ended(low, high), match_ended(high, low)))
        return answers

    async def note_match(self, commands: Sequence[NoteMatch]) -> list[Ended]:
        """Each conversation open."""
        for command in commands:
            self.memory.note(command)
        return [Ended()] * len(commands)

    async def hold(self, commands: Sequence[HoldConversation]) -> list[Answer | PlatformError]:
        """Each conversation held, unless it has messages: also those decided before count."""
        now = self._clock()
        for command in commands:
            self.memory.hold(command.conversation_id, now)
        answers = await self.group.record(commands)
        for command, answer in zip(commands, answers, strict=True):
            if not isinstance(answer, Held):
                self.memory.release(command.conversation_id)
        return answers

    async def release(self, commands: Sequence[ReleaseConversation]) -> list[Released]:
        """Each hold ended."""
        for command in commands:
            self.memory.release(command.conversation_id)
        return [Released()] * len(commands)

    async def look(self, commands: Sequence[Look]) -> list[Member | NoConversation | PlatformError]:
        """What each person may see of a conversation; outside any turn."""
        names = [command.conversation_id for command in commands]
        try:
            await self._present(names)
            await self.group.ensure_loaded(names)
        except ShardUnavailable as error:
            return [error] * len(commands)
        return [self.memory.look(command) for command in commands]

    async def keep_house(self) -> None:
        """Forgets conversations beyond the limit that the rows hold; does nothing without an answer of the loader."""
        if self.memory.entries() <= self._limit:
            return
        try:
            positions = await self._loader.positions(TOPICS)
        except DependencyUnavailable:
            return

        def committed(topic: str, key: str) -> int:
            return version_of(self._appender.generation(topic), positions.get(topic, {}).get(self._partition(key), 0))

        self.memory.forget(self._limit, committed, self._clock())

    def describe(self) -> dict[str, Any]:
        return self.group.describe() | {
            "shards": list(self._shards), "restore_s": round(self._restore_s, 3), "replayed": self._replayed,
        }

    def _tell_all(self, publications: Sequence[Publication]) -> None:
        for channel, frame in publications:
            self._tell(channel, frame)

    async def _admitted(self, commands: Sequence[SendMessage]) -> tuple[_Refused, Sequence[SendMessage]]:
        """What is answered already, by index, and the messages, those beyond their sender's rate marked."""
        now = self._clock()
        by_name: dict[str, list[int]] = {}
        for index, command in enumerate(commands):
            by_name.setdefault(command.conversation_id, []).append(index)
        asked: list[tuple[list[int], list[int], Sending]] = []
        for name, indexes in by_name.items():
            members = self.memory.active_members(name)
            if members is not None:
                counted = [index for index in indexes if self.memory.counts(commands[index], now)]
                asked.append((indexes, counted, Sending(members, Counter(commands[index].sender_id for index in counted))))
        if not asked:
            return {}, commands
        refused: _Refused = {}
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

    async def _attaching(self, commands: Sequence[SendMessage], refused: _Refused) -> Sequence[SendMessage]:
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

    async def _present(self, names: Sequence[str]) -> None:
        """Looks again for conversations that were not there: whoever was notified of a match finds it in rows, while the
        tail may bring it a second later."""
        now = self._clock()
        absent = self.memory.absent(names, now)
        if not absent:
            return
        try:
            with self.memory.loading(absent):
                self.memory.load_again(await self._loader.conversations(absent), absent, now)
        except DependencyUnavailable as error:
            log.warning("conversations_not_looked_for", conversations=len(absent), reason=error.message)

    async def _placed(self, commands: Sequence[MarkRead]) -> list[MarkRead]:
        """The marks, those of messages older than the memory with their count from rows."""
        placed = list(commands)
        try:
            await self.group.ensure_loaded([command.conversation_id for command in commands])
            old = [index for index, command in enumerate(commands) if self.memory.forgotten_place(command)]
            if old:
                counts = await self._loader.ordinals([
                    (commands[index].conversation_id, commands[index].seq, commands[index].reader_id) for index in old
                ])
                for index, (stored, ordinal) in zip(old, counts, strict=True):
                    if self.memory.reaches(commands[index].conversation_id, stored):
                        placed[index] = msgspec.structs.replace(commands[index], ordinal=ordinal)
        except DependencyUnavailable as error:
            log.warning("read_marks_wait", commands=len(commands), reason=error.message)
        return placed

    async def _looked_up(self, commands: Sequence[SendMessage]) -> list[SendMessage]:
        """The messages, those that may repeat one older than the memory with what the rows hold under their request."""
        looked = list(commands)
        try:
            await self.group.ensure_loaded([command.conversation_id for command in commands])
            places = self.memory.without_older(commands)
            if places:
                for (name, before), older in zip(places, await self._loader.older_requests(places), strict=True):
                    self.memory.load_older(name, before, *older)
            old = [index for index, command in enumerate(commands) if self.memory.perhaps_older(command)]
            if old:
                found = await self._loader.sent([
                    (commands[index].conversation_id, message_id(*_request(commands[index]))) for index in old
                ])
                for index, (stored, entry) in zip(old, found, strict=True):
                    if self.memory.reaches(commands[index].conversation_id, stored):
                        looked[index] = msgspec.structs.replace(commands[index], earlier=entry)
        except DependencyUnavailable as error:
            log.warning("old_requests_not_looked_up", commands=len(commands), reason=error.message)
        return looked

    def _partition(self, key: str) -> int:
        return partition_of(key, self._partitions)

    def _take(self, topic: str, partition: int, records: Sequence[tuple[int, bytes | None]]) -> None:
        """Ends this process when a later life of these shards has begun to restore; nothing behind that is taken in."""
        for _, value in records:
            if value is None or _BARRIER not in value:
                continue
            barrier = decode(value).payload
            name, _, epoch = (barrier.nonce if isinstance(barrier, Barrier) else "").split(" ")[0].partition("/")
            if name == self._name and epoch.isdecimal() and int(epoch) > self.tenure.highest:
                self._die(f"replaced by epoch {epoch}")
                return
        self.group.take(topic, partition, records)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            await self.keep_house()
