"""How far the writers are behind the log, and waiting until they are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec
from ray.exceptions import RayError

from cluster.connections.kafka import LogAppender, admin, barrier
from cluster.launch.keeper import Watched
from configs.contracts.errors import LogUnavailable, PlatformError
from configs.contracts.loading import LOADER_ACTOR
from configs.contracts.topics import TOPICS
from configs.settings import Settings

log = structlog.get_logger(__name__)

DRAIN_TIMEOUT_S = 30.0
POLL_S = 0.1
CALL_DEADLINE_S = 5.0

Ends = dict[str, dict[int, int]]
"""Consumer or topic -> partition -> next offset."""


class Drain:
    """Compares the log's ends with what the writers have committed."""

    def __init__(self, settings: Settings, watched: Mapping[str, Watched]) -> None:
        self._settings = settings
        self._watched = watched
        self._admin = admin(settings)

    async def lag(self) -> dict[str, int]:
        """Topic -> records appended and not yet in rows; the embedded broker may report an end that is a batch old."""
        ends, positions = await asyncio.gather(asyncio.to_thread(self._ends), self._positions())
        return {
            topic: sum(max(0, end - positions.get(topic, {}).get(partition, 0)) for partition, end in parts.items())
            for topic, parts in ends.items()
        }

    async def wait(self) -> bool:
        """Whether everything that was appended before the call, and what follows from it, is in rows by now.

        Twice over: what the writers derive from the last records is appended while the first round waits.
        """
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        for _ in range(2):
            try:
                if not await self._pass_barriers(deadline):
                    return False
            except (RayError, PlatformError, TimeoutError) as error:
                log.warning("drain_failed", kind=type(error).__name__)
                return False
        return True

    async def _pass_barriers(self, deadline: float) -> bool:
        barriers = [(topic.name, partition) for topic in TOPICS for partition in range(self._settings.log.partitions)]
        appender = LogAppender(self._settings, "drain")
        try:
            offsets = await appender.append([barrier(topic, partition) for topic, partition in barriers])
        finally:
            appender.close(timeout_s=1.0)
        missing = dict(zip(barriers, offsets, strict=True))
        while missing and time.monotonic() < deadline:
            positions = await self._positions()
            missing = {
                place: offset for place, offset in missing.items()
                if positions.get(place[0], {}).get(place[1], 0) <= offset
            }
            await asyncio.sleep(POLL_S if missing else 0)
        return not missing

    async def _positions(self) -> Mapping[str, Mapping[int, int]]:
        loader: Any = self._watched[LOADER_ACTOR].handle
        answer: Mapping[str, Mapping[int, int]] = await asyncio.wait_for(
            loader.call.remote("positions", [topic.name for topic in TOPICS]), CALL_DEADLINE_S
        )
        return answer

    def _ends(self) -> Ends:
        wanted = {
            TopicPartition(topic.name, partition): OffsetSpec.latest()
            for topic in TOPICS for partition in range(self._settings.log.partitions)
        }
        ends: Ends = {}
        try:
            for place, future in self._admin.list_offsets(wanted, request_timeout=CALL_DEADLINE_S).items():
                ends.setdefault(place.topic, {})[place.partition] = future.result(CALL_DEADLINE_S).offset
        except KafkaException as error:
            raise LogUnavailable("broker does not answer", brokers=self._settings.kafka_brokers) from error
        return ends
