"""The consumer ``derive``: the events that follow from others, under ids that a repetition makes again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.connections.kafka import Record
from configs.contracts import topics
from configs.contracts.events import (
    AccountRegistered,
    DeviceRegistered,
    Event,
    Matched,
    SessionStarted,
    UserCreated,
    encode,
)
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.tokens import refresh_token, token_hash
from configs.contracts.topics import Topic
from configs.settings import Settings
from writers.connections import Connection
from writers.consumers import audience
from writers.consumers.audience import Registration, Wishes
from writers.consumers.deriving import Appending, wait_for_rows
from writers.dead_letters import without_dead
from writers.loads.notifying import too_many_devices, wishes_of
from writers.positions import Ownership, advance
from writers.records import Fact, LogRecord, Place, decode_all, next_offsets

TOPICS = (topics.AUTH_ACCOUNTS, topics.MATCHING_MATCHED, topics.NOTIFICATION_DEVICES)


class Derive:
    """Account → person and first session; match → a notification for each side; a device too many → its removal."""

    consumer = "derive"

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._refresh_key = bytes.fromhex(settings.auth.refresh_key.get_secret_value())
        self._appending = Appending(settings, f"{name}-derived")

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        wait_for_rows(conn, owned, records)
        decoded, _ = decode_all(without_dead(conn, records, owned.generations), owned.generations)
        known = known_of(conn, [fact for _, fact in decoded])
        self._appending.append([
            Record(
                topic.name, partition_of(event.key, self._settings.log.partitions), event.key, encode(event),
                tuple((name, value) for name, value in record.headers if value is not None),
            )
            for record, fact in decoded
            for topic, event in follows(fact.event, known, self._refresh_key)
        ])
        with conn.transaction(), conn.cursor() as cur:
            advance(cur, owned, before, next_offsets(records))

    def close(self) -> None:
        self._appending.close()


@dataclass(frozen=True, slots=True)
class Known:
    """What the rows say that decides what follows."""

    holders: Mapping[str, str]
    """Address hash -> the person who holds the address."""
    wishes: Wishes
    too_many: Mapping[str, tuple[Registration, ...]]
    """Person -> devices beyond the limit."""


def known_of(conn: Connection, facts: Sequence[Fact]) -> Known:
    """What decides about these facts."""
    payloads = [fact.event.payload for fact in facts]
    matched = {user for payload in payloads if isinstance(payload, Matched) for user in (payload.low_id, payload.high_id)}
    owners = {payload.user_id for payload in payloads if isinstance(payload, DeviceRegistered)}
    return Known(
        holders_of(conn, [payload.email_hash for payload in payloads if isinstance(payload, AccountRegistered)]),
        wishes_of(conn, matched),
        too_many_devices(conn, owners) if owners else {},
    )


def holders_of(conn: Connection, hashes: Sequence[str]) -> dict[str, str]:
    """Address hash -> the person who holds the address by the rows."""
    if not hashes:
        return {}
    rows = conn.execute(
        "SELECT email_hash, user_id::text FROM credentials WHERE email_hash = ANY(%s::uuid[])", (list(hashes),)
    )
    return {email_hash.hex: user_id for email_hash, user_id in rows}


def follows(event: Event, known: Known, refresh_key: bytes) -> Iterator[tuple[Topic, Event]]:
    """(topic, event) of everything that follows from an event; the same ids and times on every repetition.

    Nothing follows from the registration of an address that somebody else holds (a shard that was believed dead wrote
    it, and nobody was told that it succeeded).
    """
    payload = event.payload
    if isinstance(payload, AccountRegistered):
        if known.holders.get(payload.email_hash) != payload.user_id:
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
        for told in audience.match(event, known.wishes):
            yield topics.NOTIFICATION_SEND, told
    elif isinstance(payload, DeviceRegistered):
        for removed in audience.crowded_out(event, known.too_many):
            yield topics.NOTIFICATION_DEVICES, removed
