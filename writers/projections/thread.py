"""The thread that keeps Redis current: its position is in Redis beside what it wrote, so both are lost together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import psycopg
import redis
import structlog
from confluent_kafka import Consumer, KafkaError, Message
from redis.exceptions import RedisError

from cluster.connections.following import Pace
from cluster.connections.kafka import assign, reader
from cluster.connections.redis import apply, sync_client
from cluster.connections.redis_cluster import ClusterRedis
from configs.contracts.errors import DependencyUnavailable, PositionOutsideLog
from configs.contracts.read_model import GENERATION, REVOKED
from configs.settings import Settings
from writers import parts
from writers.connections import Connection, open_rows
from writers.dead_letters import without_dead
from writers.loads.log import ROWS
from writers.positions import read
from writers.projections.operations import changes_of
from writers.records import Fact, LogRecord, Place, decode_all, next_offsets

log = structlog.get_logger(__name__)

RECORDS_A_BATCH = 1_000
RETRY_S = 0.3
ROWS_POLL_S = 0.005


def position_key(place: Place) -> str:
    """Where the projection of a partition stands in Redis: ``generation:next offset``."""
    return f"proj:{place[0]}:{place[1]}"


class _ReadModelLost(Exception):
    """Redis is not the one this thread began with, or is being rebuilt: begin again."""


class _TopicStopped(Exception):
    """The rows of a topic go no further: begin again without it."""


class ProjectionThread:
    """Projects the records of its partitions once their rows are committed; may repeat a batch."""

    def __init__(self, settings: Settings, name: str, places: Sequence[Place], committed: Callable[[], Mapping[Place, int]],
                 *, fatal: Callable[[str], None], stopped: Callable[[], Collection[str]] = tuple) -> None:
        """``committed``: how far the rows are; ``stopped``: topics whose rows go no further until a restart."""
        self._settings = settings
        self._name = name
        self._places = tuple(places)
        self._committed = committed
        self._fatal = fatal
        self._stopped = stopped
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.state = "starting"
        self.records = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def describe(self) -> dict[str, Any]:
        return {"state": self.state, "records": self.records}

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with open_rows(self._settings, self._name) as conn:
                    client = sync_client(self._settings)
                    consumer = reader(self._settings, self._name)
                    try:
                        self._project(conn, client, consumer)
                    finally:
                        consumer.close()
                        client.close()
            except (
                _ReadModelLost, _TopicStopped, DependencyUnavailable, RedisError, psycopg.OperationalError, psycopg.InterfaceError, OSError
            ) as error:
                self.state = f"waiting: {type(error).__name__}"
                self._stopping.wait(RETRY_S)
            except PositionOutsideLog as error:
                # Redis is older than the log keeps: only a rebuild can mend it.
                log.exception("read_model_too_old", name=self._name, reason=str(error))
                self._drop_generation()
            except Exception as error:
                log.exception("projection_failed", name=self._name)
                self.state = "failed"
                self._fatal(f"{self._name}: {error!r}")
                raise

    def _drop_generation(self) -> None:
        try:
            with sync_client(self._settings) as client:
                client.delete(GENERATION)
        except (RedisError, OSError):
            self._stopping.wait(RETRY_S)

    def _project(self, conn: Connection, client: redis.Redis, consumer: Consumer) -> None:
        generation = client.get(GENERATION)
        if generation is None:
            raise _ReadModelLost
        self._assign(client, consumer)
        self.state = "running"
        pace = Pace(self._settings)
        while not self._stopping.is_set():
            messages = pace.take(consumer, RECORDS_A_BATCH, self._transport_error, size=self._settings.writing.batch_bytes)
            if messages and self._wait_for_rows(messages):
                self._check_rows(conn, messages)
                self._apply(conn, client, messages, generation)
            elif client.get(GENERATION) != generation:
                raise _ReadModelLost

    def _assign(self, client: redis.Redis, consumer: Consumer) -> None:
        keys = [position_key(place) for place in self._places]
        stored: Any = client.mget(keys)
        lost: set[str] = set()
        if None in stored and isinstance(client, ClusterRedis):
            lost.update(parts.lost(client, parts.lives(client)))
            # A rebuild may have ended meanwhile.
            stored = client.mget(keys)
        wanted: dict[str, dict[int, int]] = {}
        waiting: list[Place] = []
        for place, key, value in zip(self._places, keys, stored, strict=True):
            if value is None and parts.part_of(key) in lost:
                # Not at the log's beginning, which may be gone: the rebuild writes the position, and ends with another generation.
                waiting.append(place)
                continue
            present = self._settings.log.generations.get(place[0], 1)
            generation, _, offset = (value or f"{present}:0".encode()).partition(b":")
            if int(generation) != present:
                # The log that held what is not projected yet is gone; only the rows still have it.
                client.delete(GENERATION)
                raise _ReadModelLost
            if place[0] not in self._stopped():
                wanted.setdefault(place[0], {})[place[1]] = int(offset)
        if waiting:
            log.warning("projection_waits_for_rebuild", name=self._name, partitions=len(waiting))
        assign(self._settings, consumer, wanted)

    def _wait_for_rows(self, messages: Sequence[Message]) -> bool:
        """Returns once all of them are in rows; False: stopping. Raises _TopicStopped: they will not be."""
        needed: dict[Place, int] = {}
        for message in messages:
            needed[(message.topic(), message.partition())] = message.offset() + 1
        while not self._stopping.is_set():
            committed = self._committed()
            if all(committed.get(place, 0) >= offset for place, offset in needed.items()):
                return True
            if any(topic in self._stopped() for topic, _ in needed):
                raise _TopicStopped
            self._stopping.wait(ROWS_POLL_S)
        return False

    def _check_rows(self, conn: Connection, messages: Sequence[Message]) -> None:
        """Raises DependencyUnavailable: a promoted replica does not hold yet what the writer had stored; come again.

        A database goes back only between two connections, so what this one holds now it holds while rows are read.
        """
        stored = read(conn, ROWS, sorted({str(message.topic()) for message in messages}))
        for message in messages:
            place = (str(message.topic()), int(message.partition() or 0))
            found = stored.get(place)
            wanted = (self._settings.log.generations.get(place[0], 1), int(message.offset() or 0) + 1)
            if found is None or (found.generation, found.next_offset) < wanted:
                raise DependencyUnavailable("rows went back", topic=place[0], partition=place[1])

    def _apply(self, conn: Connection, client: redis.Redis, messages: Sequence[Message],
               generation: Any) -> None:
        records = [
            LogRecord(message.topic(), message.partition(), message.offset(), None, message.value()) for message in messages
        ]
        generations = self._settings.log.generations
        decoded, _ = decode_all(without_dead(conn, records, generations), generations)
        facts: dict[str, list[Fact]] = {}
        for record, fact in decoded:
            facts.setdefault(record.topic, []).append(fact)
        found = changes_of(conn, facts)
        apply(client, found.operations)
        if found.revoked:
            # Before the position, which another node of a cluster may hold.
            client.zadd(REVOKED, found.revoked, nx=True)
        pipeline: Any = client.pipeline(transaction=False)
        for channel, frame in found.told:
            pipeline.execute_command("SPUBLISH", channel, frame)
        for place, offset in next_offsets(records).items():
            pipeline.set(position_key(place), f"{generations.get(place[0], 1)}:{offset}")
        pipeline.get(GENERATION)
        if pipeline.execute()[-1] != generation:
            raise _ReadModelLost
        self.records += len(records)

    def _transport_error(self, error: KafkaError) -> None:
        log.warning("broker_error", name=self._name, code=error.name())
