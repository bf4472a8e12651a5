"""The service of impression shards: facts about shown cards, made durable in matching.cards_served. It remembers nothing.

Two lives of one shard may append beside each other: every fact has its id, and rows take each id once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from actors.impressions.commands import Append, Shown
from actors.sharding.group import Appender
from cluster.connections.kafka import Record
from configs.contracts.errors import AppendUnconfirmed, LogUnavailable, PlatformError
from configs.contracts.events import Event, encode
from configs.contracts.ids import partition_of
from configs.contracts.topics import MATCHING_CARDS_SERVED
from configs.settings import Settings

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ImpressionService:
    """Appends without a turn: the order of two facts of one viewer means nothing."""

    METHODS = ("record",)

    def __init__(self, *, settings: Settings, appender: Appender, die: Callable[[str], None]) -> None:
        self._appender = appender
        self._partitions = settings.log.partitions
        self._deadline_s = settings.log.append_deadline_ms / 1_000
        self._die = die
        self._late: set[asyncio.Future[list[int]]] = set()
        self.tenure = None
        self.epoch = 0
        self.appended = 0
        self.refused = 0

    async def start(self) -> None:
        self.epoch = 1

    async def close(self) -> None:
        """The producer belongs to the host."""

    async def record(self, commands: Sequence[Append]) -> list[int | PlatformError]:
        """How many facts of each command the log acknowledged: all of them.

        LogUnavailable: not in time; they may still be taken.
        """
        records = [record_of(fact, self._partitions) for command in commands for fact in command.facts]
        if self._late:
            self.refused += len(records)
            return [LogUnavailable("earlier appends are not acknowledged yet")] * len(commands)
        future = self._appender.submit(records)
        try:
            await asyncio.wait_for(asyncio.shield(future), self._deadline_s)
        except TimeoutError:
            self._late.add(future)
            future.add_done_callback(self._settled)
            self.refused += len(records)
            return [LogUnavailable("append not acknowledged in time", deadline_s=self._deadline_s)] * len(commands)
        except AppendUnconfirmed as error:
            self._die(str(error))
            return [AppendUnconfirmed(error.message, **error.details)] * len(commands)
        self.appended += len(records)
        return [len(command.facts) for command in commands]

    def _settled(self, future: asyncio.Future[list[int]]) -> None:
        self._late.discard(future)
        if not future.cancelled() and future.exception() is not None:
            self._die(str(future.exception()))

    def describe(self) -> dict[str, Any]:
        """Figures for status and metrics."""
        return {"appended": self.appended, "refused": self.refused}


def record_of(fact: Shown, partitions: int) -> Record:
    """The fact as it stands in the log."""
    viewer = fact.payload.viewer_id
    event = Event(fact.event_id, _EPOCH + timedelta(microseconds=fact.occurred_at_us), viewer, fact.payload)
    return Record(MATCHING_CARDS_SERVED.name, partition_of(viewer, partitions), viewer, encode(event))
