"""The log that shards are built on: the simulated one of the model-based tests and the real one keep the same promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from log_reading import topic_configs
from running import MakeBroker
from simulated_log import SimulatedAppender, SimulatedLog, SimulatedTail
from swipe_world import SimulatedDelivered

from actors.sharding.group import Appender
from actors.sharding.tail import Feed, LogTail
from actors.swipes.delivered import Delivered, GroupOffsets
from cluster.connections.following import Pace
from cluster.connections.kafka import UNHURRIED_S, LogAppender, Record, assign, reader
from cluster.connections.topics import ensure_topics
from configs.contracts.events import Barrier, Event, NotificationRead, decode, encode
from configs.contracts.ids import new_id
from configs.contracts.topics import DEAD_LETTER_RETENTION_MS, MATCHING_SWIPE, Topic
from configs.settings import Settings, load_settings

pytestmark = pytest.mark.servers

Taken = list[tuple[str, int, int, str]]


@dataclass
class Kit:
    """One kind of log, with topics that only this test writes to."""

    swipes: str
    matches: str
    appender: Appender
    tail: Callable[[Sequence[Feed]], Any]
    delivered: Callable[[], Delivered]


@pytest.fixture(scope="module")
def log(make_broker: MakeBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings that lead to a running broker."""
    broker = make_broker(tmp_path_factory.mktemp("log"))
    broker.start()
    settings = load_settings("test").model_copy(update={"kafka_brokers": broker.url})
    ensure_topics(settings, [MATCHING_SWIPE])  # delivery positions are of its partitions
    yield settings
    broker.kill()


def made(settings: Settings, *names: str) -> list[str]:
    """New topics; what they are called."""
    topics = [Topic(f"{name}.{new_id()}", "none") for name in names]
    ensure_topics(settings, topics)
    return [topic.name for topic in topics]


@pytest.fixture(params=["simulated", "real"])
def kit(request: pytest.FixtureRequest) -> Any:
    if request.param == "simulated":
        simulated, stored = SimulatedLog(), dict[int, int]()
        yield Kit(
            "swipes", "matches", SimulatedAppender(simulated), lambda feeds: SimulatedTail(simulated, feeds, lambda: "label"),
            lambda: SimulatedDelivered(stored),
        )
        return
    settings = request.getfixturevalue("log")
    appender = LogAppender(settings, "conformance")
    yield Kit(
        *made(settings, "swipes", "matches"),
        appender,
        lambda feeds: LogTail(settings, "conformance", appender, feeds, die=pytest.fail, label=lambda: "label"),
        lambda: GroupOffsets(settings),
    )
    assert appender.close() == 0


def record(topic: str, partition: int, text: str) -> Record:
    event = Event(new_id(), datetime.now(UTC), text, NotificationRead(notification_id=text, user_id="u"))
    return Record(topic, partition, text, encode(event))


def taking(taken: Taken) -> Callable[[str, int, Sequence[tuple[int, bytes | None]]], None]:
    def take(topic: str, partition: int, records: Sequence[tuple[int, bytes | None]]) -> None:
        for offset, value in records:
            payload = decode(value).payload
            text = f"barrier {payload.nonce.split(' ')[0]}" if isinstance(payload, Barrier) else payload.notification_id
            taken.append((topic, partition, offset, text))

    return take


