"""Where the delivery position is kept: in the log's own group offsets, beside what it speaks of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from cluster.connections.kafka import reader, watermarks
from configs.contracts.errors import LogUnavailable
from configs.contracts.topics import MATCHING_SWIPE
from configs.settings import Settings

GROUP = "swipe-delivery"
"""Its offsets are those of a group without members: Kafka keeps them for ``offsets.retention.minutes`` (7 days) after the
last change, as long as the records themselves."""
DEADLINE_S = 5.0


class Delivered(Protocol):
    """Partition -> offset of matching.swipe below which every pair's authority knows every swipe."""

    async def load(self, partitions: Sequence[int]) -> dict[int, int]:
        """The stored positions, never below the log's start. Raises LogUnavailable."""
        ...

    async def save(self, positions: Mapping[int, int]) -> None:
        """Raises LogUnavailable: it may be stored or not."""
        ...

    async def close(self) -> None: ...


def group_of(settings: Settings) -> str:
    """The group's name ends with the generation of the log: a position of another generation is not one."""
    return f"{GROUP}-{settings.log.generations.get(MATCHING_SWIPE.name, 1)}"


class GroupOffsets:
    """``Delivered`` in the offsets of a Kafka group that nobody joins. (The embedded broker does not keep an offset's metadata.)"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._group = group_of(settings)
        self._consumer: Consumer | None = None

    async def load(self, partitions: Sequence[int]) -> dict[int, int]:
        return await asyncio.to_thread(self._load, partitions)

    async def save(self, positions: Mapping[int, int]) -> None:
        await asyncio.to_thread(self._save, positions)

    async def close(self) -> None:
        if self._consumer is not None:
            await asyncio.to_thread(self._consumer.close)
            self._consumer = None

    def _client(self) -> Consumer:
        if self._consumer is None:
            self._consumer = reader(self._settings, self._group)
        return self._consumer

    def _load(self, partitions: Sequence[int]) -> dict[int, int]:
        consumer = self._client()
        try:
            stored = consumer.committed([TopicPartition(MATCHING_SWIPE.name, number) for number in partitions], DEADLINE_S)
        except KafkaException as error:
            raise LogUnavailable("delivery positions cannot be read") from error
        positions = {}
        for place in stored:
            if place.error is not None:
                raise LogUnavailable("delivery position cannot be read", partition=place.partition)
            known = max(place.offset, 0)
            low, _ = watermarks(consumer, MATCHING_SWIPE.name, place.partition, timeout_s=DEADLINE_S)
            positions[place.partition] = max(known, low)
        return positions

    def _save(self, positions: Mapping[int, int]) -> None:
        places = [TopicPartition(MATCHING_SWIPE.name, partition, offset) for partition, offset in positions.items()]
        try:
            self._client().commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            raise LogUnavailable("delivery positions cannot be stored") from error
