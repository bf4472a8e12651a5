"""The life of a consuming thread: claim, read, commit, and start again after any failure that is nobody's fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import psycopg
import structlog
from confluent_kafka import Consumer, KafkaError

from cluster.connections.kafka import assign, consume, reader
from cluster.connections.postgres import connect
from configs.contracts.errors import DeadLetterLimit, DependencyUnavailable, PartitionFenced
from configs.settings import Settings
from writers.columns import register
from writers.commit import Place, claim, new_epoch, positions
from writers.records import Batch, batch_of

log = structlog.get_logger(__name__)

RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses after failures in a row; the last one repeats for ever."""
Stop = Callable[[str], None]


class Handler(Protocol):
    """What a consumer does with a batch: everything, the position included, or nothing."""

    consumer: str

    def handle(self, conn: psycopg.Connection[Any], batch: Batch, *, epoch: int, before: Mapping[Place, int]) -> None:
        """Raises PartitionFenced, DeadLetterLimit; psycopg.OperationalError or DependencyUnavailable: try again."""
        ...


class ConsumingThread:
    """Feeds a handler with the records of its partitions, from the positions in PostgreSQL on.

    Survives the absence of PostgreSQL, the broker and Redis for any time. Ends the process when it is fenced. Stops,
    and says so in ``describe``, past the dead letter limit.
    """

    def __init__(self, settings: Settings, name: str, handler: Handler, places: Sequence[Place], *, fenced: Stop) -> None:
        self._settings = settings
        self._name = name
        self._handler = handler
        self._places = tuple(places)
        self._fenced = fenced
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.committed: dict[Place, int] = {}
        self.epoch = 0
        self.rows = 0
        self.commits = 0
        self.state = "starting"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                with connect(self._settings, self._name) as conn:
                    register(conn)
                    self._claim(conn)
                    consumer = reader(self._settings, self._name)
                    try:
                        failures = 0
                        self._consume(conn, consumer)
                    finally:
                        consumer.close()
            except PartitionFenced as error:
                self.state = "fenced"
                self._fenced(f"{self._name}: {error}")
                return
            except DeadLetterLimit as error:
                self.state = f"stopped: {error.message}"
                log.error("writer_stopped", name=self._name, reason=str(error))  # noqa: TRY400  the reason says all
                return
            except (DependencyUnavailable, psycopg.OperationalError, psycopg.InterfaceError) as error:
                self.state = f"waiting: {type(error).__name__}"
                log.warning("writer_waits", name=self._name, kind=type(error).__name__)
                self._stopping.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
            except Exception as error:
                # A bug: nothing was committed; the process ends, is restarted and is seen.
                log.exception("writer_failed", name=self._name)
                self.state = "failed"
                self._fenced(f"{self._name}: {error!r}")
                raise

    def _claim(self, conn: psycopg.Connection[Any]) -> None:
        if not self.epoch:
            self.epoch = new_epoch(conn)
        try:
            self.committed = claim(conn, self._handler.consumer, self.epoch, self._places, self._generations)
        except PartitionFenced:
            stored = positions(conn, self._handler.consumer, self._places)
            if any(epoch != self.epoch for _, epoch in stored.values()) or len(stored) != len(self._places):
                raise
            self.committed = {place: offset for place, (offset, _) in stored.items()}

    @property
    def _generations(self) -> Mapping[str, int]:
        return self._settings.log.generations

    def _consume(self, conn: psycopg.Connection[Any], consumer: Consumer) -> None:
        self._assign(consumer)
        self.state = "running"
        limit, wait_s = self._settings.writing.batch_rows, self._settings.writing.batch_wait_ms / 1_000
        while not self._stopping.is_set():
            messages = consume(consumer, limit, 0.5, self._transport_error)
            if not messages:
                continue
            # The first records of a burst are here; give the batch a moment to fill, so that a commit carries many.
            deadline = time.monotonic() + wait_s
            while len(messages) < limit and (left := deadline - time.monotonic()) > 0:
                messages += consume(consumer, limit - len(messages), left, self._transport_error)
            batch = batch_of(messages, self._generations)
            began = time.monotonic()
            try:
                self._handler.handle(conn, batch, epoch=self.epoch, before=self.committed)
            except PartitionFenced:
                if not self._went_back(conn):
                    raise
                log.warning("database_went_back", name=self._name)
                self._assign(consumer)
                continue
            self.committed.update(batch.next_offsets)
            self.commits += 1
            self.rows += batch.count
            log.debug(
                "committed", name=self._name, topics=sorted(batch.stored), records=batch.count,
                seconds=round(time.monotonic() - began, 4), traces=_traces(batch),
            )

    def _went_back(self, conn: psycopg.Connection[Any]) -> bool:
        """Whether every partition is still ours, so that the positions moved because the database did: then go along."""
        stored = positions(conn, self._handler.consumer, self._places)
        if len(stored) != len(self._places) or any(epoch != self.epoch for _, epoch in stored.values()):
            return False
        self.committed = {place: offset for place, (offset, _) in stored.items()}
        return True

    def _assign(self, consumer: Consumer) -> None:
        wanted: dict[str, dict[int, int]] = {}
        for topic, partition in self._places:
            wanted.setdefault(topic, {})[partition] = self.committed.get((topic, partition), 0)
        assign(consumer, wanted)

    def _transport_error(self, error: KafkaError) -> None:
        log.warning("broker_error", name=self._name, code=error.name())

    def describe(self) -> dict[str, Any]:
        return {"state": self.state, "epoch": self.epoch, "records": self.rows, "commits": self.commits}


def _traces(batch: Batch) -> list[str]:
    """The trace contexts of the first few traced records."""
    found: list[str] = []
    for message in batch.messages.values():
        for name, value in message.headers() or ():
            if name == "traceparent" and value:
                found.append(value.decode("ascii", "replace"))
        if len(found) >= 3:
            break
    return found
