"""One of three Apache Kafka brokers is cut off by the network, not ended: nobody is told, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from running import eventually

from cluster.connections.kafka import LogAppender, Record, assign, reader
from cluster.connections.topics import admin, ensure_topics
from cluster.engines.kafka import BROKERS, KafkaCluster, Place
from cluster.engines.namespace import Namespace
from configs.contracts.errors import AppendUnconfirmed, ConfigurationError
from configs.contracts.events import Event, NotificationRead, decode, encode
from configs.contracts.ids import new_id
from configs.contracts.topics import MATCHING_SWIPE
from configs.settings import Settings, load_settings

pytestmark = [pytest.mark.timeout(400), pytest.mark.usefixtures("heavy")]

EVERY_S = 0.05
CUT_S = 8.0
"""Longer than a broker may be silent (6 s) before it has no partition any more."""
SERVED_S = 90.0
CUT_OFF = 3
TOPIC = MATCHING_SWIPE.name


@pytest.fixture
def network() -> Iterator[Namespace]:
    """Of one broker."""
    if os.geteuid() != 0:
        pytest.skip("only root may make network namespaces")
    made = Namespace()
    try:
        made.open()
    except ConfigurationError as error:
        pytest.skip(f"{error.message}: {error.details}")
    yield made
    made.close()


@pytest.fixture
def log(network: Namespace, tmp_path: Path) -> Iterator[Settings]:
    """Settings of three brokers, of which the last has a host of its own."""
    here = Place(network.here)
    brokers = KafkaCluster(tmp_path / "kafka", tmp_path / "run", places=(here, here, Place(network.there, network.command)))
    try:
        brokers.start()
        plain = load_settings("test")
        settings = plain.model_copy(update={
            "kafka_brokers": brokers.url,
            "log": plain.log.model_copy(update={"replication_factor": BROKERS, "min_insync_replicas": BROKERS - 1}),
        })
        ensure_topics(settings, [MATCHING_SWIPE])
        yield settings
    finally:
        brokers.kill()


class Writing:
    """Appends one record after another to each partition, and remembers what was acknowledged."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._appender = LogAppender(settings, "writing")
        self._waiting: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.partitions = range(settings.log.partitions)
        self.acknowledged: dict[int, dict[int, str]] = {partition: {} for partition in self.partitions}
        """Partition -> offset -> text."""
        self.unconfirmed = 0

    async def run(self) -> None:
        for number in itertools.count():
            if self._stopping:
                break
            for partition in self.partitions:
                task = asyncio.create_task(self._append(partition, f"{partition}/{number:06d}"))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)
            await asyncio.sleep(EVERY_S)

    async def _append(self, partition: int, text: str) -> None:
        event = Event(new_id(), datetime.now(UTC), text, NotificationRead(notification_id=text, user_id="u"))
        try:
            (offset,) = await self._appender.submit([Record(TOPIC, partition, text, encode(event))])
        except AppendUnconfirmed:
            self.unconfirmed += 1
            return
        assert offset not in self.acknowledged[partition], "two records were acknowledged at one place"
        self.acknowledged[partition][offset] = text

    async def more(self, partitions: set[int]) -> float:
        """Seconds until something that is appended from now on has been acknowledged in each of the partitions."""
        began, before = time.monotonic(), {partition: len(self.acknowledged[partition]) for partition in partitions}
        # What was under way now is not enough.
        under_way = len(self._waiting) // len(self.partitions) + 1
        async with asyncio.timeout(SERVED_S):
            while any(len(self.acknowledged[partition]) < before[partition] + under_way for partition in partitions):
                await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.wait_for(asyncio.gather(*self._waiting), SERVED_S)
        assert self._appender.close() == 0

    def read(self) -> dict[int, dict[int, str]]:
        """What the log holds."""
        consumer = reader(self._settings, "reading", follows=False)
        assign(self._settings, consumer, {TOPIC: dict.fromkeys(self.partitions, 0)})
        found: dict[int, dict[int, str]] = {partition: {} for partition in self.partitions}
        deadline = time.monotonic() + SERVED_S
        while any(self.acknowledged[each].keys() - found[each].keys() for each in self.partitions) and time.monotonic() < deadline:
            for message in consumer.consume(500, 1.0):
                assert message.error() is None, message.error()
                payload = decode(message.value()).payload
                assert isinstance(payload, NotificationRead)
                found[message.partition()][message.offset()] = payload.notification_id
        consumer.close()
        return found


def led_by(settings: Settings, number: int) -> set[int]:
    """Partitions of which a broker is the leader, as the others see it."""
    partitions = admin(settings).list_topics(TOPIC, timeout=10).topics[TOPIC].partitions.values()
    return {partition.id for partition in partitions if partition.leader == number}


def complete(settings: Settings) -> bool:
    partitions = admin(settings).list_topics(TOPIC, timeout=10).topics[TOPIC].partitions.values()
    return all(len(partition.isrs) == BROKERS for partition in partitions)


async def test_a_broker_that_is_cut_off_loses_nothing_and_is_taken_back(log: Settings, network: Namespace) -> None:
    writing = Writing(log)
    every = set(writing.partitions)
    await asyncio.to_thread(eventually, lambda: complete(log), 60)
    running = asyncio.create_task(writing.run())
    await writing.more(every)
    its_own = await asyncio.to_thread(led_by, log, CUT_OFF)
    assert its_own, "it had nothing to lose"
    network.cut()
    try:
        served_s = await writing.more(every - its_own)
        await asyncio.sleep(CUT_S)
        # Those of others who ask one of the two that are left.
        left = log.model_copy(update={"kafka_brokers": log.kafka_brokers.rpartition(",")[0]})
        await asyncio.to_thread(eventually, lambda: not led_by(left, CUT_OFF), 60)
    finally:
        network.join()
    back_s = await writing.more(every)
    await writing.stop()
    await running
    await asyncio.to_thread(eventually, lambda: complete(log), 90)
    found = await asyncio.to_thread(writing.read)
    print(f"{sum(map(len, writing.acknowledged.values()))} acknowledged, {writing.unconfirmed} unconfirmed; partitions of others "
          f"served again after {served_s:.1f} s, all {back_s:.1f} s after the cut was over")
    for partition in every:
        told, held = writing.acknowledged[partition], found[partition]
        assert told.items() <= held.items(), "what was acknowledged is not there"
        assert list(held) == sorted(held)
        assert len(set(held.values())) == len(held), "a record is there twice"
        texts = [held[offset] for offset in sorted(held)]
        assert texts == sorted(texts), "records changed places"
    assert writing.unconfirmed == 0, "who waits until the link is back learns what became of each"
