"""The service of conversation shards: messages and read marks, durable in their topics before the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import structlog

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
from actors.messages.preparing import Admit, Preparing, Unknown, everything, no_media
from actors.messages.state import Answer, Command, MessageMemory
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

MakeTail = Callable[[Sequence[Feed], Callable[[], str]], LogTail]


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
        unknown: Unknown = no_media,
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
            in_order=(MESSAGING_MESSAGE_SENT.name, MESSAGING_MESSAGE_READ.name), hurry=lambda: self._tail.hurry(),
        )
        self._preparing = Preparing(
            self.memory, loader, self.group.ensure_loaded, admit=admit, unknown=unknown, clock=clock,
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
        await self._preparing.present(names)
        try:
            await self.group.ensure_loaded(names)
        except ShardUnavailable as error:
            return [error] * len(commands)
        refused, commands = await self._preparing.admitted(commands)
        commands = await self._preparing.attaching(commands, refused)
        kept = [command for index, command in enumerate(commands) if index not in refused]
        recorded = iter(await self.group.record(await self._preparing.looked_up(kept)))
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
        answers = await self.group.record(await self._preparing.placed(commands))
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
            await self._preparing.present(names)
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
            "stored_bytes": self.memory.nbytes(),
        }

    def _tell_all(self, publications: Sequence[Publication]) -> None:
        for channel, frame in publications:
            self._tell(channel, frame)

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
