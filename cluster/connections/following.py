"""Following the log in intervals: when which partition is read again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from cluster.connections.kafka import consume
from configs.settings import Settings

Place = tuple[str, int]

TURN: Final = 0.618
"""Share of the interval by which partitions read in turns are apart: the golden ratio spreads any number evenly."""


class Pace:
    """Reads a follower's partitions in intervals: the busier one is, the longer it rests, within two bounds.

    A fetch costs the embedded broker as much as its partition's log is long, and appends wait meanwhile. So a busy
    partition is fetched once in the longer interval, and at another time than its neighbours: appends meet short fetches
    in place of one long one, and what follows (commits, projections) is spread in the same way.
    """

    SECONDS_A_RECORD = 0.1
    """From 10 records a second on a partition rests for the longer interval."""
    PORTION: Final = 64
    """Records that are read before their bytes are counted."""

    def __init__(self, settings: Settings, *, most_ms: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``most_ms``: the longer interval, if it is not ``log.busy_read_interval_ms``."""
        self._least_s = settings.log.read_interval_ms / 1_000
        self._most_s = max(self._least_s, (settings.log.busy_read_interval_ms if most_ms is None else most_ms) / 1_000)
        self._clock = clock
        self._resting: dict[Place, float] = {}
        self._more = False

    def take(
        self, consumer: Consumer, count: int, on_error: Callable[[KafkaError], None], *, size: int | None = None
    ) -> list[Message]:
        """What came since the last call, after a pause, at most ``count`` good records; otherwise as ``consume``.

        ``size``: bytes of values from which on no more records are read; at most ``PORTION`` records go past it.
        What rests is fetched no further, and comes in order with a later call.
        """
        if not self._more:
            time.sleep(self._least_s)
        if due := self.due():
            consumer.resume([TopicPartition(*place) for place in due])
        messages, self._more = self._read(consumer, count, size, on_error)
        if not self._more and (resting := self.rest(messages)):
            consumer.pause([TopicPartition(*place) for place in resting])
        return messages

    def _read(
        self, consumer: Consumer, count: int, size: int | None, on_error: Callable[[KafkaError], None]
    ) -> tuple[list[Message], bool]:
        """Good records, and whether more may be there."""
        messages: list[Message] = []
        held = 0
        while len(messages) < count and (size is None or held < size):
            asked = count if size is None else min(self.PORTION, count - len(messages))
            portion = consume(consumer, asked, 0.001, on_error)
            messages += portion
            held += sum(map(len, portion))
            if len(portion) < asked:
                return messages, False
        return messages, True

    def hurry(self) -> None:
        """Ends the rest of every partition with the next read."""
        self._resting = dict.fromkeys(self._resting, self._clock())

    @property
    def resting(self) -> Sequence[Place]:
        """Partitions that are fetched no further for the time being."""
        return list(self._resting)

    def due(self) -> list[Place]:
        """Partitions whose rest is over; they rest no more."""
        now = self._clock()
        due = [place for place, at_s in self._resting.items() if at_s <= now]
        for place in due:
            del self._resting[place]
        return due

    def rest(self, messages: Sequence[Message]) -> list[Place]:
        """Partitions that rest from now on, after these records were everything that there was."""
        now = self._clock()
        resting: list[Place] = []
        for place, records in Counter((message.topic(), message.partition()) for message in messages).items():
            rest_s = min(self._least_s + records * self.SECONDS_A_RECORD, self._most_s)
            # A rest that the next read would end is none.
            if rest_s < 2 * self._least_s:
                continue
            self._resting[place] = self._in_turn(place[1], now) if rest_s == self._most_s else now + rest_s
            resting.append(place)
        return resting

    def _in_turn(self, partition: int, now: float) -> float:
        """The partition's next time that is at least a quarter of the longer interval away."""
        earliest, phase = now + self._most_s / 4, partition * TURN % 1 * self._most_s
        return earliest + (phase - earliest) % self._most_s
