"""Appending to the log from a thread: what follows from a record, barriers, copies of dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.connections.kafka import UNHURRIED_S, LogAppender, Record
from configs.contracts.errors import AppendUnconfirmed
from configs.settings import Settings


class ThreadAppender:
    """Appends and waits for the acknowledgement; for one thread. A producer that can no longer be trusted is replaced.

    A batch may be appended twice (its ids are derived, so readers see each event once), never lost silently.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._appender: LogAppender | None = None

    def append(self, records: Sequence[Record]) -> list[int]:
        """The offsets of the records once all are acknowledged.

        Raises LogUnavailable: not acknowledged in time; AppendUnconfirmed: unknown. Append again, in both cases.
        """
        if not records:
            return []
        if self._appender is not None and self._appender.blocked:
            self._discard()
        if self._appender is None:
            self._appender = LogAppender(self._settings, self._name)
        try:
            return self._loop.run_until_complete(self._appender.append(records, deadline_s=UNHURRIED_S))
        except AppendUnconfirmed:
            self._discard()
            raise

    def _discard(self) -> None:
        if self._appender is not None:
            self._appender.close(timeout_s=0.5)
            # Lets deliveries that came while closing settle their futures on this loop.
            self._loop.run_until_complete(asyncio.sleep(0))
            self._appender = None

    def close(self) -> None:
        """Waits shortly for what is pending; call from the thread that appends."""
        self._discard()
        self._loop.close()
