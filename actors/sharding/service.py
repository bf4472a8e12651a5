"""A service whose memory follows one topic in the partitions of its own shards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from actors.sharding.group import ShardGroup
from actors.sharding.memory import Memory
from actors.sharding.rows import LoadRows
from actors.sharding.tail import Feed, LogTail
from actors.sharding.tenure import Tenure
from cluster.connections.kafka import LogAppender
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.loading import RowLoader
from configs.contracts.topics import Topic
from configs.settings import Settings

C = TypeVar("C")
A = TypeVar("A")

HOUSEKEEPING_S = 5.0


def shards_of(partitions: int, slots: int, slot: int) -> tuple[int, ...]:
    """The shards that the actor of this slot hosts."""
    return tuple(range(slot, partitions, slots))


class LogService(Generic[C, A]):
    """Claims an epoch, restores from the log's tail, follows its partitions, records commands, evicts.

    Subclasses name their ``METHODS`` and turn commands into calls of ``group.record``.
    """

    METHODS: tuple[str, ...] = ()

    def __init__(
        self, kind: str, topic: Topic, memory: Memory[C, A], load_rows: LoadRows, *,
        settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader, die: Callable[[str], None],
        in_order: bool = False,
    ) -> None:
        """``in_order``: an answer waits until everything that others appended before it is in memory (``ShardGroup``)."""
        self._kind = kind
        self._topic = topic
        self._shards = tuple(shards)
        self._appender = appender
        self._loader = loader
        self._limit = settings.plan.keys_in_memory
        self.group: ShardGroup[C, A] = ShardGroup(
            memory, appender, load_rows,
            partitions=settings.log.partitions, append_deadline_s=settings.log.append_deadline_ms / 1_000, die=die,
            in_order=(topic.name,) if in_order else (),  # its tail never rests, so nobody needs to hurry it
        )
        self._tail = LogTail(
            settings, f"{kind}-{self._shards[0] if self._shards else 'none'}", appender,
            [Feed(topic.name, self._shards, self._shards, self.group.take)], die=die,
        )
        self._housekeeping: asyncio.Task[None] | None = None
        self.tenure = Tenure(loader, kind, self._shards)
        self.epoch = 0
        self._restore_s = 0.0
        self._replayed = 0

    async def start(self) -> None:
        """Raises DependencyUnavailable: the loader or the broker does not answer; call again."""
        began = time.monotonic()
        claimed = await self.tenure.claim()
        positions = await self._loader.positions([self._topic.name])
        self._replayed = await self._tail.replay(positions)
        for partition, offset in self._tail.next_offsets.get(self._topic.name, {}).items():
            self.group.follow(self._topic.name, partition, offset)
        self._tail.follow()
        self.epoch = claimed
        self._restore_s = time.monotonic() - began
        self._housekeeping = asyncio.create_task(self._keep_house())

    async def record(self, commands: Sequence[C]) -> list[A | PlatformError]:
        return await self.group.record(commands)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            if self.group.memory.entries() <= self._limit:
                continue
            try:
                positions = await self._loader.positions([self._topic.name])
            except DependencyUnavailable:
                continue
            await self.group.evict(
                self._limit, positions.get(self._topic.name, {}), self._appender.generation(self._topic.name)
            )

    async def close(self) -> None:
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        await asyncio.to_thread(self._tail.close)

    def describe(self) -> dict[str, Any]:
        return self.group.describe() | {
            "shards": list(self._shards), "restore_s": round(self._restore_s, 3), "replayed": self._replayed,
        }
