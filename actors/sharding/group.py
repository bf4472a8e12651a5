"""One turn for all shards of a kind in one actor: decide, append, apply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from actors.sharding.memory import Append, Decision, Memory
from actors.sharding.rows import LoadRows, RowsOnDemand
from actors.sharding.tracing import headers_of
from cluster.connections.kafka import Record
from configs.contracts.errors import (
    AppendUnconfirmed,
    InvalidEvent,
    LogUnavailable,
    PlatformError,
    ShardUnavailable,
)
from configs.contracts.events import Barrier, decode, encode
from configs.contracts.ids import partition_of
from configs.contracts.positions import version_of

C = TypeVar("C")
A = TypeVar("A")
log = structlog.get_logger(__name__)

COMMANDS_A_ROUND: Final = 2_048
"""Bounds what one append carries; what is beyond waits for the next one."""


class Appender(Protocol):
    """What a shard needs of the log; ``cluster.connections.kafka.LogAppender`` is the real one."""

    @property
    def blocked(self) -> bool: ...

    def generation(self, topic: str) -> int: ...

    def submit(self, records: Sequence[Record]) -> asyncio.Future[list[int]]: ...


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, eq=False)
class _Call(Generic[C, A]):
    """Commands that came together; ``future`` is done once all are answered."""

    commands: Sequence[C]
    answers: list[A | PlatformError | None]
    left: int
    future: asyncio.Future[list[A | PlatformError]]

    def answer(self, index: int, answer: A | PlatformError) -> None:
        self.answers[index] = answer
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(self.answers)  # type: ignore[arg-type]  # every index was answered by now


_Item = tuple[_Call[C, A], int]
"""One command of a call, by its index."""


class ShardGroup(Generic[C, A]):
    """Makes each command's events durable before they are visible, once each; all shards of a kind in one actor.

    Commands that wait while a round is being appended share the next one, whichever calls brought them: an append costs
    nearly the same for one record as for a hundred. Those of one conflict key are decided one after another, as they came.

    ``die`` is called when an append can no longer be known: the process must end and replay (it does not return in
    production; in tests it may raise).
    """

    def __init__(
        self,
        memory: Memory[C, A],
        appender: Appender,
        load_rows: LoadRows,
        *,
        partitions: int,
        append_deadline_s: float,
        die: Callable[[str], None],
        clock: Callable[[], datetime] = utc_now,
        in_order: Collection[str] = (),
        hurry: Callable[[], None] = lambda: None,
        joined: bool = True,
    ) -> None:
        """``joined``: whether commands of several calls share a round.

        ``in_order``: topics in whose followed partitions others append seldom, and what they do decides what follows it.

        There its own records mostly stand side by side. With something unknown between them it acknowledges nothing before
        the tail (which ``hurry`` wakes) has shown what that is and memory holds it: behind the barrier of a later life its
        records may not count (``take`` is not given them), and behind a removal they change nothing.
        """
        self.memory = memory
        self._in_order = frozenset(in_order)
        self._hurry = hurry
        self._appended_to: dict[tuple[str, int], int] = {}
        self._moved: asyncio.Future[None] | None = None
        self._appender = appender
        self._rows = RowsOnDemand(load_rows, memory.load)
        self._partitions = partitions
        self._deadline_s = append_deadline_s
        self._die = die
        self._clock = clock
        self._turn = asyncio.Lock()
        self._joined = joined
        self._pending: list[_Item[C, A]] = []
        self._running: asyncio.Task[None] | None = None
        self._unsettled: asyncio.Task[None] | None = None
        self._own: dict[tuple[str, int], set[int]] = {}
        self._tailed: dict[tuple[str, int], int] = {}
        self.appended = 0
        self.turns = 0

    async def record(self, commands: Sequence[C]) -> list[A | PlatformError]:
        """The answer to each command, in order, after everything it caused is acknowledged by the log.

        A PlatformError as an answer: that command was not carried out (ShardUnavailable: rows not loaded), or
        (LogUnavailable) it is not acknowledged yet and may still take effect.
        """
        answers: list[A | PlatformError | None] = [None] * len(commands)
        await self._load(commands, answers)
        left = [index for index, answer in enumerate(answers) if answer is None]
        if not left:
            return answers  # type: ignore[return-value]  # every index is answered
        call = _Call(commands, answers, len(left), asyncio.get_running_loop().create_future())
        self._pending += [(call, index) for index in left]
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await call.future

    async def _run(self) -> None:
        """Rounds until nothing is pending."""
        try:
            while self._pending:
                async with self._turn:
                    items = self._picked()
                    try:
                        if self._unsettled is not None:
                            for call, index in items:
                                call.answer(index, ShardUnavailable("an earlier append is not settled yet"))
                        else:
                            await self._round(items)
                    except Exception as error:  # noqa: BLE001  handed to whoever waits
                        for call, _ in items:
                            if not call.future.done():
                                call.future.set_exception(error)
        finally:
            self._running = None

    async def ensure_loaded(self, keys: Sequence[str]) -> None:
        """Brings the rows of these keys into memory. Raises ShardUnavailable."""
        missing = [key for key in dict.fromkeys(keys) if not self.memory.known(key)]
        if missing:
            await self._rows.ensure(missing)

    async def _load(self, commands: Sequence[C], answers: list[A | PlatformError | None]) -> None:
        known = self.memory.known
        missing = {
            index: keys
            for index, command in enumerate(commands)
            if (keys := [key for key in self.memory.needs(command) if not known(key)])
        }
        if not missing:
            return
        try:
            await self._rows.ensure(list(dict.fromkeys(key for keys in missing.values() for key in keys)))
        except ShardUnavailable as error:
            for index, keys in missing.items():
                if not all(known(key) for key in keys):
                    answers[index] = ShardUnavailable(error.message, **error.details)

    def _picked(self) -> list[_Item[C, A]]:
        """Takes the next round out of what is pending, in order and at most one command of each conflict key."""
        first = self._pending[0][0]
        picked: list[_Item[C, A]] = []
        left: list[_Item[C, A]] = []
        keys: set[str] = set()
        for item in self._pending:
            call, index = item
            key = self.memory.conflict_key(call.commands[index])
            if key in keys or len(picked) >= COMMANDS_A_ROUND or not (self._joined or call is first):
                left.append(item)
            else:
                picked.append(item)
            keys.add(key)
        self._pending = left
        return picked

    async def _round(self, items: Sequence[_Item[C, A]]) -> None:
        now = self._clock()
        memory = self.memory
        decided: list[tuple[_Item[C, A], Decision[A]]] = []
        records: list[Record] = []
        appends: list[Append] = []
        for call, index in items:
            command = call.commands[index]
            if not all(map(memory.known, memory.needs(command))):
                call.answer(index, ShardUnavailable("rows were evicted before the turn"))
                continue
            try:
                decision = memory.decide(command, now)
            except PlatformError as error:
                call.answer(index, error)
                continue
            decided.append(((call, index), decision))
            for append in decision.appends:
                appends.append(append)
                records.append(self._record(append, headers_of(command)))
        if not records:
            for (call, index), decision in decided:
                call.answer(index, decision.answer(()))
            return
        self.turns += 1
        future = self._appender.submit(records)
        try:
            offsets = await asyncio.wait_for(asyncio.shield(future), self._deadline_s)
        except TimeoutError:
            self._unsettled = asyncio.create_task(self._settle(future, records, appends))
            _unacknowledged(decided, "append not acknowledged in time")
            return
        except AppendUnconfirmed as error:
            self._die(str(error))
            for (call, index), _ in decided:
                call.answer(index, AppendUnconfirmed(error.message, **error.details))
            return
        unseen = self._unseen(records, offsets)
        if unseen and not await self._shown(unseen):
            self._unsettled = asyncio.create_task(self._settle(future, records, appends, unseen))
            _unacknowledged(decided, "somebody else appended here; it is not known who")
            return
        versions = self._applied(records, appends, offsets)
        start = 0
        for (call, index), decision in decided:
            end = start + len(decision.appends)
            call.answer(index, decision.answer(tuple(versions[start:end])))
            start = end

    async def _settle(
        self, future: asyncio.Future[list[int]], records: list[Record], appends: list[Append],
        unseen: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        """Waits for a late append, however long, and applies it; until then no turn begins."""
        try:
            offsets = await future
        except AppendUnconfirmed as error:
            self._die(str(error))
            return
        if unseen is None:
            unseen = self._unseen(records, offsets)
        while not await self._shown(unseen):
            pass
        self._applied(records, appends, offsets)
        self._unsettled = None

    def _unseen(self, records: Sequence[Record], offsets: Sequence[int]) -> dict[tuple[str, int], int]:
        """Where something that neither the tail nor this shard knows stands before these records, and up to where."""
        unseen = {}
        for record, offset in zip(records, offsets, strict=True):
            place = (record.topic, record.partition)
            tailed = self._tailed.get(place)
            if tailed is None or record.topic not in self._in_order:
                continue
            if offset > max(tailed, self._appended_to.get(place, -1)) + 1:
                unseen[place] = offset
            self._appended_to[place] = max(offset, self._appended_to.get(place, -1))
        return unseen

    async def _shown(self, unseen: Mapping[tuple[str, int], int]) -> bool:
        """Whether the tail comes to these records within the deadline."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadline_s
        while any(self._tailed[place] + 1 < offset for place, offset in unseen.items()):
            self._hurry()
            if self._moved is None:
                self._moved = loop.create_future()
            done, _ = await asyncio.wait((self._moved,), timeout=end - loop.time())
            if not done:
                return False
        return True

    def _record(self, append: Append, headers: tuple[tuple[str, bytes], ...]) -> Record:
        return Record(
            append.topic.name, partition_of(append.key, self._partitions), append.key, encode(append.event), headers
        )

    def _applied(self, records: Sequence[Record], appends: Sequence[Append], offsets: Sequence[int]) -> list[int]:
        versions = []
        generation = self._appender.generation
        for record, append, offset in zip(records, appends, offsets, strict=True):
            version = version_of(generation(record.topic), offset)
            self.memory.apply(append.event, version)
            versions.append(version)
            place = (record.topic, record.partition)
            if place in self._tailed and offset > self._tailed[place]:
                self._own.setdefault(place, set()).add(offset)
        self.appended += len(records)
        return versions

    def follow(self, topic: str, partition: int, next_offset: int) -> None:
        """Says that this partition's tail will be handed to ``take`` from this offset on."""
        self._tailed[(topic, partition)] = next_offset - 1

    def take(self, topic: str, partition: int, records: Sequence[tuple[int, bytes | None]]) -> None:
        """Takes in records (offset, value) read from the log, in order; those it appended itself are skipped.

        Anything else was acknowledged by a predecessor believed dead, or stands in a foreign partition: it is applied.
        """
        place = (topic, partition)
        own = self._own.get(place)
        generation = self._appender.generation(topic)
        for offset, value in records:
            if own and offset in own:
                own.discard(offset)
                continue
            try:
                event = decode(value)
            except InvalidEvent as error:
                log.warning("tail_record_skipped", topic=topic, partition=partition, offset=offset, reason=error.message)
                continue
            if not isinstance(event.payload, Barrier):
                self.memory.apply(event, version_of(generation, offset))
        if records and place in self._tailed:
            self._tailed[place] = max(self._tailed[place], records[-1][0])
            if self._moved is not None:
                self._moved.set_result(None)
                self._moved = None

    async def evict(self, limit: int, positions: Mapping[int, int], generation: int) -> int:
        """Forgets least recently used keys beyond the limit; ``positions``: committed next offset by partition."""
        if self.memory.entries() <= limit:
            return 0

        def committed(key: str) -> int:
            return version_of(generation, positions.get(partition_of(key, self._partitions), 0))

        async with self._turn:
            return self.memory.evict(limit, committed)

    def describe(self) -> dict[str, Any]:
        """Figures for status and metrics."""
        return {
            "entries": self.memory.entries(),
            "appended": self.appended,
            "turns": self.turns,
            "unsettled": self._unsettled is not None,
        }


def _unacknowledged(decided: Sequence[tuple[_Item[C, A], Decision[A]]], reason: str) -> None:
    """Answers what appended nothing; the rest may still take effect."""
    for (call, index), decision in decided:
        call.answer(index, LogUnavailable(reason) if decision.appends else decision.answer(()))
