"""What stands in the log under one key, and how the broker keeps topics."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from confluent_kafka.admin import ConfigResource, ResourceType

from cluster.connections.kafka import assign, barrier, consume, reader
from cluster.connections.topics import admin
from configs.contracts.events import Barrier, Event, decode
from configs.contracts.ids import partition_of
from configs.settings import Settings
from writers.appending import ThreadAppender


def records_of(settings: Settings, topic: str, key: str) -> list[Event]:
    """The events of a key, in order: everything that was acknowledged before the call."""
    partition = partition_of(key, settings.log.partitions)
    end = barrier(topic, partition)
    appender = ThreadAppender(settings, "test-barrier")
    consumer = reader(settings, f"test-{uuid.uuid4()}", follows=False)
    try:
        appender.append([end])
        assign(settings, consumer, {topic: {partition: 0}})
        found: list[Event] = []
        while True:
            for message in consume(consumer, 1_000, 0.2, lambda error: None):
                event = decode(message.value())
                if isinstance(event.payload, Barrier):
                    if event.payload.nonce == end.key:
                        return found
                elif event.key == key:
                    found.append(event)
    finally:
        consumer.close()
        appender.close()


def topic_configs(settings: Settings, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic -> its properties as the broker has them."""
    client = admin(settings)
    found = client.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names], request_timeout=30)
    return {resource.name: {name: entry.value for name, entry in future.result(30).items()} for resource, future in found.items()}
