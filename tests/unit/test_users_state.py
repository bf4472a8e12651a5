"""What a user shard decides: where each fact goes, the ids it fills in, the limit on moving, what it forgets."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from actors.users.commands import LimitReached, Record, Recorded, RecordPayload
from actors.users.state import UserMemory
from configs.contracts import topics
from configs.contracts.events import (
    LocationChanged,
    NotificationRead,
    NotificationSent,
    PreferencesChanged,
    ProfileChanged,
    UserBlocked,
    UserReported,
    UserUnblocked,
    WasActive,
)
from configs.contracts.positions import version_of
from configs.contracts.topics import Topic

NOW = datetime(2026, 3, 1, tzinfo=UTC)
USER = "0190b7f0-0000-7000-8000-000000000001"
OTHER = "0190b7f0-0000-7000-8000-000000000002"
MOVE = LocationChanged(user_id=USER, latitude=52.5, longitude=13.4, cell="861f1d48fffffff")
REPORT = UserReported(report_id="", reporter_id=USER, target_type="user", target_id=OTHER, category="spam")


def ask(memory: UserMemory, command: Record, now: datetime = NOW, offset: int = 0) -> object:
    decision = memory.decide(command, now)
    versions = tuple(version_of(1, offset) for _ in decision.appends)
    for append, version in zip(decision.appends, versions, strict=True):
        memory.apply(append.event, version)
    return decision.answer(versions)


def keyed(payload: RecordPayload, key: str | None = "key") -> Record:
    return Record(user_id=USER, payload=payload, scope="route", idempotency_key=key, body_digest="digest")


@pytest.mark.parametrize(
    ("payload", "topic", "key"),
    [
        (ProfileChanged(user_id=USER, bio="x"), topics.USER_UPDATED, USER),
        (PreferencesChanged(user_id=USER, age_min=20), topics.USER_UPDATED, USER),
        (MOVE, topics.USER_UPDATED, USER),
        (WasActive(user_id=USER, active_at=NOW), topics.USER_UPDATED, USER),
        (UserBlocked(user_id=USER, blocked_id=OTHER), topics.USER_UPDATED, USER),
        (UserUnblocked(user_id=USER, blocked_id=OTHER), topics.USER_UPDATED, USER),
        (REPORT, topics.USER_REPORTED, OTHER),
        (NotificationSent(notification_id="n", user_id=USER, kind="k", title="t"), topics.NOTIFICATION_SEND, USER),
        (NotificationRead(notification_id="n", user_id=USER), topics.NOTIFICATION_SEND, USER),
    ],
)
def test_each_fact_is_one_event_on_its_topic(payload: RecordPayload, topic: Topic, key: str) -> None:
    (append,) = UserMemory(location_changes_an_hour=1).decide(keyed(payload, None), NOW).appends
    assert (append.topic, append.key, append.event.key) == (topic, key, key)
    assert type(append.event.payload) is type(payload)


@pytest.mark.parametrize(
    ("payload", "field"),
    [(REPORT, "report_id"), (NotificationSent(notification_id="", user_id=USER, kind="k", title="t"), "notification_id")],
)
def test_ids_shown_to_clients_are_the_events(payload: RecordPayload, field: str) -> None:
    """A replay knows only the event's id, and must show the client the same id as the first answer."""
    memory = UserMemory(location_changes_an_hour=1)
    memory.load(USER, None)
    first = ask(memory, keyed(payload))
    assert isinstance(first, Recorded)
    assert getattr(first.payload, field) == first.event_id
    assert ask(memory, keyed(payload)) == Recorded(first.event_id, 0, replayed=True, payload=None)


def test_an_id_that_the_caller_derived_stays() -> None:
    payload = NotificationSent(notification_id="derived", user_id=USER, kind="k", title="t")
    answer = ask(UserMemory(location_changes_an_hour=1), keyed(payload, None))
    assert isinstance(answer, Recorded)
    assert answer.payload == payload


