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


async def append(settings: Settings, *records: Record) -> list[int]:
    """Returns once the records are acknowledged; their offsets."""
    return await (await _appender(settings)).submit(records)


async def _appender(settings: Settings) -> LogAppender:
    """One for all tests on a broker: a producer's first append takes a second."""
    brokers = settings.kafka_brokers
    if brokers not in _APPENDERS:
        while _APPENDERS:
            _, before = _APPENDERS.popitem()
            await asyncio.to_thread(before.close)
        _APPENDERS[brokers] = LogAppender(settings, "test")
    return _APPENDERS[brokers]


_APPENDERS: dict[str, LogAppender] = {}
"""By the brokers' addresses; the newest alone."""


async def eventually(holds: Callable[[], Any]) -> Any:
    """The first true value of ``holds()``."""
    async with asyncio.timeout(120):
        while not (found := await asyncio.to_thread(holds)):
            await asyncio.sleep(0.05)
        return found
