"""Clients of the log: appending with acknowledgement, reading assigned partitions. Topics themselves: ``topics``."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from cluster.connections.spans import Span, Spans, sampled
from configs.contracts.errors import (
    AppendUnconfirmed,
    LogUnavailable,
    PositionOutsideLog,
)
from configs.contracts.events import Barrier, Event, encode
from configs.contracts.ids import new_id
from configs.settings import Kafka, Settings


@dataclass(frozen=True, slots=True)
class Record:
    """One record to append: topic, partition, key, value and headers."""

    topic: str
    partition: int
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def client_properties(settings: Settings, name: str) -> dict[str, Any]:
    """librdkafka's properties of every client: where the brokers are and how they are spoken to."""
    return {
        "bootstrap.servers": settings.kafka_brokers,
        "client.id": name,
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        "log.connection.close": False,
        "log_level": 0,
    } | _secured(settings.kafka)


def _secured(kafka: Kafka) -> dict[str, Any]:
    """librdkafka's properties for the brokers' listener; certificates are checked, host names included."""
    found: dict[str, Any] = {"security.protocol": kafka.security}
    if kafka.security.startswith("SASL"):
        found |= {
            "sasl.mechanism": kafka.mechanism, "sasl.username": kafka.user, "sasl.password": kafka.password.get_secret_value(),
        }
    if kafka.security.endswith("SSL"):
        files = {
            "ssl.ca.location": kafka.ca_file, "ssl.certificate.location": kafka.certificate_file,
            "ssl.key.location": kafka.key_file,
        }
        found |= {name: path for name, path in files.items() if path}
    return found


UNHURRIED_S: Final = 15.0
"""Until an append that no request waits for counts as not acknowledged. A new producer's first words with every leader and a
barrier for each of 184 partitions have taken more than a request's 2 s on a busy machine; a new attempt begins anew."""


class LogAppender:
    """Appends batches to the log and returns once every record is acknowledged by all in-sync replicas.

    Idempotent producer: the client's own retries never duplicate a record. One polling thread completes deliveries.
    Use from one event loop. After AppendUnconfirmed the appender is broken for good: the owner must die and replay.
    """

    def __init__(self, settings: Settings, name: str, spans: Spans | None = None) -> None:
        self._spans = spans
        self._deadline_s = settings.log.append_deadline_ms / 1_000
        self._generations = settings.log.generations
        self._producer = Producer(
            client_properties(settings, name)
            | {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": settings.log.linger_ms,
                "compression.type": "lz4",
                "delivery.timeout.ms": settings.log.delivery_timeout_ms,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 262_144,
            },
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: set[asyncio.Future[list[int]]] = set()
        self._fatal: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name=f"{name}-deliveries", daemon=True)
        self._thread.start()

    @property
    def blocked(self) -> bool:
        """Whether an earlier batch missed its deadline and is still pending: refuse new work meanwhile."""
        return any(not future.done() for future in self._pending)

    def generation(self, topic: str) -> int:
        return self._generations.get(topic, 1)

    def submit(self, records: Sequence[Record]) -> asyncio.Future[list[int]]:
        """Hands a batch to the producer; the future holds the offsets, in order, once all are acknowledged.

        The future raises AppendUnconfirmed when the batch can no longer be known.
        """
        loop = self._loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[list[int]] = loop.create_future()
        if self._fatal is not None:
            future.set_exception(AppendUnconfirmed("producer is fatal", reason=self._fatal))
            return future
        offsets = [-1] * len(records)
        left = len(records)
        if not left:
            future.set_result(offsets)
            return future
        failed: list[str] = []

        def complete() -> None:
            if future.done():
                return
            if failed:
                future.set_exception(AppendUnconfirmed("append was not acknowledged", reason=failed[0]))
            else:
                future.set_result(offsets)

        def delivered(index: int, error: KafkaError | None, message: Message) -> None:
            nonlocal left
            if error is not None:
                failed.append(error.name())
            else:
                offsets[index] = message.offset() or 0
            if index in steps:
                steps[index].end(error=error.name() if error is not None else "")
            left -= 1
            if left == 0:
                loop.call_soon_threadsafe(complete)

        steps: dict[int, Span] = {}
        produce = self._producer.produce
        for index, record in enumerate(records):
            try:
                produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=lambda error, message, index=index: delivered(index, error, message),
                    headers=self._headers(record, index, steps) if record.headers else None,
                )
            except (BufferError, KafkaException) as error:
                failed.append(type(error).__name__)
                left -= 1
                if index in steps:
                    steps[index].end(error=type(error).__name__)
        if left == 0:
            complete()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def _headers(self, record: Record, index: int, steps: dict[int, Span]) -> list[tuple[str, bytes]]:
        """The record's headers; of a sampled request, with the appending as a step of its trace."""
        headers = dict(record.headers)
        parent = headers.get("traceparent", b"").decode("ascii", "replace")
        if self._spans is not None and sampled(parent):
            step = steps[index] = self._spans.begin(f"append {record.topic}", parent, "producer", {
                "messaging.system": "kafka", "messaging.destination.name": record.topic,
                "messaging.destination.partition.id": str(record.partition),
            })
            headers["traceparent"] = step.traceparent.encode()
        return list(headers.items())

    async def append(self, records: Sequence[Record], *, deadline_s: float | None = None) -> list[int]:
        """Appends a batch; returns the records' offsets in order. ``deadline_s``: instead of that of the settings.

        Raises LogUnavailable: not acknowledged in time, but still pending (it may yet succeed; ``blocked`` is True
        until it is decided). AppendUnconfirmed: the log may hold it or not.
        """
        future = self.submit(records)
        deadline_s = deadline_s or self._deadline_s
        try:
            return await asyncio.wait_for(asyncio.shield(future), deadline_s)
        except TimeoutError as error:
            raise LogUnavailable("append not acknowledged in time", deadline_s=deadline_s) from error

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)

    def close(self, timeout_s: float = 5.0) -> int:
        """Waits for pending deliveries; returns how many records are still unacknowledged."""
        left = self._producer.flush(timeout_s)
        self._stopping.set()
        self._thread.join(1.0)
        return int(left or 0)


