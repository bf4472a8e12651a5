"""Appending single events as shards would, and waiting for what consumers make of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cluster.connections.kafka import LogAppender, Record
from configs.contracts import events
from configs.contracts.events import Event, encode
from configs.contracts.ids import new_id, partition_of
from configs.contracts.topics import Topic
from configs.settings import Settings


def record(settings: Settings, topic: Topic, key: str, payload: events.Payload) -> Record:
    event = Event(new_id(), datetime.now(UTC), key, payload)
    return Record(topic.name, partition_of(key, settings.log.partitions), key, encode(event))


async def append(settings: Settings, *records: Record) -> None:
    """Returns once the records are acknowledged."""
    appender = LogAppender(settings, "test")
    try:
        await appender.submit(list(records))
    finally:
        await asyncio.to_thread(appender.close)


async def eventually(holds: Callable[[], Any]) -> Any:
    """The first true value of ``holds()``."""
    async with asyncio.timeout(60):
        while not (found := await asyncio.to_thread(holds)):
            await asyncio.sleep(0.05)
        return found