def test_one_client_key_serves_several_routes() -> None:
    memory = UserMemory(location_changes_an_hour=1)
    memory.load(USER, None)
    payload = ProfileChanged(user_id=USER, bio="x")
    for scope in ("one", "two"):
        answer = ask(memory, Record(user_id=USER, payload=payload, scope=scope, idempotency_key="k", body_digest="d"))
        assert isinstance(answer, Recorded)
        assert not answer.replayed


def test_moving_is_limited_in_a_sliding_hour() -> None:
    """Otherwise one account could ask from many chosen points and narrow down where others are."""
    memory = UserMemory(location_changes_an_hour=2)
    for minute in (0, 10):
        assert isinstance(ask(memory, keyed(MOVE, None), NOW + timedelta(minutes=minute), minute), Recorded)
    refused = memory.decide(keyed(MOVE, None), NOW + timedelta(minutes=20))
    assert refused.appends == ()
    assert refused.answer(()) == LimitReached(retry_after_s=40 * 60)
    assert isinstance(ask(memory, keyed(MOVE, None), NOW + timedelta(minutes=60), 60), Recorded)
    assert ask(memory, keyed(MOVE, None), NOW + timedelta(minutes=61)) == LimitReached(retry_after_s=9 * 60)


def test_a_repeated_move_event_counts_once_and_another_fact_not_at_all() -> None:
    memory = UserMemory(location_changes_an_hour=2)
    event = memory.decide(keyed(MOVE, None), NOW).appends[0].event
    for _ in range(3):
        memory.apply(event, version_of(1, 1))
    ask(memory, keyed(PreferencesChanged(user_id=USER, age_min=20), None), offset=2)
    assert isinstance(ask(memory, keyed(MOVE, None), offset=3), Recorded)


def test_a_replayed_move_is_answered_past_the_limit() -> None:
    memory = UserMemory(location_changes_an_hour=1)
    memory.load(USER, None)
    ask(memory, keyed(MOVE))
    answer = ask(memory, keyed(MOVE))
    assert isinstance(answer, Recorded)
    assert answer.replayed


def test_facts_without_a_key_load_nothing_and_take_no_room() -> None:
    """Activity of everybody online must not fill the memory, nor wait for rows."""
    memory = UserMemory(location_changes_an_hour=1)
    for payload in (WasActive(user_id=USER, active_at=NOW), ProfileChanged(user_id=USER, bio="x")):
        assert memory.needs(keyed(payload, None)) == ()
        ask(memory, keyed(payload, None))
    assert memory.entries() == 0
    assert memory.needs(keyed(WasActive(user_id=USER, active_at=NOW))) == ()


def test_people_of_other_shards_are_not_remembered() -> None:
    """All of user.reported is read, since its key is the reported object."""
    memory = UserMemory(location_changes_an_hour=1, owns=lambda user_id: user_id != USER)
    ask(memory, keyed(REPORT))
    assert memory.entries() == 0


@pytest.mark.parametrize("payload", [REPORT, ProfileChanged(user_id=USER, bio="x")])
def test_a_person_is_forgotten_only_when_rows_hold_their_requests(payload: RecordPayload) -> None:
    """Otherwise a retry would be recorded twice."""
    memory = UserMemory(location_changes_an_hour=1)
    memory.load(USER, None)
    ask(memory, keyed(payload), offset=5)
    topic = topics.USER_REPORTED.name if payload is REPORT else topics.USER_UPDATED.name

    def rows_until(offset: int) -> Callable[[str, str], int]:
        return lambda name, key: version_of(1, offset if name == topic else 100)

    memory.settle(rows_until(5))
    assert memory.evict(0, lambda key: version_of(1, 100)) == 0
    memory.settle(rows_until(6))
    assert memory.evict(0, lambda key: 0) == 1


def test_commands_and_answers_travel_between_processes() -> None:
    for value in (keyed(REPORT), Recorded("e", 1, replayed=False, payload=MOVE), LimitReached(3)):
        assert pickle.loads(pickle.dumps(value)) == value
