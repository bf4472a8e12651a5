"""The consumer ``likes``: likes received become notifications, a burst of them one.

It reads in intervals of seconds, since nobody waits for it and a batch costs little more than a like.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from cluster.connections.kafka import Record
from configs.contracts import topics
from configs.contracts.events import Event, Swiped, SwipeUndone, encode
from configs.contracts.ids import partition_of
from configs.settings import Settings
from writers import columns
from writers.connections import Connection
from writers.consumers import audience
from writers.consumers.audience import Burst
from writers.consumers.deriving import Appending, wait_for_rows
from writers.dead_letters import without_dead
from writers.loads.notifying import wishes_of
from writers.positions import Ownership, advance
from writers.records import LogRecord, Place, decode_all, next_offsets
from writers.sinks.base import Cursor

TOPICS = (topics.MATCHING_SWIPE,)
INTERVAL_MS: Final = 1_000
A_PASS: Final = b'"action":"pass"'
"""Nothing follows from a pass, and most swipes are: they are not even decoded."""
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)

ANSWERED = """
SELECT swiper_id::text, swiped_id::text
FROM swipes JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (one, other) ON swiper_id = one AND swiped_id = other
WHERE action <> 0
"""
OPEN = """
INSERT INTO like_bursts (user_id, opened_at, told, likers) SELECT id, %s, 0, '{}' FROM unnest(%s::uuid[]) AS liked (id)
ON CONFLICT DO NOTHING
"""
LOCK = """
SELECT user_id::text, opened_at, told, cardinality(likers),
       ARRAY(SELECT one::text FROM unnest(likers) AS one WHERE one = ANY(batch.named::uuid[]))
FROM like_bursts JOIN unnest(%s, %s) AS batch (id, named) ON user_id = batch.id
ORDER BY user_id FOR UPDATE OF like_bursts
"""
"""Of the people in a burst only those come along whom the batch names: a burst has up to a hundred, and a batch hundreds of bursts."""
SAVE = """
UPDATE like_bursts SET
    opened_at = batch.opened_at, told = batch.told,
    likers = CASE WHEN batch.opened_at = like_bursts.opened_at
        THEN ARRAY(SELECT one FROM unnest(like_bursts.likers) AS one WHERE one <> ALL(batch.named::uuid[]))
        ELSE '{}' END || batch.likers::uuid[]
FROM unnest(%s, %s, %s, %s, %s) AS batch (id, named, opened_at, told, likers) WHERE user_id = batch.id
"""


def settings_of(settings: Settings) -> Settings:
    """The settings with the interval in which this consumer reads."""
    slow = {"read_interval_ms": INTERVAL_MS, "busy_read_interval_ms": max(INTERVAL_MS, settings.log.busy_read_interval_ms)}
    return settings.model_copy(update={"log": settings.log.model_copy(update=slow)})


class Likes:
    """Counts who likes a person, in the transaction that moves the position, and appends what they are told before it.

    A repetition counts from the same rows, so it says the same again under the same ids. Whoever the person has
    answered already, with a like or a pass, is not counted: a match is told by ``derive``.
    """

    consumer = "likes"

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._appending = Appending(settings, f"{name}-likes")

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        telling = [record for record in records if A_PASS not in (record.value or b"")]
        events: list[Event] = []
        if telling:
            wait_for_rows(conn, owned, telling)
            decoded, _ = decode_all(without_dead(conn, telling, owned.generations), owned.generations)
            events = _unanswered(conn, [fact.event for _, fact in decoded])
        with conn.transaction(), conn.cursor() as cur:
            advance(cur, owned, before, next_offsets(records))
            told = _told(conn, cur, events) if events else []
            self._appending.append([
                Record(
                    topics.NOTIFICATION_SEND.name, partition_of(event.key, self._settings.log.partitions), event.key,
                    encode(event),
                )
                for event in told
            ])

    def close(self) -> None:
        self._appending.close()


def _unanswered(conn: Connection, events: Sequence[Event]) -> list[Event]:
    """Likes of people whom the liked person has not answered, and likes withdrawn."""
    answers = [(event.payload.swiped_id, event.payload.swiper_id) for event in events if isinstance(event.payload, Swiped)]
    rows = conn.execute(ANSWERED, ([one for one, _ in answers], [other for _, other in answers])).fetchall()
    answered = set(rows)
    return [event for event in events if (event.payload.swiped_id, event.payload.swiper_id) not in answered]


def _told(conn: Connection, cur: Cursor, events: Sequence[Event]) -> list[Event]:
    """What the liked people are told; their bursts are stored."""
    named: dict[str, set[str]] = defaultdict(set)
    for event in events:
        named[event.payload.swiped_id].add(event.payload.swiper_id)
    liked = sorted(named)
    wishes = wishes_of(conn, liked)
    cur.execute(OPEN, (BEGINNING, liked))
    rows = cur.execute(LOCK, (columns.uuids(liked), columns.texts(_array(named[user_id]) for user_id in liked))).fetchall()
    stored = {
        user_id: Burst(opened_at, tuple(known), told, count - len(known)) for user_id, opened_at, told, count, known in rows
    }
    bursts = dict(stored)
    told: list[Event] = []
    causes: dict[str, Event] = {}
    for event in events:
        payload = event.payload
        if isinstance(payload, SwipeUndone):
            bursts[payload.swiped_id] = bursts[payload.swiped_id].withdrawn(payload.swiper_id)
        elif payload.action == "super_like":
            told += [found] if (found := audience.super_like(payload.swiped_id, event, wishes)) is not None else []
        elif payload.action == "like":
            bursts[payload.swiped_id] = bursts[payload.swiped_id].liked(payload.swiper_id, event.occurred_at)
            causes[payload.swiped_id] = event
    for user_id, cause in causes.items():
        burst = bursts[user_id]
        found = audience.likes(user_id, burst, cause, wishes)
        if burst.is_news:
            bursts[user_id] = replace(burst, told=burst.count)
        told += [found] if found is not None else []
    changed = {user_id: burst for user_id, burst in bursts.items() if burst != stored[user_id]}
    if changed:
        cur.execute(
            SAVE,
            (
                columns.uuids(list(changed)),
                columns.texts(_array(named[user_id]) for user_id in changed),
                columns.timestamps([burst.opened_at for burst in changed.values()]),
                columns.integers([burst.told for burst in changed.values()]),
                columns.texts(_array(burst.likers) for burst in changed.values()),
            ),
        )
    return told


def _array(ids: Iterable[str]) -> str:
    """PostgreSQL's text of an array of ids."""
    return "{" + ",".join(ids) + "}"
