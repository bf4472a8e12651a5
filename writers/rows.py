"""The consumer ``rows``: every event into its tables, poison into the dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from configs.contracts.errors import AppendUnconfirmed, DependencyUnavailable
from configs.settings import Settings
from writers import dead_letters
from writers.appending import ThreadAppender
from writers.commit import KINDS, Failure, commit_batch
from writers.connections import Connection
from writers.positions import Ownership
from writers.records import LogRecord, Place

log = structlog.get_logger(__name__)


class Rows:
    """Writes batches through the sinks."""

    consumer = "rows"

    def __init__(self, settings: Settings, name: str) -> None:
        self._generations = dict(settings.log.generations)
        self._limit = settings.writing.dead_letter_limit
        self._settings = settings
        self._name = f"{name}-dead-letters"
        self._appender: ThreadAppender | None = None
        self.dead_letters = 0
        self.stored = Counter(dict.fromkeys(KINDS, 0))
        """Events stored since this process began, by type."""

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        committed = commit_batch(
            conn, owned, before, records, dead_letter_limit=self._limit, copy_dead=self._copy,
        )
        self.dead_letters += committed.dead
        self.stored.update(committed.by_type)

    def close(self) -> None:
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def _copy(self, failures: Sequence[Failure]) -> None:
        """Copies them to the dead letter topics before the commit; a retry copies them again."""
        for record, error in failures:
            log.error(
                "dead_letter", topic=record.topic, partition=record.partition, offset=record.offset,
                reason=dead_letters.describe_error(error),
            )
        self._appender = self._appender or ThreadAppender(self._settings, self._name)
        try:
            self._appender.append(dead_letters.copies(failures, self._generations))
        except AppendUnconfirmed as error:
            raise DependencyUnavailable("dead letters were not acknowledged", reason=str(error)) from error
