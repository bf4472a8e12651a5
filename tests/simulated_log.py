"""A log in memory with the guarantees of the real one, and the faults a test asks for.

tests/integration/test_log_conformance.py runs the same suite on it and on LogAppender + LogTail with the embedded
broker, so that what the model-based tests prove holds for the real log.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any, Literal

from actors.sharding.tail import Feed
from cluster.connections.kafka import Record
from configs.contracts.errors import AppendUnconfirmed
from configs.contracts.events import Barrier, Event, decode, encode
from configs.contracts.ids import new_id

Mode = Literal["ok", "lose", "lose_ack", "late", "late_ack"]
"""What happens to the next batches: acknowledged; lost, and the producer says that it cannot know; kept, and the
producer says that it cannot know; kept (or, ``late_ack``, acknowledged) only when the test releases it."""

READ_EVERY_S = 0.05


class SimulatedLog:
    """Partitions of records; shared by all appenders and tails of one world."""

    def __init__(self, *, generation: int = 1) -> None:
        self.generation = generation
        self.partitions: defaultdict[tuple[str, int], list[bytes | None]] = defaultdict(list)

    def append(self, records: Sequence[Record]) -> list[int]:
        offsets = []
        for record in records:
            partition = self.partitions[(record.topic, record.partition)]
            offsets.append(len(partition))
            partition.append(record.value)
        return offsets

    def events(self, topic: str) -> list[tuple[int, int, Event]]:
        """(partition, offset, event) of every event but barriers, each partition in order."""
        found = []
        for (name, partition), values in list(self.partitions.items()):
            if name == topic:
                for offset, value in enumerate(values):
                    event = decode(value)
                    if not isinstance(event.payload, Barrier):
                        found.append((partition, offset, event))
        return found


class SimulatedAppender:
    """``actors.sharding.group.Appender`` on a simulated log."""

    def __init__(self, log: SimulatedLog) -> None:
        self.log = log
        self.mode: Mode = "ok"
        self.dead = False
        self._held: list[tuple[Mode, asyncio.Future[list[int]], Sequence[Record], list[int]]] = []

    @property
    def blocked(self) -> bool:
        return bool(self._held)

    def generation(self, topic: str) -> int:
        return self.log.generation

    def submit(self, records: Sequence[Record]) -> asyncio.Future[list[int]]:
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        if not records:
            future.set_result([])
        elif self.dead:
            pass  # the process is gone: nothing is sent, nobody is told
        elif self.mode == "lose":
            future.set_exception(AppendUnconfirmed("lost"))
        elif self.mode == "lose_ack":
            self.log.append(records)
            future.set_exception(AppendUnconfirmed("acknowledgement lost"))
        elif self.mode == "late":
            self._held.append((self.mode, future, records, []))
        elif self.mode == "late_ack":
            self._held.append((self.mode, future, records, self.log.append(records)))
        else:
            offsets = self.log.append(records)
            asyncio.get_running_loop().call_soon(_resolve, future, offsets)
        return future

    def release(self) -> None:
        """Lets every held batch reach the log and be acknowledged; those of a dead process are lost."""
        held, self._held = self._held, []
        self.mode = "ok"
        if self.dead:
            return
        for mode, future, records, offsets in held:
            _resolve(future, self.log.append(records) if mode == "late" else offsets)


def _resolve(future: asyncio.Future[list[int]], offsets: list[int]) -> None:
    if not future.done():
        future.set_result(offsets)


class SimulatedTail:
    """``LogTail`` on a simulated log: replay up to barriers, then follow by reading every now and then."""

    def __init__(self, log: SimulatedLog, feeds: Sequence[Feed], label: Callable[[], str]) -> None:
        self._log = log
        self._label = label
        self._feeds = {feed.topic: feed for feed in feeds}
        self._task: asyncio.Task[None] | None = None
        self.next_offsets: dict[str, dict[int, int]] = {}

    async def replay(self, positions: Mapping[str, Mapping[int, int]]) -> int:
        count = 0
        self.next_offsets = {}
        for feed in self._feeds.values():
            for partition in feed.replay:
                [end] = self._log.append([self._barrier(feed.topic, partition)])
                start = positions.get(feed.topic, {}).get(partition, 0)
                values = self._log.partitions[(feed.topic, partition)]
                records = [(offset, values[offset]) for offset in range(start, end + 1)]
                feed.take(feed.topic, partition, records)
                count += len(records)
                self.next_offsets.setdefault(feed.topic, {})[partition] = end + 1
                await asyncio.sleep(0)
        return count

    def follow(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def hurry(self) -> None:
        """It reads soon anyway."""

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        places = {
            (feed.topic, partition): self.next_offsets[feed.topic][partition]
            for feed in self._feeds.values() for partition in feed.follow
        }
        while True:
            for (topic, partition), start in places.items():
                values = self._log.partitions[(topic, partition)]
                if len(values) > start:
                    records = [(offset, values[offset]) for offset in range(start, len(values))]
                    self._feeds[topic].take(topic, partition, records)
                    places[(topic, partition)] = len(values)
            await asyncio.sleep(READ_EVERY_S)

    def _barrier(self, topic: str, partition: int) -> Record:
        mark = f"{self._label()} {new_id()}"
        return Record(topic, partition, mark, encode(Event(new_id(), datetime.now(UTC), mark, Barrier(nonce=mark))))


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting; threads' work is done in place."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()
        selector: Any = self._selector  # type: ignore[attr-defined]  # the loop's own
        select = selector.select

        def jump(timeout: float | None) -> Any:
            if timeout is None:
                raise RuntimeError("the simulation waits for something that will never happen")
            self._now += timeout
            return select(0)

        selector.select = jump

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future
