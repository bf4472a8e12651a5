"""The log's topics: created with their settings, counted, told apart from namesakes by their ids."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from cluster.connections.kafka import client_properties
from configs.contracts.errors import LogUnavailable, PartitionCountMismatch
from configs.contracts.topics import DEAD_LETTER_PARTITIONS, DEAD_LETTER_RETENTION_MS, Topic
from configs.settings import Settings


def admin(settings: Settings) -> AdminClient:
    return AdminClient(client_properties(settings, "sugar-admin"))


def topic_id_text(topic_id: object) -> str:
    """A topic's id as the broker gave it, in text that can be stored and compared."""
    return str(topic_id)


def ensure_topics(settings: Settings, topics: Sequence[Topic], *, timeout_s: float = 30.0) -> dict[str, str]:
    """Creates what is missing, checks partition counts; returns topic name -> topic id.

    Raises PartitionCountMismatch: an existing topic has another count. LogUnavailable: the broker does not answer, or
    refuses this client or is not whom it trusts (``reason``).
    """
    told: list[KafkaError] = []
    client = AdminClient(client_properties(settings, "sugar-admin") | {"error_cb": told.append})
    wanted = {topic.name: (settings.log.partitions, topic.retention_ms, topic.cleanup) for topic in topics} | {
        topic.dead_letters: (DEAD_LETTER_PARTITIONS, DEAD_LETTER_RETENTION_MS, "delete") for topic in topics
    }
    try:
        existing = client.list_topics(timeout=timeout_s).topics
        missing = [
            NewTopic(
                name,
                num_partitions=partitions,
                replication_factor=settings.log.replication_factor,
                config={
                    "cleanup.policy": cleanup,
                    "retention.ms": str(retention_ms),
                    "min.insync.replicas": str(settings.log.min_insync_replicas),
                },
            )
            for name, (partitions, retention_ms, cleanup) in wanted.items()
            if name not in existing
        ]
        if missing:
            for future in client.create_topics(missing, operation_timeout=timeout_s).values():
                try:
                    future.result(timeout_s)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
        ids: dict[str, str] = {}
        for name, found in _described(client, list(wanted), timeout_s).items():
            partitions = wanted[name][0]
            if len(found.partitions) != partitions:
                raise PartitionCountMismatch(
                    "partition counts are changed by an explicit command only",
                    topic=name, found=len(found.partitions), configured=partitions,
                )
            ids[name] = topic_id_text(found.topic_id)
        return ids
    except KafkaException as error:
        client.poll(0)
        for each in told:
            if each.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
                raise LogUnavailable("broker and client do not accept each other", brokers=settings.kafka_brokers, reason=each.str()) from error
        raise LogUnavailable("broker does not answer", brokers=settings.kafka_brokers) from error


def partition_counts(settings: Settings, topics: Sequence[Topic], *, timeout_s: float = 30.0) -> dict[str, int]:
    """Topic name -> how many partitions it has, of those that exist. Raises LogUnavailable."""
    try:
        existing = admin(settings).list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise LogUnavailable("broker does not answer", brokers=settings.kafka_brokers) from error
    return {topic.name: len(existing[topic.name].partitions) for topic in topics if topic.name in existing}


def _described(client: AdminClient, names: list[str], timeout_s: float) -> dict[str, Any]:
    """Name -> topic as the broker describes it; another broker than the one that created a topic hears of it later.

    Raises KafkaException.
    """
    found: dict[str, Any] = {}
    deadline = time.monotonic() + timeout_s
    while len(found) < len(names):
        missing = [name for name in names if name not in found]
        for name, future in client.describe_topics(TopicCollection(missing), request_timeout=timeout_s).items():
            try:
                found[name] = future.result(timeout_s)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                    raise
        if len(found) < len(names):
            time.sleep(0.05)
    return found
