"""Who is told what: likes collapse and never say who, refused kinds are not told, repetitions say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.contracts.events import DeviceRegistered, Event, Matched, NotificationSent, Swiped
from configs.contracts.ids import derived_id, match_id, pair
from configs.contracts.notifying import DEFAULTS, Preferences
from writers.consumers import audience
from writers.consumers.audience import BURST, LIKERS_KEPT, Burst, Registration

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
ME, *OTHERS = [derived_id(str(number), "person") for number in range(200)]


def liked(number: int, at: datetime = AT) -> Event:
    payload = Swiped(swiper_id=OTHERS[number], swiped_id=ME, action="like")
    return Event(derived_id(f"{number}", "swipe"), at, OTHERS[number], payload)


def burst_of(count: int, *, told: int = 0) -> Burst:
    return Burst(AT, tuple(OTHERS[:count]), told)


def wishing(**changes: object) -> dict[str, Preferences | None]:
    return {ME: msgspec.structs.replace(DEFAULTS, **changes)}


def test_many_likes_in_an_hour_are_one_notification_that_is_renewed() -> None:
    burst = Burst(AT)
    told: list[Event] = []
    for number in range(150):
        burst = burst.liked(OTHERS[number], AT + timedelta(seconds=number))
        event = audience.likes(ME, burst, liked(number), {})
        if event is not None:
            told.append(event)
            burst = Burst(burst.opened_at, burst.likers, len(burst.likers))
    payloads = [event.payload for event in told]
    assert len({payload.notification_id for payload in payloads}) == 1
    assert [payload.renews for payload in payloads] == [False] + [True] * (len(payloads) - 1)
    assert [payload.data["count"] for payload in payloads] == [*map(str, range(1, 11)), *map(str, range(20, 101, 10))]
    assert [payload.title for payload in (payloads[0], payloads[1], payloads[-1])] == [
        "Someone likes you", "2 people like you", "100+ people like you",
    ]


def test_who_likes_is_nowhere_in_what_is_told() -> None:
    for event in (audience.likes(ME, burst_of(3), liked(2), {}), audience.super_like(ME, liked(0), {})):
        assert event is not None
        assert not any(other in msgspec.json.encode(event).decode() for other in OTHERS)


def test_an_hour_later_another_burst_begins() -> None:
    burst = burst_of(5, told=5).liked(OTHERS[9], AT + BURST)
    assert burst == Burst(AT + BURST, (OTHERS[9],))
    assert burst_of(5).liked(OTHERS[9], AT + BURST - timedelta(seconds=1)).opened_at == AT


def test_a_like_that_came_late_joins_the_burst_that_is_open() -> None:
    assert burst_of(1).liked(OTHERS[5], AT - timedelta(minutes=5)) == Burst(AT, (OTHERS[0], OTHERS[5]))


def test_one_person_counts_once_and_not_after_taking_the_like_back() -> None:
    twice = burst_of(1, told=1).liked(OTHERS[0], AT)
    assert not twice.is_news
    assert audience.likes(ME, twice, liked(0), {}) is None
    assert burst_of(2).withdrawn(OTHERS[0]).likers == (OTHERS[1],)
    back_and_again = burst_of(1, told=1).withdrawn(OTHERS[0]).liked(OTHERS[0], AT)
    assert audience.likes(ME, back_and_again, liked(0), {}) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 150)), max_size=300))
def test_a_burst_is_bounded_and_tells_only_more(steps: list[tuple[bool, int]]) -> None:
    burst = Burst(AT)
    for likes, number in steps:
        burst = burst.liked(OTHERS[number], AT) if likes else burst.withdrawn(OTHERS[number])
        assert len(burst.likers) == len(set(burst.likers)) <= LIKERS_KEPT
        if burst.is_news:
            assert len(burst.likers) > burst.told
            burst = Burst(burst.opened_at, burst.likers, len(burst.likers))


@pytest.mark.parametrize(
    ("wish", "in_list"),
    [({}, True), ({"push_like": False}, True), ({"list_like": False}, False), ({"push_like": False, "list_like": False}, None)],
)
def test_the_first_like_is_told_where_it_is_wanted(wish: dict[str, bool], in_list: bool | None) -> None:
    event = audience.likes(ME, burst_of(1), liked(0), wishing(**wish))
    assert (None if event is None else event.payload.in_list) is in_list


def test_a_renewal_is_told_only_to_those_who_keep_a_list() -> None:
    assert audience.likes(ME, burst_of(2, told=1), liked(1), wishing(list_like=False)) is None
    assert audience.likes(ME, burst_of(2, told=1), liked(1), wishing(push_like=False)) is not None


def test_nobody_who_left_is_told_anything() -> None:
    gone = {ME: None}
    assert audience.likes(ME, burst_of(1), liked(0), gone) is None
    assert audience.super_like(ME, liked(0), gone) is None
    assert [event.payload.user_id for event in audience.match(matched(), gone)] == [OTHERS[0]]


def matched() -> Event:
    low, high = pair(ME, OTHERS[0])
    payload = Matched(match_id=match_id(low, high), low_id=low, high_id=high, generation=1)
    return Event(derived_id(payload.match_id, "matched:1"), AT, payload.match_id, payload)


def test_both_sides_of_a_match_are_told_with_ids_that_a_repetition_makes_again() -> None:
    first, second = audience.match(matched(), {}), audience.match(matched(), {})
    assert first == second
    assert {(event.payload.user_id, event.payload.data["userId"]) for event in first} == {(ME, OTHERS[0]), (OTHERS[0], ME)}
    assert all(isinstance(event.payload, NotificationSent) and event.event_id == event.payload.notification_id for event in first)


def test_a_side_that_wants_to_hear_of_no_match_is_not_told() -> None:
    told = audience.match(matched(), wishing(push_match=False, list_match=False))
    assert [event.payload.user_id for event in told] == [OTHERS[0]]


def test_devices_beyond_the_limit_are_removed_by_the_registration_that_they_have() -> None:
    cause = Event("e", AT, "new", DeviceRegistered(device_id="new", user_id=ME, platform="fcm", token="t"))
    (removed,) = audience.crowded_out(cause, {ME: (Registration("old", "r"),)})
    assert (removed.key, removed.payload.reason, removed.payload.registration) == ("old", "too_many", "r")
    assert audience.crowded_out(cause, {})== []


def test_what_stands_alone_is_told_under_its_name_or_not_at_all() -> None:
    cause = Event(derived_id("tip", "paid"), AT, OTHERS[0], Swiped(swiper_id=OTHERS[0], swiped_id=ME, action="like"))
    for wishes, expected in (
        ({}, True), (wishing(push_tip=False), True), (wishing(push_tip=False, list_tip=False), False), ({ME: None}, False),
    ):
        told = audience.told(cause, ME, "tip", "You received a tip", {"paymentId": "p"}, wishes, notification_id="n")
        assert (told is not None) == expected
        if told is not None:
            assert (told.payload.notification_id, told.payload.kind, told.payload.title) == ("n", "tip", "You received a tip")
