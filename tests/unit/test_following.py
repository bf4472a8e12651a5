"""When a follower reads which partition again: decided without a broker."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

from confluent_kafka import Message

from cluster.connections.following import Pace
from configs.settings import Settings, load_settings

TOPIC = "matching.swipe"


class Read:
    """A record that was read from a partition."""

    def __init__(self, partition: int) -> None:
        self._partition = partition

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self._partition


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def settings(least_ms: int, most_ms: int) -> Settings:
    plain = load_settings("test")
    return plain.model_copy(
        update={"log": plain.log.model_copy(update={"read_interval_ms": least_ms, "busy_read_interval_ms": most_ms})}
    )


def read(*partitions: int) -> list[Message]:
    return cast(list[Any], [Read(partition) for partition in partitions])


def test_a_partition_that_brought_much_rests_and_one_that_brought_little_does_not() -> None:
    clock = Clock()
    pace = Pace(settings(100, 1_000), clock=clock)
    assert pace.rest(read(*[0] * 50, 1)) == [(TOPIC, 0), (TOPIC, 1)]
    assert pace.rest([]) == []
    clock.now += 0.21
    assert pace.due() == [(TOPIC, 1)]
    clock.now += 1.1
    assert pace.due() == [(TOPIC, 0)]
    assert pace.due() == []


def test_nothing_rests_where_both_intervals_are_the_same() -> None:
    assert Pace(settings(100, 100), clock=Clock()).rest(read(*[0] * 500)) == []


def test_busy_partitions_are_read_at_different_times_once_an_interval() -> None:
    clock = Clock()
    pace = Pace(settings(100, 1_000), clock=clock)
    everything = [partition for partition in range(16) for _ in range(40)]
    pace.rest(read(*everything))
    reads: dict[int, list[float]] = {}
    together = 0
    for _ in range(200):
        clock.now += 0.1
        due = [partition for _, partition in pace.due()]
        together = max(together, len(due))
        for partition in due:
            reads.setdefault(partition, []).append(clock.now)
        pace.rest(read(*[partition for partition in due for _ in range(40)]))
    assert set(reads) == set(range(16))
    assert together <= 3, "as many at once as make one long fetch"
    for times in reads.values():
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert max(gaps) <= 1.2
        assert sum(gaps) / len(gaps) >= 0.95


def test_a_longer_interval_of_its_own_is_kept() -> None:
    clock = Clock()
    pace = Pace(settings(100, 1_000), most_ms=4_000, clock=clock)
    pace.rest(read(*[3] * 400))
    clock.now += 0.9
    assert pace.due() == []
    clock.now += 4.2
    assert pace.due() == [(TOPIC, 3)]
