"""The consumer ``derive``: the events that follow from others, under ids that a repetition makes again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from cluster.connections.kafka import Record
from configs.contracts import topics
from configs.contracts.errors import AppendUnconfirmed, DependencyUnavailable, LogUnavailable
from configs.contracts.events import (
    AccountRegistered,
    Event,
    Matched,
    NotificationSent,
    SessionStarted,
    UserCreated,
    encode,
)
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.tokens import refresh_token, token_hash
from configs.contracts.topics import Topic
from configs.settings import Settings
from writers.appending import ThreadAppender
from writers.connections import Connection
from writers.dead_letters import without_dead
from writers.positions import Ownership, advance, read
from writers.records import Fact, LogRecord, Place, decode_all, next_offsets

TOPICS = (topics.AUTH_ACCOUNTS, topics.MATCHING_MATCHED)
ROWS = "rows"
"""The consumer whose positions say what the rows hold."""
ROWS_WAIT_S = 2.0
ROWS_POLL_S = 0.01


class Derive:
    """Account → person and first session; match → a notification for each side."""

    consumer = "derive"

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = f"{name}-derived"
        self._refresh_key = bytes.fromhex(settings.auth.refresh_key.get_secret_value())
        self._appender: ThreadAppender | None = None

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        self._wait_for_rows(conn, owned, records)
        decoded, _ = decode_all(without_dead(conn, records, owned.generations), owned.generations)
        holders = holders_of(conn, [fact for _, fact in decoded])
        self._append([
            Record(
                topic.name, partition_of(event.key, self._settings.log.partitions), event.key, encode(event),
                tuple((name, value) for name, value in record.headers if value is not None),
            )
            for record, fact in decoded
            for topic, event in follows(fact.event, holders, self._refresh_key)
        ])
        with conn.transaction(), conn.cursor() as cur:
            advance(cur, owned, before, next_offsets(records))

    def _wait_for_rows(self, conn: Connection, owned: Ownership, records: Sequence[LogRecord]) -> None:
        """Returns once the rows have passed the records. Raises DependencyUnavailable: not yet; come again."""
        needed = next_offsets(records)
        deadline = time.monotonic() + ROWS_WAIT_S
        while True:
            stored = read(conn, ROWS, sorted({topic for topic, _ in needed}))
            if all(
                (found := stored.get(place)) is not None
                and (found.generation, found.next_offset) >= (owned.generation(place[0]), offset)
                for place, offset in needed.items()
            ):
                return
            if time.monotonic() > deadline:
                raise DependencyUnavailable("rows are behind", consumer=self.consumer)
            time.sleep(ROWS_POLL_S)

    def close(self) -> None:
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def _append(self, records: Sequence[Record]) -> None:
        """Raises LogUnavailable: not acknowledged; the batch is derived and appended again."""
        self._appender = self._appender or ThreadAppender(self._settings, self._name)
        try:
            self._appender.append(records)
        except AppendUnconfirmed as error:
            raise LogUnavailable("derived events were not acknowledged", reason=str(error)) from error


def holders_of(conn: Connection, facts: Sequence[Fact]) -> dict[str, str]:
    """Address hash -> the person who holds the address by the rows, of all addresses that the facts register."""
    hashes = [fact.event.payload.email_hash for fact in facts if isinstance(fact.event.payload, AccountRegistered)]
    if not hashes:
        return {}
    rows = conn.execute("SELECT email_hash, user_id::text FROM credentials WHERE email_hash = ANY(%s::uuid[])", (hashes,))
    return {email_hash.hex: user_id for email_hash, user_id in rows}


def follows(event: Event, holders: Mapping[str, str], refresh_key: bytes) -> Iterator[tuple[Topic, Event]]:
    """(topic, event) of everything that follows from an event; the same ids and times on every repetition.

    Nothing follows from the registration of an address that somebody else holds (a shard that was believed dead wrote
    it, and nobody was told that it succeeded).
    """
    payload = event.payload
    if isinstance(payload, AccountRegistered):
        if holders.get(payload.email_hash) != payload.user_id:
            return
        yield topics.USER_CREATED, Event(
            derived_id(event.event_id, "user"), event.occurred_at, payload.user_id,
            UserCreated(
                user_id=payload.user_id, role=payload.role, display_name=payload.display_name,
                birth_date=payload.birth_date,
            ),
        )
        if payload.family_id is not None and payload.session_expires_at is not None:
            yield topics.AUTH_SESSIONS, Event(
                derived_id(event.event_id, "session"), event.occurred_at, payload.family_id,
                SessionStarted(
                    family_id=payload.family_id, user_id=payload.user_id, expires_at=payload.session_expires_at,
                    token_hash=token_hash(refresh_token(refresh_key, payload.family_id, 0)),
                ),
            )
    elif isinstance(payload, Matched):
        for user, other in ((payload.low_id, payload.high_id), (payload.high_id, payload.low_id)):
            notification = derived_id(event.event_id, f"notify:{user}")
            yield topics.NOTIFICATION_SEND, Event(
                notification, event.occurred_at, user,
                NotificationSent(
                    notification_id=notification, user_id=user, kind="match", title="It's a match!",
                    data={"matchId": payload.match_id, "userId": other},
                ),
            )
