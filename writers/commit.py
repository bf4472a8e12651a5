"""Rows and the position that they reach, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from configs.contracts.errors import InvalidEvent, PartitionFenced
from writers.records import Batch, Poison, Stored, poison_of

Sink = Callable[[psycopg.Cursor[Any], Sequence[Stored]], None]
Place = tuple[str, int]
"""(topic, partition)"""

CLAIM = """
INSERT INTO writer_positions AS stored (consumer, topic, partition, generation, next_offset, epoch)
SELECT %(consumer)s, topic, partition, generation, 0, %(epoch)s
FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(generations)s::int[]) AS claimed (topic, partition, generation)
ORDER BY topic, partition
ON CONFLICT (topic, partition, consumer) DO UPDATE
SET epoch = excluded.epoch, generation = excluded.generation, updated_at = now(),
    next_offset = CASE WHEN stored.generation = excluded.generation THEN stored.next_offset ELSE 0 END
WHERE stored.epoch < excluded.epoch
RETURNING topic, partition, next_offset
"""

ADVANCE = """
UPDATE writer_positions AS stored
SET next_offset = moved.next_offset, updated_at = now()
FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(generations)s::int[], %(before)s::bigint[], %(after)s::bigint[])
     AS moved (topic, partition, generation, before, next_offset)
WHERE stored.consumer = %(consumer)s AND stored.topic = moved.topic AND stored.partition = moved.partition
  AND stored.generation = moved.generation AND stored.next_offset = moved.before AND stored.epoch = %(epoch)s
"""

DEAD_LETTER = """
INSERT INTO dead_letters (topic, generation, partition, record_offset, key, value, headers, error)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (topic, generation, partition, record_offset) DO NOTHING
"""


def new_epoch(conn: psycopg.Connection[Any]) -> int:
    """An epoch higher than every one before it."""
    row = conn.execute("SELECT nextval('writer_epochs')").fetchone()
    assert row is not None
    return int(row[0])


def claim(
    conn: psycopg.Connection[Any], consumer: str, epoch: int, places: Sequence[Place], generations: Mapping[str, int]
) -> dict[Place, int]:
    """Takes the partitions for this epoch and returns where to go on; whoever had them is fenced from now on.

    A partition whose topic began a new generation starts at 0. Raises PartitionFenced: a higher epoch owns one.
    """
    with conn.transaction():
        rows = conn.execute(CLAIM, {
            "consumer": consumer, "epoch": epoch, "topics": [topic for topic, _ in places],
            "partitions": [partition for _, partition in places],
            "generations": [generations.get(topic, 1) for topic, _ in places],
        }).fetchall()
        if len(rows) != len(places):
            raise PartitionFenced("a newer writer owns the partitions", consumer=consumer, epoch=epoch)
    return {(topic, partition): next_offset for topic, partition, next_offset in rows}


def positions(conn: psycopg.Connection[Any], consumer: str, places: Sequence[Place]) -> dict[Place, tuple[int, int]]:
    """(next offset, epoch) as stored."""
    wanted = set(places)
    rows = conn.execute(
        "SELECT topic, partition, next_offset, epoch FROM writer_positions WHERE consumer = %s AND topic = ANY(%s)",
        (consumer, sorted({topic for topic, _ in places})),
    ).fetchall()
    return {(topic, part): (offset, epoch) for topic, part, offset, epoch in rows if (topic, part) in wanted}


def advance(
    cur: psycopg.Cursor[Any], consumer: str, epoch: int, generations: Mapping[str, int],
    before: Mapping[Place, int], after: Mapping[Place, int],
) -> None:
    """Moves the positions, each only from where this writer believes it to be.

    Raises PartitionFenced: a rival moved one, or owns it by a higher epoch, or the database went back.
    """
    places = sorted(after)
    cur.execute(ADVANCE, {
        "consumer": consumer, "epoch": epoch, "topics": [topic for topic, _ in places],
        "partitions": [partition for _, partition in places],
        "generations": [generations.get(topic, 1) for topic, _ in places],
        "before": [before[place] for place in places], "after": [after[place] for place in places],
    })
    if cur.rowcount != len(places):
        raise PartitionFenced("position moved", consumer=consumer, epoch=epoch, moved=cur.rowcount, wanted=len(places))


def commit_batch(
    conn: psycopg.Connection[Any], sinks: Mapping[str, Sink], batch: Batch, *, consumer: str, epoch: int,
    generations: Mapping[str, int], before: Mapping[Place, int], on_poison: Callable[[Sequence[Poison]], None],
) -> list[Poison]:
    """Writes a batch's rows and its positions in one transaction; returns the records that became dead letters.

    ``on_poison`` runs before the commit and may raise to refuse it. A batch that fails as a whole is written again
    record by record, so that only the record at fault is put aside; a lost connection is nobody's fault and raises.
    Raises PartitionFenced.
    """
    try:
        with conn.transaction(), conn.cursor() as cur:
            advance(cur, consumer, epoch, generations, before, batch.next_offsets)
            for topic, records in batch.stored.items():
                sinks[topic](cur, records)
            _put_aside(cur, batch.poison, on_poison)
        return list(batch.poison)
    except (InvalidEvent, psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError):
        pass
    with conn.transaction(), conn.cursor() as cur:
        advance(cur, consumer, epoch, generations, before, batch.next_offsets)
        poison = list(batch.poison)
        for topic, records in batch.stored.items():
            for record in records:
                try:
                    with conn.transaction():
                        sinks[topic](cur, [record])
                except (InvalidEvent, psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
                    message = batch.messages[(topic, record.partition, record.offset)]
                    poison.append(poison_of(message, generations.get(topic, 1), _reason(error)))
        _put_aside(cur, poison, on_poison)
    return poison


def _reason(error: Exception) -> str:
    """What went wrong, without the values: they may be personal."""
    if isinstance(error, psycopg.Error):
        return f"{type(error).__name__}: {error.diag.message_primary or ''}"[:500]
    return str(error)[:500]


def _put_aside(cur: psycopg.Cursor[Any], poison: Sequence[Poison], on_poison: Callable[[Sequence[Poison]], None]) -> None:
    if not poison:
        return
    on_poison(poison)
    cur.executemany(DEAD_LETTER, [
        (
            letter.topic, letter.generation, letter.partition, letter.offset, letter.key, letter.value,
            json.dumps([[name, None if value is None else value.hex()] for name, value in letter.headers]), letter.error,
        )
        for letter in poison
    ])
