"""The consumer ``likes``: likes received become notifications, a burst of them one.

It reads in intervals of seconds, since nobody waits for it and a batch costs little more than a like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
SELECT user_id::text, opened_at, likers::text[], told FROM like_bursts WHERE user_id = ANY(%s::uuid[])
ORDER BY user_id FOR UPDATE
"""
SAVE = """
UPDATE like_bursts SET opened_at = batch.opened_at, told = batch.told, likers = batch.likers::uuid[]
FROM unnest(%s, %s, %s, %s) AS batch (id, opened_at, told, likers) WHERE user_id = batch.id
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
    liked = sorted({event.payload.swiped_id for event in events})
    wishes = wishes_of(conn, liked)
    cur.execute(OPEN, (BEGINNING, liked))
    bursts = {
        user_id: Burst(opened_at, tuple(likers), told)
        for user_id, opened_at, likers, told in cur.execute(LOCK, (liked,)).fetchall()
    }
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
            bursts[user_id] = Burst(burst.opened_at, burst.likers, len(burst.likers))
        told += [found] if found is not None else []
    cur.execute(
        SAVE,
        (
            columns.uuids(list(bursts)),
            columns.timestamps([burst.opened_at for burst in bursts.values()]),
            columns.integers([burst.told for burst in bursts.values()]),
            columns.texts("{" + ",".join(burst.likers) + "}" for burst in bursts.values()),
        ),
    )
    return told