def producer(settings: Settings, name: str) -> Producer:
    """An idempotent producer for a synchronous consumer thread: produce, then ``flush`` before the position moves."""
    return Producer(
        client_properties(settings, name)
        | {"enable.idempotence": True, "acks": "all", "linger.ms": settings.log.linger_ms, "compression.type": "lz4"}
    )


REPLAY_WAIT_MS: Final = 100
"""Longest wait of a fetch of somebody who reads to a known end, and does nothing else meanwhile."""


def reader(settings: Settings, name: str, *, follows: bool = True, wait_ms: int | None = None) -> Consumer:
    """A consumer for ``assign``: no group membership, no automatic commits, an error past the log's ends.

    ``follows``: fetches a partition again only after what was fetched of it has been taken, for use with ``Pace``; a
    fetch for every few records would cost the broker (and the embedded one much) more than appending them. Otherwise
    it fetches ahead as fast as it can. ``wait_ms``: longest wait of a fetch, if it is not ``log.fetch_wait_ms``.
    """
    pace = {"queued.min.messages": 1, "fetch.queue.backoff.ms": max(1, settings.log.read_interval_ms // 2)}
    return Consumer(
        client_properties(settings, name)
        | {
            "group.id": name,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": settings.log.fetch_wait_ms if wait_ms is None else wait_ms,
            "fetch.min.bytes": 1,
            "queued.max.messages.kbytes": 32_768,
            "enable.partition.eof": False,
            "isolation.level": "read_committed",
        }
        | (pace if follows else {})
    )


def assign(
    settings: Settings, consumer: Consumer, positions: Mapping[str, Mapping[int, int]], *, timeout_s: float = 10.0
) -> None:
    """Starts reading each partition at its position.

    Raises PositionOutsideLog: a position is before the log's start or after its end (the embedded broker would skip
    silently). LogUnavailable: the broker does not answer.
    """
    beyond: dict[tuple[str, int], int] = {}
    for topic, offsets in positions.items():
        for partition, offset in offsets.items():
            if offset:
                low, high = watermarks(consumer, topic, partition, timeout_s=timeout_s)
                if offset < low:
                    raise PositionOutsideLog(
                        "stored position is before the log's start",
                        topic=topic, partition=partition, position=offset, low=low,
                    )
                if offset > high:
                    beyond[(topic, partition)] = offset
    if beyond:
        _check_ends(settings, beyond, timeout_s)
    consumer.assign([
        TopicPartition(topic, partition, offset)
        for topic, offsets in positions.items() for partition, offset in offsets.items()
    ])


def _check_ends(settings: Settings, positions: Mapping[tuple[str, int], int], timeout_s: float) -> None:
    """Appends a barrier to each partition: where it comes to stand is the end.

    The end that the embedded broker reports is one past the *first* record of the last batch, for ever.
    """
    appender = producer(settings, "sugar-ends")
    ends: dict[tuple[str, int], int] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is None:
            ends[(message.topic(), message.partition())] = message.offset() or 0

    for topic, partition in positions:
        record = barrier(topic, partition)
        appender.produce(topic, record.value, record.key, partition, on_delivery=delivered)
    appender.flush(timeout_s)
    for place, position in positions.items():
        if place not in ends:
            raise LogUnavailable("broker does not answer", topic=place[0], partition=place[1])
        if position > ends[place]:
            raise PositionOutsideLog(
                "stored position is after the log's end",
                topic=place[0], partition=place[1], position=position, end=ends[place],
            )


def barrier(topic: str, partition: int, label: str = "") -> Record:
    """A record from which nothing follows: whoever has read it has read everything before it.

    ``label``: text before the nonce that tells readers who reads from there.
    """
    mark = f"{label} {nonce()}".lstrip()
    return Record(topic, partition, mark, encode(Event(new_id(), datetime.now(UTC), mark, Barrier(nonce=mark))))


def watermarks(consumer: Consumer, topic: str, partition: int, *, timeout_s: float = 10.0) -> tuple[int, int]:
    """(first, next) offsets of a partition. The embedded broker's end may lag behind acknowledged records."""
    try:
        answer: tuple[int, int] | None = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout_s, cached=False)
    except KafkaException as error:
        raise LogUnavailable("broker does not answer", topic=topic, partition=partition) from error
    if answer is None:
        raise LogUnavailable("broker does not answer", topic=topic, partition=partition)
    return answer


def consume(consumer: Consumer, count: int, timeout_s: float, on_error: Callable[[KafkaError], None]) -> list[Message]:
    """Up to ``count`` good records; transport errors go to ``on_error``, a position outside the log raises."""
    taken = consumer.consume(count, timeout_s)
    good = [message for message in taken if message.error() is None]
    if len(good) == len(taken):
        return good
    for message in taken:
        error = message.error()
        if error is None:
            continue
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise PositionOutsideLog("position left the log", topic=message.topic(), partition=message.partition())
        else:
            on_error(error)
    return good


def nonce() -> str:
    """A short random text that tells one barrier from another."""
    return base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
