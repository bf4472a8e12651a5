"""What a person's media add up to, and what a shard decides by it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.media.commands import (
    Arranged,
    ArrangePhotos,
    CompleteUpload,
    FindMedia,
    Found,
    IdempotencyConflict,
    MediaUnknown,
    RemoveMedia,
    RequestUpload,
    ReviewMedia,
    UploadExpired,
    UploadLimit,
)
from actors.media.state import AlbumMemory, MediaCommand
from cluster.launch.media import hashes_of
from configs.contracts.albums import REMOVED, Album, album_after, media_after
from configs.contracts.events import (
    Event,
    MediaProcessed,
    MediaRejected,
    MediaRemoved,
    MediaRequested,
    MediaRestored,
    Payload,
    PhotosArranged,
)
from configs.contracts.ids import derived_id
from configs.settings import Limits, Media

OWNER = derived_id("owner", "test")
ONE, TWO = derived_id("one", "test"), derived_id("two", "test")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LIMITS = Media(open_uploads_per_user=2, items_per_user=4, bytes_per_user=1_000, upload_ttl_s=600)


class Shard:
    """A memory whose decisions are applied at once, and the log of them."""

    def __init__(self) -> None:
        self.memory = AlbumMemory(LIMITS)
        self.memory.load(OWNER, None)
        self.log: list[Event] = []
        self.now = NOW

    def __call__(self, command: MediaCommand) -> Any:
        decision = self.memory.decide(command, self.now)
        versions = tuple(self.append(append.event) for append in decision.appends)
        return decision.answer(versions)

    def append(self, event: Event) -> int:
        self.log.append(event)
        self.memory.apply(event, len(self.log))
        return len(self.log)

    def outcome(self, payload: Payload) -> None:
        self.append(Event(derived_id(str(len(self.log)), "e"), self.now, OWNER, payload))

    def album(self) -> Album:
        album = None
        for version, event in enumerate(self.log, 1):
            album = album_after(album, event, version)
        assert album is not None
        return album


def request(media_id: str = ONE, size: int = 100, **changes: Any) -> RequestUpload:
    facts = {"kind": "image", "content_type": "image/jpeg", "sha256": "ab" * 32, **changes}
    return RequestUpload(owner_id=OWNER, media_id=media_id, size=size, **facts)


def complete(media_id: str = ONE) -> CompleteUpload:
    return CompleteUpload(owner_id=OWNER, media_id=media_id)


def processed(media_id: str = ONE, **facts: Any) -> MediaProcessed:
    return MediaProcessed(media_id=media_id, owner_id=OWNER, content_type="image/jpeg", width=1, height=1, **facts)


def review(media_id: str = ONE, verdict: Any = "approved", decision: str = "d") -> ReviewMedia:
    return ReviewMedia(owner_id=OWNER, media_id=media_id, verdict=verdict, decision_id=derived_id(decision, "d"))


def arrange(*media_ids: str, **more: Any) -> ArrangePhotos:
    return ArrangePhotos(owner_id=OWNER, media_ids=media_ids, **more)


def test_one_upload_is_granted_once_and_its_first_outcome_counts() -> None:
    shard = Shard()
    assert shard(request()).version == 1
    assert shard(request()).version == 0
    assert isinstance(shard(request(size=99)), IdempotencyConflict)
    assert [shard(complete()).version for _ in range(2)] == [2, 0]
    shard.outcome(processed())
    shard.outcome(MediaRejected(media_id=ONE, owner_id=OWNER, reason="unreadable"))
    found = shard(FindMedia(owner_id=OWNER, media_id=ONE))
    assert (found.record.state, found.record.review, found.record.published) == ("ready", "pending", False)


def test_nothing_is_published_that_nobody_approved_and_a_newer_decision_counts() -> None:
    shard = Shard()
    shard(request())
    assert isinstance(shard(review()), MediaUnknown), "there is nothing to review yet"
    shard(complete())
    shard.outcome(processed())
    assert shard(review()).record.published
    assert shard(review()).version == 0, "one decision is one fact"
    assert not shard(review(verdict="rejected", decision="e")).record.published


def test_photos_show_once_approved_and_leave_with_their_media() -> None:
    shard = Shard()
    for media in (ONE, TWO):
        shard(request(media))
        assert isinstance(shard(arrange(media)), MediaUnknown), "it is not complete"
        shard(complete(media))
    answer = shard(arrange(TWO, ONE))
    assert isinstance(answer, Arranged)
    assert answer.shown == ()
    for media in (ONE, TWO):
        shard.outcome(processed(media))
    assert shard(review(ONE)).photos == (ONE,)
    assert shard(review(TWO, decision="e")).photos == (TWO, ONE)
    assert shard(RemoveMedia(owner_id=OWNER, media_id=TWO, reason="owner")).photos == (ONE,)
    assert isinstance(shard(FindMedia(owner_id=OWNER, media_id=TWO)), MediaUnknown)
    assert isinstance(shard(arrange(TWO)), MediaUnknown)


def decided(media_id: str = ONE, decision: str = "r", **facts: Any) -> MediaRemoved:
    return MediaRemoved(media_id=media_id, owner_id=OWNER, reason="moderation", decision_id=derived_id(decision, "d"), **facts)


def restored(media_id: str = ONE, decision: str = "r") -> MediaRestored:
    return MediaRestored(media_id=media_id, owner_id=OWNER, decision_id=derived_id(decision, "d"))


def approved_photo() -> Shard:
    shard = Shard()
    shard(request())
    shard(complete())
    shard.outcome(processed())
    shard(arrange(ONE))
    assert shard(review()).photos == (ONE,)
    return shard


def test_what_a_decision_removed_is_back_as_it_was_when_that_decision_is_reversed() -> None:
    shard = approved_photo()
    shard.outcome(decided())
    assert shard.album().media == {}, "it counts for nothing"
    assert shard.album().shown() == ()
    assert isinstance(shard(FindMedia(owner_id=OWNER, media_id=ONE)), MediaUnknown)
    assert shard(request()).record.state == "removed", "nor is it uploaded again under its id"
    shard.outcome(restored(decision="another"))
    assert isinstance(shard(FindMedia(owner_id=OWNER, media_id=ONE)), MediaUnknown)
    shard.outcome(restored())
    found = shard(FindMedia(owner_id=OWNER, media_id=ONE))
    assert (found.record.state, found.record.review, found.record.reason) == ("ready", "approved", None)
    assert shard.album().shown() == (ONE,)
    assert shard.album().withheld == {}


def test_of_two_decisions_only_the_end_of_the_last_brings_it_back() -> None:
    shard = approved_photo()
    shard.outcome(decided())
    shard.outcome(decided(decision="later"))
    shard.outcome(restored())
    assert isinstance(shard(FindMedia(owner_id=OWNER, media_id=ONE)), MediaUnknown)
    shard.outcome(restored(decision="later"))
    assert shard(FindMedia(owner_id=OWNER, media_id=ONE)).record.review == "approved"


@pytest.mark.parametrize("ends", [
    [decided(block=True)],
    [decided(), MediaRemoved(media_id=ONE, owner_id=OWNER, reason="account_deleted")],
    [decided(), decided(decision="worse", block=True)],
    [MediaRemoved(media_id=ONE, owner_id=OWNER, reason="owner"), decided()],
], ids=["blocked", "its owner left", "another decision blocks it", "its owner removed it"])
def test_what_is_gone_for_another_reason_too_comes_back_by_no_reversal(ends: list[Payload]) -> None:
    shard = approved_photo()
    for end in ends:
        shard.outcome(end)
    shard.outcome(restored())
    assert isinstance(shard(FindMedia(owner_id=OWNER, media_id=ONE)), MediaUnknown)
    assert (shard.album().media, shard.album().withheld) == ({}, {})


@pytest.mark.parametrize("block", [True, False])
def test_whoever_removes_it_first_escapes_neither_the_block_list_nor_the_evidence(block: bool) -> None:
    shard = approved_photo()
    shard(RemoveMedia(owner_id=OWNER, media_id=ONE, reason="owner"))
    for _ in range(2):
        shard.outcome(decided(block=block))
    row = None
    for version, event in enumerate(shard.log, 1):
        if not isinstance(event.payload, PhotosArranged):
            row = media_after(row, event, version)
    assert row is not None
    assert (row.record.state, row.record.reason, row.removed_by) == ("removed", "owner", None)
    assert (row.blocked, row.preserved, row.version) == (block, True, len(shard.log) - 1)
    assert shard.album().removed == (ONE,)


def test_nothing_is_uploaded_again_under_the_id_of_what_is_gone() -> None:
    """A request that comes again after a removal gets no upload that the rows would not take."""
    shard = approved_photo()
    shard(RemoveMedia(owner_id=OWNER, media_id=ONE, reason="owner"))
    told, again = len(shard.log), shard(request())
    assert (again.record.state, again.version, len(shard.log)) == ("removed", 0, told)
    assert isinstance(shard(complete()), MediaUnknown)
    shard.outcome(MediaRequested(media_id=ONE, owner_id=OWNER, kind="image", content_type="image/jpeg", size=1, sha256="ab" * 32))
    assert (shard.album().media, shard.album().removed) == ({}, (ONE,)), "as in rows, also of what another life appended"


def test_the_newest_of_what_is_gone_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.contracts.albums.REMOVED", 3)
    shard = Shard()
    names = [derived_id(str(number), "n") for number in range(5)]
    for name in names:
        shard(request(name))
        shard(RemoveMedia(owner_id=OWNER, media_id=name, reason="owner"))
    assert shard.album().removed == tuple(names[2:])
    assert [shard(request(name)).record.state for name in names[2:]] == ["removed"] * 3


def test_no_key_of_the_last_day_is_forgotten() -> None:
    """Even when all of it is removed, and then everything else that one may have."""
    assert Limits().uploads_per_user_a_day + Media().items_per_user <= REMOVED


def test_a_late_retry_of_an_arrangement_brings_nothing_back() -> None:
    shard = Shard()
    for media in (ONE, TWO):
        shard(request(media))
        shard(complete(media))
    first = arrange(ONE, TWO, idempotency_key="k", body_digest="a")
    shard(first)
    shard(arrange(TWO))
    assert [record.media_id for record in shard(first).photos] == [TWO]
    assert isinstance(shard(arrange(ONE, idempotency_key="k", body_digest="b")), IdempotencyConflict)
    shard.now += timedelta(hours=25)
    assert [record.media_id for record in shard(first).photos] == [ONE, TWO], "a key is remembered for a day"


def test_limits_count_what_is_there_and_not_what_is_gone() -> None:
    shard = Shard()
    names = [derived_id(str(number), "n") for number in range(9)]
    for name in names[:2]:
        shard(request(name))
    answer = shard(request(names[2]))
    assert isinstance(answer, UploadLimit)
    assert (answer.of, answer.retry_after_s) == ("open_uploads", 600)
    for name in names[:2]:
        shard(complete(name))
    assert shard(request(names[2], size=801)) == UploadLimit("bytes", 0)
    for name in names[2:4]:
        shard(request(name))
        shard(complete(name))
    assert shard(request(names[4])) == UploadLimit("items", 0)
    shard(RemoveMedia(owner_id=OWNER, media_id=names[0], reason="owner"))
    assert isinstance(shard(request(names[4])), Found)


def test_an_upload_that_was_open_for_too_long_counts_for_nothing() -> None:
    shard = Shard()
    for media in (ONE, TWO):
        shard(request(media))
    shard.now += timedelta(seconds=601)
    assert isinstance(shard(request(derived_id("three", "test"))), Found)
    shard.now += timedelta(seconds=300)
    assert isinstance(shard(complete()), UploadExpired)
    shard.now += timedelta(days=3)
    shard(request(derived_id("four", "test")))
    assert len(shard.album().media) == 1, "those that nobody completed are forgotten"


@pytest.mark.parametrize("seed", range(20))
def test_events_in_any_order_and_number_restore_the_same_album(seed: int) -> None:
    """As a shard takes them in from rows and the log's tail, with a predecessor's late ones among them."""
    chance = random.Random(seed)
    shard = Shard()
    commands = [
        request(ONE), request(TWO), complete(ONE), complete(TWO), arrange(TWO, ONE), review(ONE), review(TWO, "rejected", "e"),
        RemoveMedia(owner_id=OWNER, media_id=TWO, reason="moderation", block=True), arrange(ONE), review(ONE, "rejected", "f"),
    ]
    for number, command in enumerate(commands):
        if number == 8:
            shard.outcome(decided(ONE))
            if seed % 2:
                shard.outcome(restored(ONE))
        shard(command)
        if number == 3:
            shard.outcome(processed(ONE))
            shard.outcome(processed(TWO))
    events = list(enumerate(shard.log, 1))
    cut = chance.randrange(len(events) + 1)
    row = None
    for version, event in events[:cut]:
        row = album_after(row, event, version)
    other = AlbumMemory(LIMITS)
    tail = chance.choices(events, k=len(events)) + events
    chance.shuffle(tail)
    loaded_at = chance.randrange(len(tail))
    for place, (version, event) in enumerate(tail):
        if place == loaded_at:
            other.load(OWNER, row)
        other.apply(event, version)
    folded = other._albums.get(OWNER)
    assert folded is not None
    assert folded.row == shard.album()


def test_hashes_are_found_in_lines_of_any_kind() -> None:
    one, two = "ab" * 32, "CD" * 32
    assert hashes_of(f"# a list\n{one}\n3,{two},100,note\nnothing here\n") == [one, two.lower()]


def test_an_answer_knows_what_others_appended_before_its_event() -> None:
    shard = Shard()
    for media in (ONE, TWO):
        shard(request(media))
        shard(complete(media))
        shard.outcome(processed(media, review="approved"))
    arranged = shard.memory.decide(arrange(ONE, TWO), NOW)
    looked = shard.memory.decide(review(verdict="rejected"), NOW)
    shard.outcome(MediaRemoved(media_id=ONE, owner_id=OWNER, reason="moderation"))
    answer = arranged.answer(tuple(shard.append(append.event) for append in arranged.appends))
    assert isinstance(answer, Arranged)
    assert (answer.shown, answer.version) == ((TWO,), shard.album().version)
    assert isinstance(looked.answer(tuple(shard.append(append.event) for append in looked.appends)), MediaUnknown)
