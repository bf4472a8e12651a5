"""How far the writers are behind the log, and waiting until they are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from cluster.connections.kafka import LogAppender, Record, admin, nonce
from cluster.connections.postgres import connect, translated
from configs.contracts.errors import LogUnavailable, PlatformError
from configs.contracts.events import Barrier, Event, encode
from configs.contracts.ids import new_id
from configs.contracts.topics import TOPICS
from configs.settings import Settings
from writers import dead_letters, positions
from writers.consumers.derive import TOPICS as DERIVED_FROM

log = structlog.get_logger(__name__)

DRAIN_TIMEOUT_S = 30.0
POLL_S = 0.1
BROKER_DEADLINE_S = 5.0
CONSUMERS = {"rows": tuple(topic.name for topic in TOPICS), "derive": tuple(topic.name for topic in DERIVED_FROM)}
"""Consumers whose positions are in PostgreSQL, and what each reads."""

Place = tuple[str, int]


class Drain:
    """Compares the log's ends with what each consumer has committed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = admin(settings)

    def lag(self) -> dict[str, dict[str, int]]:
        """Consumer -> topic -> records behind. The embedded broker may report an end that is a batch old.

        Raises LogUnavailable, DependencyUnavailable: a server does not answer.
        """
        ends, committed = self._ends(), self._committed()
        found: dict[str, dict[str, int]] = {}
        for consumer, topics in CONSUMERS.items():
            behind = found.setdefault(consumer, dict.fromkeys(topics, 0))
            for (topic, partition), end in ends.items():
                if topic in behind:
                    behind[topic] += max(0, end - committed[consumer].get((topic, partition), 0))
        return found

    def dead_letters(self) -> dict[str, int]:
        """Topic -> dead letters that wait. Raises DependencyUnavailable."""
        return dead_letters.count_waiting(self._settings)

    async def wait(self) -> bool:
        """Whether everything that was appended before the call, and what follows from it, is in rows by now.

        Twice over: what is derived from the last records is appended while the first round waits.
        """
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        for _ in range(2):
            try:
                if not await self._pass_barriers(deadline):
                    return False
            except PlatformError as error:
                log.warning("drain_failed", kind=type(error).__name__)
                return False
        return True

    async def _pass_barriers(self, deadline: float) -> bool:
        """Appends a record to every partition and waits until every consumer has passed it.

        Reported ends may lag, an acknowledged offset does not.
        """
        places = [(topic.name, partition) for topic in TOPICS for partition in range(self._settings.log.partitions)]
        appender = LogAppender(self._settings, "drain")
        try:
            offsets = await appender.append([_barrier(*place) for place in places])
        finally:
            appender.close(timeout_s=1.0)
        missing = {
            (consumer, place): offset
            for consumer, topics in CONSUMERS.items()
            for place, offset in zip(places, offsets, strict=True) if place[0] in topics
        }
        while True:
            committed = await asyncio.to_thread(self._committed)
            missing = {
                (consumer, place): offset for (consumer, place), offset in missing.items()
                if committed[consumer].get(place, 0) <= offset
            }
            if not missing:
                return True
            if time.monotonic() > deadline:
                log.warning("not_drained", places=len(missing))
                return False
            await asyncio.sleep(POLL_S)

    def _committed(self) -> Mapping[str, Mapping[Place, int]]:
        with connect(self._settings, "drain") as conn, translated():
            return {
                consumer: {place: stored.next_offset for place, stored in positions.read(conn, consumer, topics).items()}
                for consumer, topics in CONSUMERS.items()
            }

    def _ends(self) -> dict[Place, int]:
        wanted = {
            TopicPartition(topic.name, partition): OffsetSpec.latest()
            for topic in TOPICS for partition in range(self._settings.log.partitions)
        }
        try:
            return {
                (place.topic, place.partition): future.result(BROKER_DEADLINE_S).offset
                for place, future in self._admin.list_offsets(wanted, request_timeout=BROKER_DEADLINE_S).items()
            }
        except KafkaException as error:
            raise LogUnavailable("broker does not answer", brokers=self._settings.kafka_brokers) from error


def _barrier(topic: str, partition: int) -> Record:
    event = Event(new_id(), datetime.now(UTC), "", Barrier(nonce=nonce()))
    return Record(topic, partition, "", encode(event))
