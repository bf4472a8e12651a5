"""A service that appends without a turn and remembers nothing: facts whose order among themselves means nothing.

Two lives of one shard may append beside each other: every fact has its id, and rows take each id once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from actors.sharding.group import Appender
from cluster.connections.kafka import Record
from configs.contracts.errors import AppendUnconfirmed, LogUnavailable, PlatformError
from configs.settings import Settings

C = TypeVar("C")


class AppendService(Generic[C]):
    """Subclasses say which records a command is."""

    METHODS: tuple[str, ...] = ("record",)

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

    def records(self, command: C) -> list[Record]:
        """The command's facts as they stand in the log."""
        raise NotImplementedError

    async def start(self) -> None:
        self.epoch = 1

    async def close(self) -> None:
        """The producer belongs to the host."""

    async def record(self, commands: Sequence[C]) -> list[int | PlatformError]:
        """How many facts of each command the log acknowledged: all of them.

        LogUnavailable: not in time; they may still be taken.
        """
        of = [self.records(command) for command in commands]
        records = [record for found in of for record in found]
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
        return [len(found) for found in of]

    def _settled(self, future: asyncio.Future[list[int]]) -> None:
        self._late.discard(future)
        if not future.cancelled() and future.exception() is not None:
            self._die(str(future.exception()))

    def describe(self) -> dict[str, Any]:
        """Figures for status and metrics."""
        return {"appended": self.appended, "refused": self.refused}
