"""What follows from a decision reaches the account, the person, the content and both sides; twice the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from configs.contracts import topics
from configs.contracts.events import (
    AppealDecided,
    CaseDecided,
    CommentDeleted,
    CommentRestored,
    ContentPublished,
    ContentRemoved,
    ContentRestored,
    ContentUpdated,
    Event,
    MediaRemoved,
    MediaRestored,
    MediaReviewed,
    NotificationSent,
    Payload,
    StandingChanged,
    StandingSet,
)
from configs.contracts.ids import new_id
from configs.contracts.moderation import appeal_token, parse_appeal_token
from configs.contracts.topics import Topic
from writers.consumers.derive_moderation import Sides, follows_decision, follows_post

KEY = b"k" * 32
AT = datetime(2026, 3, 1, tzinfo=UTC)
SUBJECT, REPORTER, TARGET, DECISION, POST, CREATOR = (new_id() for _ in range(6))
ADDRESS = "ab" * 16


def decided(action: Any, target_type: Any = "user", target: str = SUBJECT, **fields: Any) -> CaseDecided:
    return CaseDecided(
        decision_id=DECISION, target_type=target_type, target_id=target, subject_id=SUBJECT, action=action, statement="why",
        decided_by="person:m", number=3, **({"category": "spam"} | fields),
    )


def follows(payload: Payload, event_id: str = DECISION, *, gone: bool = False, **more: Any) -> list[tuple[Topic, Event]]:
    """``gone``: the subject has no account any more."""
    target: str = payload.target_id  # type: ignore[attr-defined]
    sides = Sides({} if gone else {SUBJECT: ADDRESS}, {target: [REPORTER]}, {TARGET: (POST, CREATOR)}, **more)
    event = Event(event_id, AT, target, payload)
    made = list(follows_decision(event, sides, KEY))
    assert made == list(follows_decision(event, sides, KEY)), "a repetition derives the same events"
    assert len({derived.event_id for _, derived in made}) == len(made)
    return made


def payloads(made: list[tuple[Topic, Event]], kind: type) -> list[Any]:
    return [event.payload for _, event in made if isinstance(event.payload, kind)]


@pytest.mark.parametrize(("action", "status"), [("suspend", "suspended"), ("ban", "banned"), ("reinstate", "active")])
def test_a_decision_on_a_person_reaches_account_and_record_under_its_number(action: str, status: str) -> None:
    made = follows(decided(action))
    (standing,), (shown,) = payloads(made, StandingSet), payloads(made, StandingChanged)
    assert (standing.status, standing.number, standing.email_hash) == (status, 3, ADDRESS)
    assert (shown.status, shown.number, shown.user_id) == (status, 3, SUBJECT)


@pytest.mark.parametrize("action", ["dismiss", "warn"])
def test_other_decisions_on_a_person_leave_the_account_alone(action: str) -> None:
    made = follows(decided(action))
    assert payloads(made, StandingSet) == payloads(made, StandingChanged) == []


def test_both_sides_are_told_the_reasons_and_the_subject_how_to_appeal() -> None:
    told = {note.user_id: note for note in payloads(follows(decided("ban")), NotificationSent)}
    assert set(told) == {SUBJECT, REPORTER}
    assert {note.body for note in told.values()} == {"why"}
    assert parse_appeal_token(KEY, told[SUBJECT].data["appealToken"]) == (DECISION, SUBJECT, SUBJECT)
    assert "appealToken" not in told[REPORTER].data
    dismissed = payloads(follows(decided("dismiss")), NotificationSent)
    assert [note.user_id for note in dismissed] == [REPORTER], "nobody is told of a report that led to nothing but its sender"


@pytest.mark.parametrize(("category", "reason", "block"), [
    ("intimate_image", "intimate_image", True), ("child_abuse", "moderation", True), ("nudity", "moderation", False),
])
def test_removed_media_is_removed_and_blocked_by_hash_where_nobody_may_upload_it_again(
    category: str, reason: str, block: bool
) -> None:
    made = follows(decided("remove", "media", TARGET, category=category))
    (removed,) = payloads(made, MediaRemoved)
    assert (removed.media_id, removed.owner_id, removed.reason, removed.block) == (TARGET, SUBJECT, reason, block)
    assert removed.decision_id == DECISION
    assert [(topic, event.key) for topic, event in made if event.payload is removed] == [(topics.MEDIA_UPLOADED, SUBJECT)]


@pytest.mark.parametrize(("category", "reason", "decision"), [
    ("nudity", "moderation", DECISION), ("intimate_image", "intimate_image", None), ("child_abuse", "moderation", None),
], ids=["nudity", "intimate image", "child abuse"])
def test_removed_media_takes_away_what_was_sold_with_it_and_a_reversal_brings_that_back(
    category: str, reason: str, decision: str | None
) -> None:
    sold = {TARGET: [POST, CREATOR], new_id(): [new_id()]}
    made = follows(decided("remove", "media", TARGET, category=category), sold=sold)
    removed = [(topic, event.key, event.payload) for topic, event in made if isinstance(event.payload, ContentRemoved)]
    assert [(payload.post_id, payload.reason, payload.decision_id) for _, _, payload in removed] == [
        (post, reason, decision) for post in sold[TARGET]
    ], "what is blocked comes back by no reversal"
    assert {(topic, key, payload.creator_id) for topic, key, payload in removed} == {(topics.CONTENT_PUBLISHED, SUBJECT, SUBJECT)}
    assert payloads(follows(decided("dismiss", "media", TARGET), sold=sold), ContentRemoved) == []

    reversal = msgspec.structs.replace(appealed("reversed"), target_type="media", target_id=TARGET, action="remove")
    taken = {DECISION: [POST, CREATOR], new_id(): [new_id()]}
    restored = payloads(follows(reversal, new_id(), taken=taken), ContentRestored)
    assert [(payload.post_id, payload.creator_id, payload.decision_id) for payload in restored] == [
        (post, SUBJECT, DECISION) for post in taken[DECISION]
    ]
    assert payloads(follows(reversal, new_id(), taken=taken, gone=True), ContentRestored) == []


def test_a_post_that_came_into_rows_after_the_decision_goes_under_the_name_that_the_decision_gives_it() -> None:
    for category in ("nudity", "intimate_image", "child_abuse"):
        of_decision = follows(decided("remove", "media", TARGET, category=category), sold={TARGET: [POST]})
        there = [(topic, event.event_id, event.payload) for topic, event in of_decision if isinstance(event.payload, ContentRemoved)]
        sides = Sides(removals={POST: [(DECISION, category)], new_id(): [(new_id(), category)]})
        for told in (ContentPublished, ContentUpdated):
            made = follows_post(Event(new_id(), AT, SUBJECT, told(post_id=POST, creator_id=SUBJECT)), sides)
            assert [(topic, event.event_id, event.payload) for topic, event in made] == there != [], category
            other = follows_post(Event(new_id(), AT, SUBJECT, told(post_id=new_id(), creator_id=SUBJECT)), sides)
            assert list(other) == []


def test_media_without_fault_is_approved_and_posts_are_removed() -> None:
    (reviewed,) = payloads(follows(decided("dismiss", "media", TARGET)), MediaReviewed)
    assert (reviewed.verdict, reviewed.decision_id) == ("approved", DECISION)
    (removed,) = payloads(follows(decided("remove", "post", TARGET)), ContentRemoved)
    assert (removed.post_id, removed.creator_id, removed.decision_id) == (TARGET, SUBJECT, DECISION)
    (deleted,) = payloads(follows(decided("remove", "comment", TARGET)), CommentDeleted)
    assert (deleted.post_id, deleted.user_id, deleted.decision_id) == (POST, SUBJECT, DECISION)


def appealed(outcome: Any) -> AppealDecided:
    return AppealDecided(
        appeal_id=new_id(), decision_id=DECISION, target_type="user", target_id=SUBJECT, subject_id=SUBJECT, action="ban",
        outcome=outcome, statement="why not", decided_by="person:n", number=4,
    )


def test_only_an_appeal_that_succeeds_takes_the_decision_back() -> None:
    made = follows(appealed("reversed"), new_id())
    assert [(standing.status, standing.number) for standing in payloads(made, StandingSet)] == [("active", 4)]
    assert {note.user_id for note in payloads(made, NotificationSent)} == {SUBJECT, REPORTER}
    assert payloads(follows(appealed("upheld"), new_id()), StandingSet) == []


@pytest.mark.parametrize(("action", "standing", "status"), [
    ("ban", None, ["active"]), ("suspend", None, ["active"]), ("warn", None, []),
    ("ban", "suspended", ["suspended"]), ("suspend", "active", ["active"]), ("suspend", "unchanged", []), ("warn", "unchanged", []),
])
def test_a_reversal_gives_the_standing_that_its_case_says_and_none_after_a_warning(
    action: Any, standing: Any, status: list[str]
) -> None:
    """``None``: it was decided before cases said so."""
    made = follows(msgspec.structs.replace(appealed("reversed"), action=action, standing=standing), new_id())
    for kind in (StandingSet, StandingChanged):
        assert [payload.status for payload in payloads(made, kind)] == status
    assert payloads(made, NotificationSent), "both sides are told all the same"


def test_what_a_reversed_decision_removed_comes_back_where_it_was_removed() -> None:
    reversal = appealed("reversed")
    change = msgspec.structs.replace
    for kind, topic, key, kind_of_event in (
        ("post", topics.CONTENT_PUBLISHED, SUBJECT, ContentRestored), ("media", topics.MEDIA_UPLOADED, SUBJECT, MediaRestored),
        ("comment", topics.CONTENT_COMMENTED, POST, CommentRestored),
    ):
        removal = change(reversal, target_type=kind, target_id=TARGET, action="remove")
        made = [(where, event) for where, event in follows(removal) if isinstance(event.payload, kind_of_event)]
        assert [(where, event.key, event.payload.decision_id) for where, event in made] == [(topic, key, DECISION)], kind
        warned = change(removal, action="warn")
        assert payloads(follows(warned), kind_of_event) == [], "a warning took nothing away"
        upheld = change(removal, outcome="upheld")
        assert payloads(follows(upheld), kind_of_event) == []
        assert payloads(follows(removal, gone=True), kind_of_event) == [], "of whose account is gone nothing comes back"


def test_a_token_to_appeal_is_good_for_its_decision_only() -> None:
    token = appeal_token(KEY, DECISION, TARGET, SUBJECT)
    assert parse_appeal_token(KEY, token) == (DECISION, TARGET, SUBJECT)
    changed = token[:5] + ("A" if token[5] != "A" else "B") + token[6:]
    for text in ("", "x", token[:-1], token + "A", changed, "é" * len(token), "!" * len(token)):
        assert parse_appeal_token(KEY, text) is None
    assert parse_appeal_token(b"z" * 32, token) is None
