"""Reading the log into shards: replay from positions up to barriers, then follow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from confluent_kafka import Message

from cluster.connections.following import Pace
from cluster.connections.kafka import REPLAY_WAIT_MS, UNHURRIED_S, LogAppender, assign, barrier, consume, reader
from configs.contracts.errors import LogUnavailable, PlatformError
from configs.settings import Settings

log = structlog.get_logger(__name__)

RECORDS_A_READ = 2_000
REPLAY_READ_S = 0.02

Take = Callable[[str, int, Sequence[tuple[int, bytes | None]]], None]


@dataclass(frozen=True, slots=True)
class Feed:
    """A topic to replay from (``replay`` partitions) and then to follow (``follow`` partitions), and who takes it."""

    topic: str
    replay: tuple[int, ...]
    follow: tuple[int, ...]
    take: Take


class LogTail:
    """Feeds log records to shards: ``replay`` once, then ``follow`` in a thread until ``close``."""

    def __init__(self, settings: Settings, name: str, appender: LogAppender, feeds: Sequence[Feed], *,
                 die: Callable[[str], None], label: Callable[[], str] | None = None, paced: bool = False) -> None:
        """``label``: text before the nonce of every barrier, so that others see who restores from there.

        ``paced``: a busy topic is followed with pauses (see ``Pace``); otherwise records are handed on at once.
        """
        self._settings = settings
        self._name = name
        self._appender = appender
        self._feeds = {feed.topic: feed for feed in feeds}
        self._die = die
        self._label = label
        self._paced = paced
        self._stopping = threading.Event()
        self._hurrying = threading.Event()
        self._thread: threading.Thread | None = None
        self.next_offsets: dict[str, dict[int, int]] = {}

    async def replay(self, positions: Mapping[str, Mapping[int, int]]) -> int:
        """Hands on everything from the positions up to now, then returns the number of records.

        "Now" is a barrier record appended to each partition: having read it, everything acknowledged before was read.
        Raises LogUnavailable, PositionOutsideLog.
        """
        barriers = [(feed.topic, partition) for feed in self._feeds.values() for partition in feed.replay]
        label = "" if self._label is None else self._label()
        records = [barrier(topic, partition, label) for topic, partition in barriers]
        offsets = await self._appender.append(records, deadline_s=UNHURRIED_S)
        ends = dict(zip(barriers, offsets, strict=True))
        starts = {
            feed.topic: {partition: positions.get(feed.topic, {}).get(partition, 0) for partition in feed.replay}
            for feed in self._feeds.values()
        }
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(self._replay, starts, ends, loop)

    def _replay(self, starts: Mapping[str, Mapping[int, int]], ends: Mapping[tuple[str, int], int],
                loop: asyncio.AbstractEventLoop) -> int:
        consumer = reader(self._settings, f"{self._name}-replay", follows=False, wait_ms=REPLAY_WAIT_MS)
        count = 0
        try:
            assign(self._settings, consumer, starts)
            waiting = {place for place, end in ends.items() if starts[place[0]][place[1]] <= end}
            while waiting and not self._stopping.is_set():
                chunks = _by_place(consume(consumer, RECORDS_A_READ, REPLAY_READ_S, lambda error: None))
                for (topic, partition), records in chunks.items():
                    end = ends[(topic, partition)]
                    count += len(records)
                    self._hand(loop, topic, partition, [record for record in records if record[0] <= end])
                    if records[-1][0] >= end:
                        waiting.discard((topic, partition))
            self.next_offsets = {}
            for (topic, partition), end in ends.items():
                self.next_offsets.setdefault(topic, {})[partition] = end + 1
            return count
        finally:
            consumer.close()

    def follow(self) -> None:
        """Starts the thread that hands on what comes after the replay in the ``follow`` partitions."""
        loop = asyncio.get_running_loop()
        starts = {
            feed.topic: {partition: self.next_offsets[feed.topic][partition] for partition in feed.follow}
            for feed in self._feeds.values()
            if feed.follow
        }
        if starts:
            self._thread = threading.Thread(target=self._follow, args=(starts, loop), name=f"{self._name}-tail", daemon=True)
            self._thread.start()

    def _follow(self, starts: Mapping[str, Mapping[int, int]], loop: asyncio.AbstractEventLoop) -> None:
        consumer = reader(self._settings, f"{self._name}-tail", follows=self._paced)
        try:
            while not self._stopping.is_set():
                try:
                    assign(self._settings, consumer, starts)
                    break
                except LogUnavailable:
                    self._stopping.wait(0.5)
            pace = Pace(self._settings, most_ms=self._settings.log.own_read_interval_ms)
            while not self._stopping.is_set():
                if self._hurrying.is_set():
                    self._hurrying.clear()
                    pace.hurry()
                if self._paced:
                    messages = pace.take(consumer, RECORDS_A_READ, lambda error: None)
                elif messages := consume(consumer, 1, 0.5, lambda error: None):
                    # More at once would wait until there are as many.
                    messages += consume(consumer, RECORDS_A_READ, 0, lambda error: None)
                for (topic, partition), records in _by_place(messages).items():
                    self._hand(loop, topic, partition, records)
        except PlatformError as error:
            self._die(f"tail: {error}")
        finally:
            consumer.close()

    def _hand(self, loop: asyncio.AbstractEventLoop, topic: str, partition: int,
              records: Sequence[tuple[int, bytes | None]]) -> None:
        """Runs ``take`` on the event loop and waits for it, so that a slow shard slows the reading."""
        if not records:
            return
        done = threading.Event()

        def run() -> None:
            try:
                self._feeds[topic].take(topic, partition, records)
            finally:
                done.set()

        try:
            loop.call_soon_threadsafe(run)
        except RuntimeError:
            self._stopping.set()
            return
        while not done.wait(0.5):
            if self._stopping.is_set():
                return

    def hurry(self) -> None:
        """Ends the rest of all partitions: somebody waits for what is in the log."""
        self._hurrying.set()

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2.0)


def _by_place(messages: Sequence[Message]) -> dict[tuple[str, int], list[tuple[int, bytes | None]]]:
    """(topic, partition) -> (offset, value) in the order of the log."""
    chunks: dict[tuple[str, int], list[tuple[int, bytes | None]]] = {}
    for message in messages:
        chunks.setdefault((message.topic(), message.partition()), []).append((message.offset(), message.value()))
    return chunks
