"""The consumers ``media_image`` and ``media_video``: what was uploaded is processed, and what was removed is deleted.

Two, so that a video holds up no photo. Each reads the same topic with a position of its own; an outcome is in the log
before its upload is deleted, and that before the position moves. A repetition processes again what has no outcome in
rows, or finds the upload gone; of two outcomes the first counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from cluster.connections.kafka import Record
from cluster.connections.media.store import MediaStore, ObjectMissing, media_store
from configs.contracts import topics
from configs.contracts.albums import MediaRow
from configs.contracts.events import (
    Event,
    MediaRejected,
    MediaRemoved,
    MediaRestored,
    MediaReviewed,
    MediaUploaded,
    encode,
)
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.media import (
    MediaKind,
    MediaState,
    best_derivative,
    derivative_key,
    derivatives_folder,
    preserved_key,
    preview_key,
    quarantine_key,
    stored_keys,
    withheld_key,
)
from configs.settings import Settings
from writers.connections import Connection
from writers.consumers.deriving import Appending, wait_for_rows
from writers.dead_letters import without_dead
from writers.loads.media import media_rows, reported
from writers.media.block_lists import KeptLists
from writers.media.running import Runner, runner_of
from writers.positions import Ownership, advance
from writers.records import Fact, LogRecord, Place, decode_all, next_offsets

log = structlog.get_logger(__name__)

TOPICS = (topics.MEDIA_UPLOADED,)
ENDED: Final[tuple[MediaState, ...]] = ("rejected", "removed")
"""Nothing is served of these, whatever a processing of them still stores."""
KINDS: Final[tuple[MediaKind, ...]] = ("image", "video")


def consumer_of(kind: MediaKind) -> str:
    """The consumer that processes this kind."""
    return f"media_{kind}"


class MediaConsumer:
    """Processes uploads of one kind, a few at once, in the log's order of their beginning."""

    def __init__(self, settings: Settings, name: str, kind: MediaKind, *, runner: Runner | None = None) -> None:
        self.consumer = consumer_of(kind)
        self._settings = settings
        self._kind = kind
        self._appending = Appending(settings, f"{name}-{self.consumer}")
        self._given = runner
        self._runner: Runner | None = runner
        self._made_store: MediaStore | None = None
        self._lists = KeptLists()
        self.figures: Counter[str] = Counter()
        """processed, each reason of a rejection, removed, restored; since the process began."""

    @property
    def _store(self) -> MediaStore:
        self._made_store = self._made_store or media_store(self._settings)
        return self._made_store

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        wait_for_rows(conn, owned, records)
        decoded = {
            (record.partition, record.offset): fact
            for record, fact in decode_all(without_dead(conn, records, owned.generations), owned.generations)[0]
        }
        waiting = reported(conn, [
            (fact.event.payload.owner_id, fact.event.payload.media_id) for fact in decoded.values()
            if isinstance(fact.event.payload, MediaRemoved | MediaReviewed)
        ])
        reached = dict(before)
        window: list[LogRecord] = []
        uploads: list[Fact] = []
        for record in records:
            fact = decoded.get((record.partition, record.offset))
            if fact is not None and isinstance(fact.event.payload, MediaUploaded):
                uploads.append(fact)
            elif fact is not None and isinstance(fact.event.payload, MediaRejected | MediaRemoved | MediaRestored):
                self._process(conn, uploads)
                uploads = []
                self._settle(conn, fact.event.payload, waiting)
            elif fact is not None and isinstance(fact.event.payload, MediaReviewed):
                self._acquit(conn, fact.event.payload, waiting)
            window.append(record)
            if len(uploads) == self._settings.media.at_once:
                self._process(conn, uploads)
                self._advance(conn, owned, reached, window)
                uploads, window = [], []
        self._process(conn, uploads)
        self._advance(conn, owned, reached, window)

    def _advance(
        self, conn: Connection, owned: Ownership, reached: dict[Place, int], window: Sequence[LogRecord]
    ) -> None:
        if window:
            with conn.transaction(), conn.cursor() as cur:
                advance(cur, owned, reached, next_offsets(window))
            reached.update(next_offsets(window))

    def _process(self, conn: Connection, uploads: Sequence[Fact]) -> None:
        """Outcomes first into the log, then the uploads go."""
        if not uploads:
            return
        rows = media_rows(conn, {fact.event.payload.media_id for fact in uploads})
        due = [
            (fact, row.record) for fact in uploads
            if (row := rows.get(fact.event.payload.media_id)) is not None and self._waits(row)
        ]
        if due:
            self._runner = self._runner or runner_of(self._settings)
            lists = self._lists.fresh(conn)
            outcomes = self._runner.run([record for _, record in due], lists)
            events = []
            for (fact, record), outcome in zip(due, outcomes, strict=True):
                event_id = derived_id(fact.event.event_id, "outcome")
                events.append(Event(event_id, datetime.now(UTC), record.owner_id, outcome))
                self.figures[getattr(outcome, "reason", "processed")] += 1
                if getattr(outcome, "preserved", False):
                    log.error("media_preserved", media=record.media_id)
            self._appending.append([
                Record(
                    topics.MEDIA_UPLOADED.name, partition_of(event.key, self._settings.log.partitions), event.key,
                    encode(event),
                )
                for event in events
            ])
            # One whose end was settled meanwhile, by another writer perhaps, has derivatives again now.
            for row in media_rows(conn, {record.media_id for _, record in due}).values():
                if row.record.state in ENDED:
                    self._clear(row)
        self._store.delete([
            quarantine_key(media_id) for media_id, row in rows.items() if row.record.kind == self._kind
        ])

    def _waits(self, row: MediaRow) -> bool:
        return row.record.kind == self._kind and row.record.state == "uploaded"

    def _settle(
        self, conn: Connection, payload: MediaRejected | MediaRemoved | MediaRestored, waiting: frozenset[str] = frozenset()
    ) -> None:
        """Leaves in the store what the rows say of a media now, so a repetition and an event that is behind change nothing.

        ``waiting``: media that are to be decided about, of which evidence is kept whoever removes them.
        """
        row = media_rows(conn, (payload.media_id,)).get(payload.media_id)
        if row is None or row.record.kind != self._kind:
            return
        if row.record.state in ENDED:
            self._clear(row, keep=payload.media_id in waiting)
            self.figures["removed"] += row.record.state == "removed"
        elif not isinstance(payload, MediaRejected):
            served = tuple(stored_keys(row.record))
            self._move([withheld_key(payload.media_id, key) for key in served], served)
            self.figures["restored"] += 1

    def _acquit(self, conn: Connection, payload: MediaReviewed, waiting: frozenset[str]) -> None:
        """What was kept of a media only because it was to be decided about goes, once nothing was found wrong with it."""
        row = media_rows(conn, (payload.media_id,)).get(payload.media_id)
        if row is None or row.record.kind != self._kind or row.record.state != "removed" or payload.verdict != "approved":
            return
        if not row.preserved and payload.media_id not in waiting:
            self._store.delete([preserved_key(payload.media_id)])

    def _clear(self, row: MediaRow, *, keep: bool = False) -> None:
        """Deletes all that is served of a media that has ended, also what its record does not name."""
        media_id = row.record.media_id
        served = tuple(stored_keys(row.record))
        withheld = tuple(withheld_key(media_id, key) for key in served)
        if (keep or row.preserved) and row.record.derivatives:  # whatever ended it since: a moderator's removal keeps evidence
            self._copy(derivative_key(media_id, best_derivative(row.record)), preserved_key(media_id))
        if row.removed_by is not None:
            self._move(served, withheld)
        self._store.delete([preview_key(media_id), quarantine_key(media_id), *(() if row.removed_by is not None else withheld)])
        self._store.delete_below(derivatives_folder(media_id))

    def _move(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        for source, target in zip(sources, targets, strict=True):
            self._copy(source, target)
        self._store.delete(sources)

    def _copy(self, source: str, target: str) -> None:
        try:
            self._store.copy(source, target)
        except ObjectMissing:
            log.warning("was_moved_before", key=source)

    def close(self) -> None:
        self._appending.close()
        if self._runner is not None and self._given is None:
            self._runner.close()
            self._runner = None
