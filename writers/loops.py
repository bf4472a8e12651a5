"""The life of a consuming thread: claim, read, commit, and start again after any failure that is nobody's fault."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import psycopg
import structlog
from confluent_kafka import Consumer, KafkaError, Message

from cluster.connections.following import Pace
from cluster.connections.kafka import assign, reader
from cluster.connections.spans import Spans
from configs.contracts.errors import DeadLetterLimit, DependencyUnavailable, PartitionFenced, PositionOutsideLog
from configs.counting import Durations
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.positions import Ownership, claim, regain, stop
from writers.records import LogRecord, Place, next_offsets

log = structlog.get_logger(__name__)

RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses after failures in a row; the last one repeats for ever."""
OUTSIDE_LOG_S = 5.0
"""Pause before the process ends because its position is outside the log, so that restarts do not chase each other."""
TRACES_A_LINE = 8
Stop = Callable[[str], None]


class Handler(Protocol):
    """What a consumer does with a batch: everything, the position included, or nothing."""

    consumer: str

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        """Raises PartitionFenced, DeadLetterLimit; psycopg.OperationalError or DependencyUnavailable: try again."""
        ...

    def close(self) -> None:
        """Gives back what the handler holds; from the thread that used it."""
        ...


class ConsumingThread:
    """Feeds a handler with the records of its partitions, from the positions in PostgreSQL on.

    Survives the absence of PostgreSQL, the broker and Redis for any time. Ends the process when it is fenced. Past the
    dead letter limit of a topic it stops reading that topic, and says so in ``describe``, until it is started anew.
    """

    def __init__(self, settings: Settings, name: str, handler: Handler, places: Sequence[Place], *, fenced: Stop,
                 spans: Spans | None = None, without: Callable[[], Collection[str]] = tuple) -> None:
        """``without``: topics whose rows go no further until a restart; a handler that waits for rows reads on without them."""
        self._settings = settings
        self._name = name
        self._handler = handler
        self._places = tuple(places)
        self._fenced = fenced
        self._spans = spans
        self._without = without
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.committed: dict[Place, int] = {}
        self._owned: Ownership | None = None
        self.rows = 0
        self.commits = 0
        self._failures = 0
        """Since a batch was handled: to connect and claim goes well also before a handler that cannot do its work."""
        self._durations = Durations()
        self.state = "starting"
        self.stopped: set[str] = set()
        """Topics that are read no further, since too many of their records could not be applied."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._handler.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with open_rows(self._settings, self._name) as conn:
                    self._claim(conn)
                    consumer = reader(self._settings, self._name)
                    try:
                        self._consume(conn, consumer)
                    finally:
                        consumer.close()
            except PartitionFenced as error:
                self.state = "fenced"
                self._fenced(f"{self._name}: {error}")
                return
            except PositionOutsideLog as error:
                self.state = "position outside the log"
                log.error("position_outside_log", name=self._name, reason=str(error))  # noqa: TRY400
                # A topic that was made anew has another generation in the next process's settings.
                self._stopping.wait(OUTSIDE_LOG_S)
                self._fenced(f"{self._name}: {error}")
                return
            except (DependencyUnavailable, psycopg.OperationalError, psycopg.InterfaceError) as error:
                self.state = f"waiting: {type(error).__name__}"
                log.warning("writer_waits", name=self._name, kind=type(error).__name__)
                self._stopping.wait(RETRY_S[min(self._failures, len(RETRY_S) - 1)])
                self._failures += 1
            except Exception as error:
                # A bug: nothing was committed; the process ends, is restarted and is seen.
                log.exception("writer_failed", name=self._name)
                self.state = "failed"
                self._fenced(f"{self._name}: {error!r}")
                raise

    def _claim(self, conn: Connection) -> None:
        """Takes the partitions over once; after a lost connection goes on as their owner.

        Raises PartitionFenced: another writer owns one of them by now.
        """
        if self._owned is not None:
            stored = regain(conn, self._owned, self._places)
            if stored is not None:
                self.committed = stored
                return
        self._owned, self.committed = claim(conn, self._handler.consumer, self._places, self._generations)
        for topic in self.stopped:
            stop(conn, self._owned, topic)

    @property
    def epoch(self) -> int:
        return self._owned.epoch if self._owned is not None else 0

    @property
    def _generations(self) -> Mapping[str, int]:
        return self._settings.log.generations

    def _consume(self, conn: Connection, consumer: Consumer) -> None:
        self._assign(consumer)
        self.state = "running"
        writing, pace = self._settings.writing, Pace(self._settings)
        while not self._stopping.is_set():
            messages = pace.take(consumer, writing.batch_rows, self._transport_error, size=writing.batch_bytes)
            if not messages:
                continue
            records = [as_record(message) for message in messages]
            began = time.monotonic()
            assert self._owned is not None
            try:
                self._handler.handle(conn, self._owned, self.committed, records)
            except DeadLetterLimit as error:
                log.error("topic_stopped", name=self._name, reason=str(error))  # noqa: TRY400  the reason says all
                stop(conn, self._owned, error.details["topic"])
                self.stopped.add(error.details["topic"])
                self._assign(consumer)
                continue
            except PartitionFenced:
                self._claim(conn)
                log.warning("database_went_back", name=self._name)
                self._assign(consumer)
                continue
            self.committed.update(next_offsets(records))
            self.commits += 1
            self._failures = 0
            self.rows += len(records)
            seconds = time.monotonic() - began
            self._durations.add(seconds)
            self._report(records, seconds)

    def _report(self, records: Sequence[LogRecord], seconds: float) -> None:
        """One line a commit; at info when a sampled request is among the records, so that its trace ends here."""
        traced = _sampled(records)
        if self._spans is not None:
            self._end_traces(self._spans, traced, len(records), seconds)
        (log.info if traced else log.debug)(
            "committed", name=self._name, topics=dict(Counter(record.topic for record in records)),
            partitions=len({(record.topic, record.partition) for record in records}), records=len(records),
            seconds=round(seconds, 4), trace_id=[traceparent[3:35] for _, traceparent in traced],
        )

    def _end_traces(self, spans: Spans, traced: Sequence[tuple[LogRecord, str]], batch: int, seconds: float) -> None:
        """The commit as the last step of its sampled requests."""
        ended = time.time_ns()
        for record, traceparent in traced:
            spans.begin(
                f"{self._handler.consumer} {record.topic}", traceparent, "consumer",
                {
                    "messaging.system": "kafka", "messaging.destination.name": record.topic,
                    "messaging.destination.partition.id": str(record.partition), "messaging.kafka.offset": record.offset,
                    "messaging.batch.message_count": batch,
                },
                started_ns=ended - int(seconds * 1e9),
            ).end(ended_ns=ended)

    def _assign(self, consumer: Consumer) -> None:
        wanted: dict[str, dict[int, int]] = {}
        left_out = self.stopped.union(self._without())
        for topic, partition in self._places:
            if topic in left_out:
                continue
            wanted.setdefault(topic, {})[partition] = self.committed.get((topic, partition), 0)
        assign(self._settings, consumer, wanted)

    def _transport_error(self, error: KafkaError) -> None:
        log.warning("broker_error", name=self._name, code=error.name())

    def describe(self) -> dict[str, Any]:
        return {
            "state": self.state, "epoch": self.epoch, "records": self.rows, "commits": self.commits,
            "stopped": sorted(self.stopped), "commit_seconds": self._durations.describe(),
        }


def as_record(message: Message) -> LogRecord:
    """The message as the writers hand it on."""
    headers = message.headers()
    return tuple.__new__(LogRecord, (
        message.topic(), message.partition(), message.offset(), message.key(), message.value(), tuple(headers) if headers else ()
    ))


def _sampled(records: Sequence[LogRecord]) -> list[tuple[LogRecord, str]]:
    """The first few sampled records with their trace contexts (W3C traceparent)."""
    found: list[tuple[LogRecord, str]] = []
    for record in records:
        value = record.header("traceparent") if record.headers else None
        if value is not None and value.endswith(b"-01"):
            found.append((record, value.decode("ascii", "replace")))
            if len(found) == TRACES_A_LINE:
                break
    return found
