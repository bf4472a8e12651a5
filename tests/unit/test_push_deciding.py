"""Which event is pushed, to whom, and what stands on a lock screen."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from configs.contracts.events import Event, MessageSent, NotificationRead, NotificationSent
from configs.contracts.ids import derived_id
from configs.contracts.notifying import DEFAULTS, Kind, Preferences
from writers.push.deciding import SAFE, WORTH, Facts, Occasion, message, newest, occasion, skipped

ME, OTHER, CONVERSATION, NOTE = (derived_id(name, "test") for name in ("me", "other", "conversation", "note"))
AT = datetime(2026, 11, 25, 12, 0, 3, tzinfo=UTC)


def sent(kind: str, *, renews: bool = False, in_list: bool = True, **data: str) -> Event:
    payload = NotificationSent(
        notification_id=NOTE, user_id=ME, kind=kind, title="Secret title", body="Secret body", data=data, renews=renews, in_list=in_list
    )
    return Event(NOTE, AT, ME, payload)


def written(seq: int = 1, at: datetime = AT, text: str = "Secret text") -> Event:
    payload = MessageSent(
        message_id=derived_id(str(seq), "message"), conversation_id=CONVERSATION, sender_id=OTHER, recipient_id=ME, seq=seq,
        ordinal=seq, epoch=1, client_message_id="c", content=text,
    )
    return Event(payload.message_id, at, CONVERSATION, payload)


def of(event: Event) -> Occasion:
    found = occasion(event)
    assert found is not None
    return found


def facts(wish: Preferences | None = DEFAULTS, **changes: Any) -> Facts:
    known: dict[str, Any] = {
        "wishes": {ME: wish}, "names": {OTHER: "Alice"}, "read": frozenset(), "read_up_to": {}, "delivered_up_to": {},
        "standing": frozenset(derived_id(str(seq), "message") for seq in range(10)), "acknowledged": frozenset(), "blocked": frozenset(),
    }
    return Facts(**known | changes)


def test_a_renewal_and_a_read_mark_are_no_occasion() -> None:
    assert occasion(sent("like", renews=True)) is None
    assert occasion(Event("e", AT, ME, NotificationRead(notification_id=NOTE, user_id=ME))) is None


def test_messages_of_one_conversation_in_half_a_minute_are_one_push_with_the_newest_text() -> None:
    run = [of(written(seq, AT + timedelta(seconds=seq), f"text {seq}")) for seq in range(3)]
    later = of(written(4, AT + timedelta(seconds=30)))
    assert len({one.push_id for one in run}) == 1
    assert {one.collapse for one in (*run, later)} == {CONVERSATION}
    assert later.push_id != run[0].push_id
    assert [one.body for one in newest([*run, later])] == ["text 2", "Secret text"]


ALLOWED = facts()
PLACE = (CONVERSATION, ME)


@pytest.mark.parametrize(
    ("event", "known", "reason"),
    [
        (written(2), facts(), None),
        (written(2), facts(delivered_up_to={PLACE: 1}), None),
        (written(2), facts(delivered_up_to={PLACE: 2}), "acknowledged"),
        (written(2), facts(delivered_up_to={PLACE: 9}), "acknowledged"),
        (written(2), facts(delivered_up_to={(CONVERSATION, OTHER): 9}), None),
        (written(2), facts(read_up_to={PLACE: 2}), "read"),
        (written(2), facts(standing=frozenset()), "withdrawn"),
        (sent("match"), facts(), None),
        (sent("match"), facts(read=frozenset({NOTE})), "read"),
        (sent("match"), facts(acknowledged=frozenset({(ME, NOTE)})), "acknowledged"),
        (sent("match"), facts(acknowledged=frozenset({(OTHER, NOTE)})), None),
        (sent("match", in_list=False), facts(read=frozenset({NOTE})), None),
        (sent("match"), facts(None), "gone"),
        (sent("match"), facts(wishes={}), None),
        (written(2), facts(blocked=frozenset({(ME, OTHER)})), "blocked"),
        (written(2), facts(blocked=frozenset({(OTHER, ME)})), None),
        (sent("tip", userId=OTHER), facts(blocked=frozenset({(ME, OTHER)})), "blocked"),
        (sent("system", userId="not an id"), facts(blocked=frozenset({(ME, "not an id")})), None),
        (sent("match"), facts(Preferences(quiet_hours="11:00-13:00")), "quiet"),
        (sent("match"), facts(Preferences(quiet_hours="11:00-13:00", time_zone="Asia/Tokyo")), None),
    ],
)
def test_a_push_is_skipped_for_one_reason(event: Event, known: Facts, reason: str | None) -> None:
    assert skipped(of(event), known, AT + timedelta(seconds=5)) == reason


def test_every_kind_is_pushed_exactly_when_it_is_wanted() -> None:
    """The truth table: each kind against each subset of refused kinds."""
    kinds: tuple[Kind, ...] = ("match", "message", "like", "super_like", "system")
    for refused in itertools.product((False, True), repeat=len(kinds)):
        wish = Preferences(**{f"push_{kind}": not no for kind, no in zip(kinds, refused, strict=True)})
        for kind, no in zip(kinds, refused, strict=True):
            event = written() if kind == "message" else sent("payout" if kind == "system" else kind)
            assert skipped(of(event), facts(wish), AT) == ("unwanted" if no else None)


def test_what_is_an_hour_old_is_not_pushed() -> None:
    for late, reason in ((WORTH, None), (WORTH + timedelta(seconds=1), "too_old")):
        assert skipped(of(sent("match")), facts(), AT + late) == reason
        assert message(of(sent("match")), facts()).expires_at == AT + WORTH


@pytest.mark.parametrize("event", [written(), *(sent(kind, userId=OTHER) for kind in ("match", "like", "super_like", "payout"))])
def test_a_lock_screen_shows_no_name_and_no_text_by_default(event: Event) -> None:
    one = of(event)
    shown = message(one, facts())
    assert (shown.title, shown.body) == (SAFE[one.kind], None)
    text = msgspec.json.encode([shown.title, shown.body, dict(shown.data)]).decode()
    assert "Alice" not in text
    assert "Secret" not in text


OPEN = Preferences(show_content=True)


@pytest.mark.parametrize(
    ("event", "title", "body"),
    [
        (written(), "Alice", "Secret text"), (written(text="x" * 500), "Alice", "x" * 199 + "…"),
        (sent("match", userId=OTHER), "It's a match with Alice!", None), (sent("payout"), "Secret title", "Secret body"),
        (sent("like", userId=OTHER), "Someone likes you", None), (sent("super_like", userId=OTHER), "Someone super liked you", None),
    ],
)
def test_whoever_allows_it_sees_names_and_texts_but_never_who_likes(event: Event, title: str, body: str | None) -> None:
    shown = message(of(event), facts(OPEN))
    assert (shown.title, shown.body) == (title, body)


def test_texts_are_in_no_representation() -> None:
    """What is logged when something fails must not show what people write."""
    for event in (written(), sent("payout")):
        assert "Secret" not in repr(of(event))


@pytest.mark.parametrize("kind", ["subscriber", "post", "tip", "purchase"])
def test_a_lock_screen_does_not_say_that_somebody_sells_or_buys(kind: str) -> None:
    hidden = message(of(sent(kind)), facts())
    assert (hidden.title, hidden.body) == ("You have a new notification", None)
    shown = message(of(sent(kind)), facts(msgspec.structs.replace(DEFAULTS, show_content=True)))
    assert shown.title == "Secret title"
    refused = msgspec.structs.replace(DEFAULTS, **{f"push_{kind}": False})
    assert skipped(of(sent(kind)), facts(refused), AT) == "unwanted"
