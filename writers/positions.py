"""Positions of consumers in PostgreSQL, and who may move them: the owner's epoch, compared in every transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from configs.contracts.errors import PartitionFenced
from writers.connections import Connection
from writers.records import Place

CLAIM = """
INSERT INTO writer_positions AS stored (consumer, topic, partition, generation, next_offset, epoch)
SELECT %(consumer)s, place.topic, place.partition, place.generation, 0, %(epoch)s
FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(generations)s::int[]) AS place (topic, partition, generation)
ON CONFLICT (topic, partition, consumer) DO UPDATE
SET epoch = excluded.epoch, updated_at = now(),
    generation = greatest(stored.generation, excluded.generation),
    next_offset = CASE WHEN stored.generation < excluded.generation THEN 0 ELSE stored.next_offset END
WHERE stored.epoch < excluded.epoch
RETURNING topic, partition, generation, next_offset
"""

BEGIN = """
INSERT INTO writer_positions (consumer, topic, partition, generation, next_offset, epoch)
SELECT %(consumer)s, topic, partition, generation, next_offset, 0 FROM writer_positions
WHERE consumer = %(after)s AND topic = ANY(%(topics)s)
ON CONFLICT DO NOTHING
"""

EPOCH = """
SELECT greatest(nextval('writer_epochs'), (SELECT coalesce(max(epoch), 0) + 1 FROM writer_positions))
"""
"""The table is asked too: after a failover a sequence may be behind the epochs that were given."""

READ = """
SELECT topic, partition, generation, next_offset, epoch FROM writer_positions
WHERE consumer = %s AND topic = ANY(%s)
"""

STOP = """
INSERT INTO writer_positions AS marked (consumer, topic, partition, generation, next_offset, epoch)
SELECT %(mark)s, topic, partition, generation, next_offset, epoch FROM writer_positions
WHERE consumer = %(consumer)s AND topic = %(topic)s AND epoch = %(epoch)s
ON CONFLICT (topic, partition, consumer) DO UPDATE
SET generation = excluded.generation, next_offset = excluded.next_offset, epoch = excluded.epoch, updated_at = now()
"""

STOPPED = """
SELECT topic, partition FROM writer_positions AS marked
JOIN writer_positions AS stored USING (topic, partition, generation, next_offset, epoch)
WHERE marked.consumer = %s AND stored.consumer = %s
"""

ADVANCE = """
UPDATE writer_positions AS stored SET next_offset = moved.after, updated_at = now()
FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(generations)s::int[], %(before)s::bigint[], %(after)s::bigint[])
     AS moved (topic, partition, generation, before, after)
WHERE stored.consumer = %(consumer)s AND stored.topic = moved.topic AND stored.partition = moved.partition
  AND stored.generation = moved.generation AND stored.next_offset = moved.before AND stored.epoch = %(epoch)s
"""


@dataclass(frozen=True, slots=True)
class StoredPosition:
    """One consumer's place in one partition, and who owns it."""

    generation: int
    next_offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Ownership:
    """A consumer's right to move its partitions, until somebody claims them with a higher epoch."""

    consumer: str
    epoch: int
    generations: Mapping[str, int]

    def generation(self, topic: str) -> int:
        return self.generations.get(topic, 1)


def claim(
    conn: Connection, consumer: str, places: Sequence[Place], generations: Mapping[str, int]
) -> tuple[Ownership, dict[Place, int]]:
    """Takes the partitions over from whoever had them; returns the next offset of each.

    A partition whose topic has begun a new generation starts at 0, and so does one that the
    consumer never had (``begin``).
    Raises PartitionFenced: somebody claimed a partition later, or its rows belong to a later generation than ours.
    """
    with conn.transaction():
        epoch = int(conn.execute(EPOCH).fetchone()[0])  # type: ignore[index]
        rows = conn.execute(
            CLAIM,
            {
                "consumer": consumer, "epoch": epoch,
                "topics": [topic for topic, _ in places], "partitions": [partition for _, partition in places],
                "generations": [generations.get(topic, 1) for topic, _ in places],
            },
        ).fetchall()
        if len(rows) != len(places):
            raise PartitionFenced("another writer claimed a partition later", consumer=consumer, epoch=epoch)
        for topic, partition, generation, _ in rows:
            if generation != generations.get(topic, 1):
                raise PartitionFenced(
                    "rows belong to a later generation of the topic", topic=topic, partition=partition,
                    stored=generation, ours=generations.get(topic, 1),
                )
    owned = Ownership(consumer, epoch, dict(generations))
    return owned, {(topic, partition): int(offset) for topic, partition, _, offset in rows}


def begin(conn: Connection, consumer: str, after: str, topics: Sequence[str]) -> None:
    """Lets a consumer that is new begin where another one is: of an older log the beginning may be gone.

    Before either of them runs, so that nothing falls between them.
    """
    conn.execute(BEGIN, {"consumer": consumer, "after": after, "topics": list(topics)})


def stop(conn: Connection, owned: Ownership, topic: str) -> None:
    """Lets everybody know that this owner moves its partitions of a topic no further; whoever claims them next does."""
    conn.execute(STOP, {"mark": _stopped(owned.consumer), "consumer": owned.consumer, "topic": topic, "epoch": owned.epoch})


def stopped(conn: Connection, consumer: str) -> set[Place]:
    """The partitions that their owners move no further."""
    return {(topic, partition) for topic, partition in conn.execute(STOPPED, (_stopped(consumer), consumer)).fetchall()}


def _stopped(consumer: str) -> str:
    """Under which name a consumer's stopped partitions stand beside its positions."""
    return f"{consumer}_stopped"


def read(conn: Connection, consumer: str, topics: Sequence[str]) -> dict[Place, StoredPosition]:
    """What is stored for a consumer."""
    rows = conn.execute(READ, (consumer, list(topics))).fetchall()
    return {
        (topic, partition): StoredPosition(generation, offset, epoch)
        for topic, partition, generation, offset, epoch in rows
    }


def regain(conn: Connection, owned: Ownership, places: Sequence[Place]) -> dict[Place, int] | None:
    """The stored next offsets, if all places are still owned; None: the database went back to before the claim.

    Raises PartitionFenced: another writer owns one of them now.
    """
    stored = read(conn, owned.consumer, sorted({topic for topic, _ in places}))
    for place in places:
        position = stored.get(place)
        if position is None or position.epoch < owned.epoch:
            return None
        if position.epoch > owned.epoch or position.generation != owned.generation(place[0]):
            raise PartitionFenced(
                "another writer owns the partition", topic=place[0], partition=place[1], consumer=owned.consumer,
                ours=owned.epoch, theirs=position.epoch,
            )
    return {place: stored[place].next_offset for place in places}


def advance(
    cur: psycopg.Cursor[Any], owned: Ownership, before: Mapping[Place, int], after: Mapping[Place, int]
) -> None:
    """Moves the positions of all places in ``after``; the first statement of a commit.

    Raises PartitionFenced: a stored position, generation or epoch is not what this owner left there.
    """
    places = sorted(after)
    cur.execute(
        ADVANCE,
        {
            "consumer": owned.consumer, "epoch": owned.epoch,
            "topics": [topic for topic, _ in places], "partitions": [partition for _, partition in places],
            "generations": [owned.generation(topic) for topic, _ in places],
            "before": [before[place] for place in places], "after": [after[place] for place in places],
        },
    )
    if cur.rowcount != len(places):
        raise PartitionFenced(
            "position moved", consumer=owned.consumer, epoch=owned.epoch, places=len(places), moved=cur.rowcount
        )
