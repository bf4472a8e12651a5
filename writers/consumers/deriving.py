"""What consumers that append share: waiting for the rows, and a producer that belongs to their thread."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cluster.connections.kafka import Record
from configs.contracts.errors import AppendUnconfirmed, DependencyUnavailable, LogUnavailable
from configs.settings import Settings
from writers.appending import ThreadAppender
from writers.connections import Connection
from writers.loads.log import ROWS
from writers.positions import Ownership, read
from writers.records import LogRecord, next_offsets

ROWS_WAIT_S = 2.0
ROWS_POLL_S = 0.01


def wait_for_rows(conn: Connection, owned: Ownership, records: Sequence[LogRecord]) -> None:
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
            raise DependencyUnavailable("rows are behind", consumer=owned.consumer)
        time.sleep(ROWS_POLL_S)


class Appending:
    """Appends what follows from records; made when it is first needed, closed by the thread that used it."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._appender: ThreadAppender | None = None

    def append(self, records: Sequence[Record]) -> None:
        """Raises LogUnavailable: not acknowledged; the batch is derived and appended again."""
        if not records:
            return
        self._appender = self._appender or ThreadAppender(self._settings, self._name)
        try:
            self._appender.append(records)
        except AppendUnconfirmed as error:
            raise LogUnavailable("derived events were not acknowledged", reason=str(error)) from error

    def close(self) -> None:
        if self._appender is not None:
            self._appender.close()
            self._appender = None
