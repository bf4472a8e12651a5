"""How fast one writer stores swipes, beside a bare binary unnest into the same table: ``python -m writers.throughput``.

The writer's share is everything from the consumer to the commit; the bare one is the sink's own upsert, or a plain
insert, of arrays that are ready, and nothing else. Works in a schema and a topic of its own, on the servers that the
settings name, and leaves nothing in the tables.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import msgspec
from confluent_kafka import Consumer, TopicPartition

from cluster.connections.kafka import LogAppender, Record, consume, reader
from cluster.connections.postgres import translated
from cluster.connections.topics import admin, ensure_topics
from configs.contracts.errors import LogUnavailable
from configs.contracts.events import Event, SwipeAction, Swiped, encode
from configs.contracts.ids import new_id
from configs.contracts.topics import Topic
from configs.process import map_large_buffers, quieten_collector
from configs.settings import Settings, load_settings
from writers import columns
from writers.commit import commit_batch
from writers.connections import Connection, open_rows
from writers.loops import as_record
from writers.positions import claim
from writers.sinks.swipes import UPSERT

APPENDED_AT_ONCE = 5_000
SILENCE_S = 20.0
ACTIONS: tuple[SwipeAction, ...] = ("like", "pass")

INSERT = """
INSERT INTO swipes (swiper_id, swiped_id, created_at, version, action, bucket, ever_liked)
SELECT swiper_id, swiped_id, created_at, version, action, bucket, ever_liked
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
     AS batch (swiper_id, swiped_id, created_at, version, action, bucket, ever_liked, keys, response_id, position)
"""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Rows a second of each, measured in turns of one batch."""

    rows: int
    batch_rows: int
    writer_rows_a_second: float
    bare_upsert_rows_a_second: float
    bare_insert_rows_a_second: float
    writer_cpu_s_per_1000: float
    """Of this process: reading the log, decoding, folding, encoding; PostgreSQL's own is not in it."""

    @property
    def ratio(self) -> float:
        """Of the writer to the bare upsert."""
        return self.writer_rows_a_second / self.bare_upsert_rows_a_second


def measure(settings: Settings, rows: int = 100_000) -> Throughput:
    """Appends swipes of distinct pairs to a topic of its own, then stores them as a writer does and as bare arrays.

    Raises DependencyUnavailable: a server does not answer.
    """
    topic = Topic(f"throughput.{new_id()}", "swiper")
    one_partition = settings.model_copy(update={"log": settings.log.model_copy(update={"partitions": 1})})
    ensure_topics(one_partition, [topic])
    asyncio.run(_append(settings, topic.name, _swipes(rows, seed=1)))
    bare = [_swipes(rows, seed=2), _swipes(rows, seed=3)]
    quieten_collector()
    schema = f"throughput_{new_id().replace('-', '')}"
    consumer = reader(settings, "throughput", follows=False)
    try:
        with open_rows(settings, "throughput") as conn, translated():
            conn.execute(f"CREATE SCHEMA {schema}")
            try:
                conn.execute(f"SET search_path TO {schema}, public")
                conn.execute("CREATE TABLE swipes (LIKE public.swipes INCLUDING ALL)")
                return _race(settings, conn, consumer, topic.name, bare)
            finally:
                conn.execute(f"DROP SCHEMA {schema} CASCADE")
                conn.execute("DELETE FROM public.writer_positions WHERE topic = %s", (topic.name,))
    finally:
        consumer.close()
        admin(settings).delete_topics([topic.name, topic.dead_letters])


def _swipes(rows: int, *, seed: int) -> list[Event]:
    """From people of their own with 20 swipes each, in random order, at distinct times."""
    chance = random.Random(seed)  # noqa: S311  order only
    people = [new_id() for _ in range(max(50, rows // 20))]
    start = datetime.now(UTC)
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < rows:
        pairs[(chance.choice(people), chance.choice(people))] = None
    return [
        Event(
            new_id(), start + timedelta(microseconds=number), swiper,
            Swiped(swiper_id=swiper, swiped_id=swiped, action=ACTIONS[number % 2], idempotency_key=None),
        )
        for number, (swiper, swiped) in enumerate(pairs)
    ]


async def _append(settings: Settings, topic: str, events: Sequence[Event]) -> None:
    appender = LogAppender(settings, "throughput")
    try:
        for first in range(0, len(events), APPENDED_AT_ONCE):
            chunk = events[first:first + APPENDED_AT_ONCE]
            await appender.submit([Record(topic, 0, event.key, encode(event)) for event in chunk])
    finally:
        await asyncio.to_thread(appender.close)


def _race(settings: Settings, conn: Connection, consumer: Consumer, topic: str, bare: Sequence[Sequence[Event]]) -> Throughput:
    """Batch by batch, so that all meet the same growing table: the writer's batch, then as many bare rows, twice."""
    owned, position = claim(conn, "throughput", [(topic, 0)], {})
    consumer.assign([TopicPartition(topic, 0, 0)])
    batch_rows, rows = settings.writing.batch_rows, len(bare[0])
    writer_s = upsert_s = insert_s = cpu_s = 0.0
    stored = 0
    while stored < rows:
        began, cpu = time.perf_counter(), time.process_time()
        messages = consume(consumer, min(batch_rows, rows - stored), SILENCE_S, lambda error: None)
        if not messages:
            raise LogUnavailable("records did not come back", stored=stored, rows=rows)
        records = [as_record(message) for message in messages]
        committed = commit_batch(
            conn, owned, position, records, dead_letter_limit=0, copy_dead=lambda failures: None
        )
        writer_s += time.perf_counter() - began
        cpu_s += time.process_time() - cpu
        position = dict(committed.positions)
        upsert_s += _store_bare(conn, UPSERT, bare[0][stored:stored + len(records)])
        insert_s += _store_bare(conn, INSERT, bare[1][stored:stored + len(records)])
        stored += len(records)
    return Throughput(rows, batch_rows, rows / writer_s, rows / upsert_s, rows / insert_s, cpu_s / rows * 1_000)


def _store_bare(conn: Connection, statement: LiteralString, events: Sequence[Event]) -> float:
    """Seconds of one statement with ready arrays of new pairs; making them is not counted."""
    payloads = [event.payload for event in events]
    likes = [payload.action == "like" for payload in payloads]
    arrays = (
        columns.uuids([payload.swiper_id for payload in payloads]),
        columns.uuids([payload.swiped_id for payload in payloads]),
        columns.timestamps([event.occurred_at for event in events]),
        columns.bigints(range(len(events))),
        columns.smallints([1 if like else 2 for like in likes]),
        columns.smallints([0] * len(events)),
        columns.booleans(likes),
        columns.texts([None] * len(events)),
        columns.uuids([None] * len(events)),
        columns.smallints([-1] * len(events)),
    )
    began = time.perf_counter()
    conn.execute(statement, arrays)
    return time.perf_counter() - began


def main() -> None:
    """Measures on the servers of the settings (``SUGAR_SETTINGS`` or the environment) and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    rows = parser.parse_args().rows
    map_large_buffers()  # as a writer does
    found = measure(load_settings(), rows)
    sys.stdout.buffer.write(msgspec.json.encode(asdict(found) | {"ratio": found.ratio}) + b"\n")


if __name__ == "__main__":
    main()
