"""The consumer ``rows``: every event into its tables, poison into the dead letters."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import structlog
from confluent_kafka import KafkaException, Producer

from cluster.connections.kafka import producer
from configs.contracts.errors import DeadLetterLimit, LogUnavailable
from configs.contracts.topics import BY_NAME
from configs.settings import Settings
from writers.commit import Place, commit_batch
from writers.records import Batch, Poison
from writers.sinks import SINKS

log = structlog.get_logger(__name__)

WINDOW_S = 60.0
FLUSH_S = 5.0


class Rows:
    """Writes batches through the sinks."""

    consumer = "rows"

    def __init__(self, settings: Settings, name: str) -> None:
        self._generations = settings.log.generations
        self._limit = settings.writing.dead_letter_limit
        self._producer: Producer = producer(settings, f"{name}-dead-letters")
        self._recent: deque[float] = deque()
        self.dead_letters = 0

    def handle(self, conn: psycopg.Connection[Any], batch: Batch, *, epoch: int, before: Mapping[Place, int]) -> None:
        poison = commit_batch(
            conn, SINKS, batch, consumer=self.consumer, epoch=epoch, generations=self._generations, before=before,
            on_poison=self._copy,
        )
        now = time.monotonic()
        self._recent.extend([now] * len(poison))
        self.dead_letters += len(poison)
        for letter in poison:
            log.error(
                "dead_letter", topic=letter.topic, partition=letter.partition, offset=letter.offset, reason=letter.error
            )

    def _copy(self, poison: Sequence[Poison]) -> None:
        """Copies them to the dead letter topics before the commit.

        Raises DeadLetterLimit: so many that the fault is not theirs; LogUnavailable: not acknowledged.
        """
        now = time.monotonic()
        while self._recent and self._recent[0] < now - WINDOW_S:
            self._recent.popleft()
        if len(self._recent) + len(poison) > self._limit:
            raise DeadLetterLimit(
                "too many dead letters in a minute; nothing was skipped", limit=self._limit, topic=poison[0].topic
            )
        failed: list[str] = []
        for letter in poison:
            headers: list[tuple[str, str | bytes | None]] = [
                *letter.headers, ("dead-letter-error", letter.error.encode()),
                ("dead-letter-position", f"{letter.topic}/{letter.generation}/{letter.partition}/{letter.offset}".encode()),
            ]
            try:
                self._producer.produce(
                    BY_NAME[letter.topic].dead_letters, letter.value, letter.key, headers=headers,
                    on_delivery=lambda error, _: failed.append(error.name()) if error else None,
                )
            except (BufferError, KafkaException) as error:
                raise LogUnavailable("dead letter could not be copied", topic=letter.topic) from error
        if self._producer.flush(FLUSH_S) or failed:
            raise LogUnavailable("dead letters were not acknowledged", topic=poison[0].topic)
