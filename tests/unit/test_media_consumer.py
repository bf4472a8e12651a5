"""What the consumer leaves in the store of media that ended while, or before, it knew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from cluster.connections.media.local import LocalStore
from configs.contracts.albums import MediaRow
from configs.contracts.events import Event, MediaProcessed, MediaRejected, MediaRemoved, MediaReviewed, MediaUploaded
from configs.contracts.ids import new_id
from configs.contracts.media import (
    LARGE,
    THUMB,
    MediaRecord,
    MediaState,
    derivative_key,
    preserved_key,
    preview_key,
    quarantine_key,
)
from configs.settings import load_settings
from writers.consumers import media as consuming
from writers.consumers.media import MediaConsumer
from writers.media.block_lists import EMPTY, BlockLists
from writers.media.processing import Outcome
from writers.records import Fact

NOW = datetime(2026, 11, 27, tzinfo=UTC)
ANY: Any = None
"""A connection that nobody uses."""


class Desk:
    """A consumer over a store of its own, with rows that the test says; it is the runner, too."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = load_settings("test", data_dir=directory)
        settings = settings.model_copy(update={"media": settings.media.model_copy(update={"url_key": SecretStr("ab" * 32)})})
        self.store = LocalStore(settings)
        self.consumer = MediaConsumer(settings, "test", "image", runner=self)
        self.appended = 0
        self.record = MediaRecord(media_id=new_id(), owner_id=new_id(), kind="image", state="uploaded")
        self.preserved = False
        self.ends: MediaState | None = None
        """The state that it gets while it is processed."""
        self._content = directory / "content"
        self._content.write_bytes(b"content")
        monkeypatch.setattr(consuming, "media_rows", self._rows)
        monkeypatch.setattr(self.consumer._lists, "fresh", lambda _: EMPTY)
        monkeypatch.setattr(self.consumer._appending, "append", self._append)

    def _rows(self, _: object, ids: object) -> dict[str, MediaRow]:
        return {self.record.media_id: MediaRow(self.record, NOW, preserved=self.preserved)}

    def _append(self, records: Sequence[object]) -> None:
        self.appended += len(records)

    @property
    def keys(self) -> list[str]:
        media = self.record.media_id
        return [derivative_key(media, LARGE), derivative_key(media, THUMB), preview_key(media)]

    def put(self, *more: str) -> None:
        for key in (*self.keys, *more):
            self.store.put(key, self._content, "")

    def there(self, *more: str) -> set[bool]:
        return {self.store.size(key) is not None for key in (*self.keys, *more)}

    def become(self, state: MediaState) -> None:
        self.record = msgspec.structs.replace(self.record, state=state)

    def run(self, records: Sequence[MediaRecord], lists: BlockLists) -> list[Outcome]:
        self.put()
        if self.ends is not None:
            self.become(self.ends)
        return [
            MediaProcessed(media_id=record.media_id, owner_id=record.owner_id, content_type="image/jpeg", width=1, height=1)
            for record in records
        ]

    def close(self) -> None:
        """Holds nothing."""

    def process(self) -> None:
        uploaded = MediaUploaded(media_id=self.record.media_id, owner_id=self.record.owner_id)
        self.consumer._process(ANY, [Fact(Event(new_id(), NOW, self.record.owner_id, uploaded), 1, ANY)])


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    made = Desk(tmp_path, monkeypatch)
    yield made
    made.consumer.close()


@pytest.mark.parametrize("ends", [None, "removed", "rejected"])
def test_what_ended_while_it_was_processed_has_no_derivatives(desk: Desk, ends: MediaState | None) -> None:
    """Another writer, who took over meanwhile, has settled its end before they were stored."""
    desk.ends = ends
    desk.put(quarantine_key(desk.record.media_id))
    desk.process()
    assert desk.appended == 1
    assert desk.there() == {ends is None}
    assert desk.store.size(quarantine_key(desk.record.media_id)) is None


def test_what_an_attempt_stored_whose_outcome_nobody_knows_goes_at_the_end(desk: Desk) -> None:
    rejected = MediaRejected(media_id=desk.record.media_id, owner_id=desk.record.owner_id, reason="blocked")
    removed = MediaRemoved(media_id=desk.record.media_id, owner_id=desk.record.owner_id, reason="owner")
    for state, payload in (("rejected", rejected), ("removed", removed)):
        desk.put()
        desk.become(state)  # type: ignore[arg-type]
        for _ in range(2):
            desk.consumer._settle(ANY, payload)
            assert desk.there() == {False}


def test_a_rejection_that_came_second_takes_nothing_away(desk: Desk) -> None:
    desk.put()
    desk.become("ready")
    desk.consumer._settle(ANY, MediaRejected(media_id=desk.record.media_id, owner_id=desk.record.owner_id, reason="unreadable"))
    assert desk.there() == {True}
    assert not desk.consumer.figures


@pytest.mark.parametrize("preserved", [True, False])
def test_a_moderators_removal_keeps_evidence_although_its_owner_removed_it_before_the_consumer_came(
    desk: Desk, preserved: bool
) -> None:
    """The rows know the newest reason only; whether evidence is kept they know for good."""
    desk.put()
    desk.preserved = preserved
    desk.record = msgspec.structs.replace(desk.record, state="removed", reason="owner", derivatives=(THUMB, LARGE))
    desk.consumer._settle(ANY, MediaRemoved(media_id=desk.record.media_id, owner_id=desk.record.owner_id, reason="moderation"))
    assert desk.there() == {False}
    assert (desk.store.size(preserved_key(desk.record.media_id)) is not None) is preserved


def test_what_is_to_be_decided_about_is_kept_although_its_owner_removes_it_and_goes_when_nothing_was_wrong(desk: Desk) -> None:
    desk.put()
    media, owner = desk.record.media_id, desk.record.owner_id
    desk.record = msgspec.structs.replace(desk.record, state="removed", reason="owner", derivatives=(THUMB, LARGE))
    desk.consumer._settle(ANY, MediaRemoved(media_id=media, owner_id=owner, reason="owner"), frozenset((media,)))
    assert desk.there() == {False}
    approved = MediaReviewed(media_id=media, owner_id=owner, verdict="approved", decision_id=new_id())
    for waiting, preserved, there in ((frozenset((media,)), False, True), (frozenset(), True, True), (frozenset(), False, False)):
        desk.preserved = preserved
        desk.consumer._acquit(ANY, approved, waiting)
        assert (desk.store.size(preserved_key(media)) is not None) is there


def test_the_upload_that_matched_a_list_stays_the_evidence(desk: Desk) -> None:
    """A rejected upload has no derivatives that could take its place, also once its owner removes it."""
    evidence = preserved_key(desk.record.media_id)
    desk.store.put(evidence, desk._content, "")
    desk.preserved = True
    for state in ("rejected", "removed"):
        desk.become(state)  # type: ignore[arg-type]
        desk.consumer._settle(ANY, MediaRemoved(media_id=desk.record.media_id, owner_id=desk.record.owner_id, reason="owner"))
        assert desk.store.size(evidence) is not None
