"""The consumer ``derive``: the events that follow from others, under ids that a repetition makes again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from confluent_kafka import KafkaException, Producer

from cluster.connections.kafka import producer
from configs.contracts import topics
from configs.contracts.errors import LogUnavailable
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
from writers.commit import Place, advance
from writers.records import Batch, Stored

TOPICS = (topics.AUTH_ACCOUNTS, topics.MATCHING_MATCHED)
FLUSH_S = 10.0


class Derive:
    """Account → person and first session; match → a notification for each side."""

    consumer = "derive"

    def __init__(self, settings: Settings, name: str) -> None:
        self._generations = settings.log.generations
        self._partitions = settings.log.partitions
        self._refresh_key = bytes.fromhex(settings.auth.refresh_key.get_secret_value())
        self._producer: Producer = producer(settings, f"{name}-derived")

    def handle(self, conn: psycopg.Connection[Any], batch: Batch, *, epoch: int, before: Mapping[Place, int]) -> None:
        failed: list[str] = []
        for records in batch.stored.values():
            for record in records:
                headers = batch.messages[(record.topic, record.partition, record.offset)].headers()
                for topic, event in follows(record, self._refresh_key):
                    self._produce(topic, event, headers, failed)
        if self._producer.flush(FLUSH_S) or failed:
            raise LogUnavailable("derived events were not acknowledged", reason=failed[:1])
        with conn.transaction(), conn.cursor() as cur:
            advance(cur, self.consumer, epoch, self._generations, before, batch.next_offsets)

    def _produce(self, topic: Topic, event: Event, headers: Any, failed: list[str]) -> None:
        try:
            self._producer.produce(
                topic.name, encode(event), event.key, partition_of(event.key, self._partitions), headers=headers,
                on_delivery=lambda error, _: failed.append(error.name()) if error else None,
            )
            self._producer.poll(0)
        except (BufferError, KafkaException) as error:
            raise LogUnavailable("derived event could not be produced", topic=topic.name) from error


def follows(record: Stored, refresh_key: bytes) -> Iterator[tuple[Topic, Event]]:
    """(topic, event) of everything that follows from a record; the same ids and times on every repetition."""
    event, payload = record.event, record.event.payload
    if isinstance(payload, AccountRegistered):
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
