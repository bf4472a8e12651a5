"""Records that could not be applied: kept with their bytes, headers, error and position, listed and replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from cluster.connections.kafka import Record
from cluster.connections.postgres import translated
from configs.contracts.errors import DeadLetterLimit, InvalidEvent
from configs.contracts.topics import BY_NAME
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.records import Headers, LogRecord, Place

INSERT = """
INSERT INTO dead_letters (topic, generation, partition, record_offset, key, value, headers, error)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (topic, generation, partition, record_offset) DO NOTHING
"""
RECENT = "SELECT count(*) FROM dead_letters WHERE topic = %s AND failed_at > now() - interval '1 minute'"
SELECT = """
SELECT id, topic, generation, partition, record_offset, key, value, headers, error, failed_at, replayed_at, replay_error
FROM dead_letters
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that could not be applied."""

    id: int
    topic: str
    generation: int
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    error: str
    failed_at: datetime
    replayed_at: datetime | None
    replay_error: str | None

    @property
    def restricted(self) -> bool:
        """Whether the value may hold a password hash or an address: never print it unasked."""
        topic = BY_NAME.get(self.topic)
        return topic is None or topic.restricted

    @property
    def record(self) -> LogRecord:
        return LogRecord(self.topic, self.partition, self.offset, self.key, self.value, self.headers)


def describe_error(error: Exception) -> str:
    """What went wrong without the record's content: server messages quote values."""
    if isinstance(error, psycopg.Error):
        return f"{type(error).__name__} {error.sqlstate or ''} {error.diag.table_name or ''} {error.diag.constraint_name or ''}".strip()
    return str(error) if isinstance(error, InvalidEvent) else type(error).__name__


def keep(
    cur: psycopg.Cursor[Any], failures: Sequence[tuple[LogRecord, Exception]], generations: Mapping[str, int], limit: int
) -> None:
    """Stores the records in the commit's own transaction.

    Raises DeadLetterLimit: with these, a topic has more than ``limit`` in one minute; ``details["topic"]`` names it.
    """
    for topic, count in Counter(record.topic for record, _ in failures).items():
        recent = cur.execute(RECENT, (topic,)).fetchone()
        if count + (recent[0] if recent else 0) > limit:
            raise DeadLetterLimit("too many records could not be applied", topic=topic, limit=limit)
    for record, error in failures:
        headers = [[name, None if value is None else value.hex()] for name, value in record.headers]
        cur.execute(
            INSERT,
            (
                record.topic, generations.get(record.topic, 1), record.partition, record.offset, record.key, record.value,
                msgspec.json.encode(headers).decode(), describe_error(error)[:500],
            ),
        )


WITHIN = """
SELECT letter.topic, letter.partition, letter.record_offset
FROM unnest(%s::text[], %s::int[], %s::int[], %s::bigint[], %s::bigint[])
     AS span (topic, generation, partition, low, high)
JOIN dead_letters AS letter ON letter.topic = span.topic AND letter.generation = span.generation
     AND letter.partition = span.partition AND letter.record_offset BETWEEN span.low AND span.high
"""


def without_dead(conn: Connection, records: Sequence[LogRecord], generations: Mapping[str, int]) -> list[LogRecord]:
    """The records whose rows were written: what the rows refused is neither derived from nor shown.

    Only for records that the rows have passed.
    """
    spans: dict[Place, tuple[int, int]] = {}
    for record in records:
        place = (record.topic, record.partition)
        low, high = spans.get(place, (record.offset, record.offset))
        spans[place] = (min(low, record.offset), max(high, record.offset))
    dead = set(
        conn.execute(
            WITHIN,
            (
                [topic for topic, _ in spans], [generations.get(topic, 1) for topic, _ in spans],
                [partition for _, partition in spans], [low for low, _ in spans.values()], [high for _, high in spans.values()],
            ),
        ).fetchall()
    )
    if not dead:
        return list(records)
    return [record for record in records if (record.topic, record.partition, record.offset) not in dead]


def copies(failures: Sequence[tuple[LogRecord, Exception]], generations: Mapping[str, int]) -> list[Record]:
    """The same records for the topics' dead-letter topics; where they stood and why they failed is in headers."""
    return [
        Record(
            record.topic + ".dead",
            0,
            (record.key or b"").decode(errors="replace"),
            record.value or b"",
            (
                *((name, value or b"") for name, value in record.headers),
                ("dead-letter-error", describe_error(error)[:500].encode()),
                (
                    "dead-letter-position",
                    f"{record.topic}/{generations.get(record.topic, 1)}/{record.partition}/{record.offset}".encode(),
                ),
            ),
        )
        for record, error in failures
    ]


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    ident, topic, generation, partition, offset, key, value, headers, error, failed_at, replayed_at, replay_error = row
    return DeadLetter(
        ident, topic, generation, partition, offset, key, value,
        tuple((str(name), None if text is None else bytes.fromhex(text)) for name, text in headers),
        error, failed_at, replayed_at, replay_error,
    )


def list_letters(
    settings: Settings, *, topic: str | None = None, replayed: bool = False, limit: int = 100
) -> list[DeadLetter]:
    """The newest dead letters, newest first; without those that were replayed. Raises DependencyUnavailable."""
    with open_rows(settings, "dead-letters") as conn, translated():
        rows = conn.execute(
            SELECT
            + "WHERE (%(topic)s::text IS NULL OR topic = %(topic)s) AND (%(replayed)s OR replayed_at IS NULL) "
            "ORDER BY id DESC LIMIT %(limit)s",
            {"topic": topic, "replayed": replayed, "limit": limit},
        ).fetchall()
    return [_letter(row) for row in rows]


def waiting(settings: Settings, topic: str | None = None) -> list[int]:
    """Ids of the dead letters, of this topic or of all, that were not replayed, oldest first. Raises DependencyUnavailable."""
    with open_rows(settings, "dead-letters") as conn, translated():
        return [letter_id for (letter_id,) in conn.execute(
            "SELECT id FROM dead_letters WHERE replayed_at IS NULL AND (%(topic)s::text IS NULL OR topic = %(topic)s) ORDER BY id",
            {"topic": topic},
        ).fetchall()]


def show_letter(settings: Settings, letter_id: int) -> DeadLetter | None:
    """One dead letter with its original bytes; None: there is none of that id. Raises DependencyUnavailable."""
    with open_rows(settings, "dead-letters") as conn, translated():
        row = conn.execute(SELECT + "WHERE id = %s", (letter_id,)).fetchone()
    return None if row is None else _letter(row)


def count_waiting(settings: Settings) -> dict[str, int]:
    """Topic -> dead letters that were not replayed. Raises DependencyUnavailable."""
    with open_rows(settings, "dead-letters") as conn, translated():
        return dict(
            conn.execute(
                "SELECT topic, count(*) FROM dead_letters WHERE replayed_at IS NULL GROUP BY topic ORDER BY topic"
            ).fetchall()
        )