def of(taken: Taken, topic: str, partition: int) -> list[tuple[int, str]]:
    return [(offset, text) for name, number, offset, text in taken if (name, number) == (topic, partition)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


async def test_offsets_follow_the_order_of_submission_in_each_partition(kit: Kit) -> None:
    batches = [
        [record(kit.swipes, number % 2, f"{batch}.{number}") for number in range(20)] for batch in range(5)
    ]
    offsets = await asyncio.gather(*(kit.appender.submit(batch) for batch in batches))
    for partition in range(2):
        found = [offset for answer in offsets for number, offset in enumerate(answer) if number % 2 == partition]
        assert found == list(range(50))


async def test_a_replay_hands_on_everything_acknowledged_before_it_in_order_and_follow_goes_on_after_it(kit: Kit) -> None:
    await kit.appender.submit([record(kit.swipes, 0, f"early {number}") for number in range(30)])
    await kit.appender.submit([record(kit.matches, 3, "a match"), record(kit.swipes, 1, "foreign")])
    taken: Taken = []
    tail = kit.tail([
        Feed(kit.swipes, (0, 1), (0,), taking(taken)), Feed(kit.matches, (3,), (3,), taking(taken)),
    ])
    positions: Mapping[str, Mapping[int, int]] = {kit.swipes: {0: 10}}
    count = await tail.replay(positions)
    assert of(taken, kit.swipes, 0) == [(offset, f"early {offset}") for offset in range(10, 30)] + [(30, "barrier label")]
    assert of(taken, kit.swipes, 1) == [(0, "foreign"), (1, "barrier label")]
    assert of(taken, kit.matches, 3) == [(0, "a match"), (1, "barrier label")]
    assert count == len(taken)
    assert tail.next_offsets == {kit.swipes: {0: 31, 1: 2}, kit.matches: {3: 2}}
    try:
        await kit.appender.submit([record(kit.swipes, 0, "between"), record(kit.swipes, 1, "not followed")])
        tail.follow()
        await kit.appender.submit([record(kit.swipes, 0, "after"), record(kit.matches, 3, "another")])
        await until(lambda: len(of(taken, kit.swipes, 0)) >= 23 and len(of(taken, kit.matches, 3)) >= 3)
    finally:
        await asyncio.to_thread(tail.close)
    assert of(taken, kit.swipes, 0)[-2:] == [(31, "between"), (32, "after")]
    assert of(taken, kit.matches, 3)[-1] == (2, "another")
    assert of(taken, kit.swipes, 1)[-1] == (1, "barrier label")


async def test_what_was_appended_while_a_replay_ran_is_replayed_or_followed_once(kit: Kit) -> None:
    taken: Taken = []
    tail = kit.tail([Feed(kit.swipes, (0,), (0,), taking(taken))])

    async def write() -> None:
        for number in range(100):
            await kit.appender.submit([record(kit.swipes, 0, str(number))])

    writing = asyncio.create_task(write())
    await tail.replay({})
    tail.follow()
    try:
        await writing
        await until(lambda: len(taken) >= 101)
    finally:
        await asyncio.to_thread(tail.close)
    assert [offset for offset, _ in of(taken, kit.swipes, 0)] == list(range(101))
    assert [text for _, text in of(taken, kit.swipes, 0) if not text.startswith("barrier")] == [str(number) for number in range(100)]


async def test_a_delivery_position_outlives_its_writer_and_a_missing_one_is_zero(kit: Kit) -> None:
    await kit.appender.submit([record(kit.swipes, partition, str(number)) for number in range(9) for partition in (0, 1)])
    first, second = kit.delivered(), kit.delivered()
    assert await first.load([0, 1, 2]) == {0: 0, 1: 0, 2: 0}
    await first.save({0: 5})
    await second.save({1: 7})
    await first.save({0: 6})
    await first.close()
    await second.close()
    third = kit.delivered()
    assert await third.load([0, 1, 2]) == {0: 6, 1: 7, 2: 0}
    await third.close()


def test_topics_are_kept_as_their_contract_says(log: Settings) -> None:
    found = topic_configs(log, [MATCHING_SWIPE.name, MATCHING_SWIPE.dead_letters])
    assert {name: (kept["cleanup.policy"], kept["retention.ms"]) for name, kept in found.items()} == {
        MATCHING_SWIPE.name: ("delete", str(7 * 86_400_000)), MATCHING_SWIPE.dead_letters: ("delete", str(DEAD_LETTER_RETENTION_MS)),
    }


async def test_partitions_that_rest_lose_and_repeat_nothing(log: Settings) -> None:
    settings = log.model_copy(update={"log": log.log.model_copy(update={"read_interval_ms": 5, "busy_read_interval_ms": 40, "fetch_wait_ms": 20})})
    (topic,) = made(settings, "resting")
    appender, consumer = LogAppender(settings, "resting"), reader(settings, "resting")
    partitions, rounds = settings.log.partitions, 150
    assign(settings, consumer, {topic: dict.fromkeys(range(partitions), 0)})
    taken: dict[int, list[int]] = {partition: [] for partition in range(partitions)}
    pace, rests = Pace(settings), 0

    def follow() -> None:
        nonlocal rests
        deadline = time.monotonic() + 120
        while any(len(offsets) < 2 * rounds for offsets in taken.values()) and time.monotonic() < deadline:
            for message in pace.take(consumer, 50, lambda error: pytest.fail(error.str())):
                taken[message.partition()].append(message.offset())
            rests += len(pace.resting)

    following = asyncio.create_task(asyncio.to_thread(follow))
    for number in range(rounds):
        # A producer's first append may take a second and more where brokers have just begun.
        await appender.append(
            [record(topic, partition, str(number)) for partition in range(partitions) for _ in range(2)], deadline_s=UNHURRIED_S
        )
    await following
    consumer.close()
    assert appender.close() == 0
    assert rests, "nothing rested, so nothing was tested"
    assert taken == {partition: list(range(2 * rounds)) for partition in range(partitions)}


async def test_a_read_ends_once_it_has_its_bytes_and_the_next_goes_on_there(log: Settings) -> None:
    (topic,) = made(log, "large")
    appender, consumer = LogAppender(log, "large"), reader(log, "large")
    records, value, size = 600, b"x" * 10_000, 200_000
    for _ in range(records // 100):
        await appender.append([Record(topic, 0, "large", value)] * 100, deadline_s=UNHURRIED_S)
    assign(log, consumer, {topic: {0: 0}})
    pace, reads = Pace(log), list[list[int]]()

    def follow() -> None:
        deadline = time.monotonic() + 120
        while sum(map(len, reads)) < records and time.monotonic() < deadline:
            reads.append([message.offset() for message in pace.take(consumer, 1_000, lambda error: pytest.fail(error.str()), size=size)])

    await asyncio.to_thread(follow)
    consumer.close()
    assert appender.close() == 0
    assert [offset for taken in reads for offset in taken] == list(range(records))
    assert size // len(value) <= max(map(len, reads)) < size // len(value) + Pace.PORTION
