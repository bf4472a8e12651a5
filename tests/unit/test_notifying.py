"""What a person wants to hear, and when they want silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from configs.contracts.changes import SECTIONS
from configs.contracts.events import NotificationPreferencesChanged
from configs.contracts.notifying import (
    DEFAULTS,
    KINDS,
    Kind,
    Preferences,
    device_id,
    is_zone,
    kind_of,
    read_preferences,
    read_quiet_hours,
)

BERLIN = ZoneInfo("Europe/Berlin")


def quiet(hours: str, zone: str, at: datetime) -> bool:
    return Preferences(quiet_hours=hours, time_zone=zone).quiet(at)


@pytest.mark.parametrize(
    ("hours", "clock", "silent"),
    [
        ("22:00-07:30", "21:59", False), ("22:00-07:30", "22:00", True), ("22:00-07:30", "00:00", True),
        ("22:00-07:30", "07:29", True), ("22:00-07:30", "07:30", False), ("13:00-14:00", "13:30", True),
        ("13:00-14:00", "14:00", False), ("13:00-14:00", "02:00", False), ("", "03:00", False), ("00:00-00:00", "00:00", False),
    ],
)
def test_quiet_hours_may_pass_midnight_and_end_on_the_minute(hours: str, clock: str, silent: bool) -> None:
    hour, minute = map(int, clock.split(":"))
    assert quiet(hours, "Europe/Berlin", datetime(2026, 11, 25, hour, minute, tzinfo=BERLIN)) is silent


def test_quiet_hours_follow_the_clock_on_the_wall_through_both_changes() -> None:
    """The same instant in UTC is 07:00 on the last winter day and 08:00 on the first summer day."""
    for day, utc_hour, silent in (((2026, 3, 28), 6, True), ((2026, 3, 29), 6, False), ((2026, 3, 29), 5, True)):
        assert quiet("22:00-08:00", "Europe/Berlin", datetime(*day, utc_hour, 30, tzinfo=UTC)) is silent
    for day, utc_hour, silent in (((2026, 10, 24), 6, False), ((2026, 10, 25), 6, True), ((2026, 10, 25), 7, False)):
        assert quiet("22:00-08:00", "Europe/Berlin", datetime(*day, utc_hour, 30, tzinfo=UTC)) is silent


def test_the_hour_that_comes_twice_is_quiet_twice_and_the_one_that_is_missing_never() -> None:
    begin = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)  # midnight in Berlin
    silent = [minute for minute in range(360) if quiet("02:00-03:00", "Europe/Berlin", begin + timedelta(minutes=minute))]
    assert silent == list(range(120, 240))
    begin = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)
    assert not any(quiet("02:00-03:00", "Europe/Berlin", begin + timedelta(minutes=minute)) for minute in range(360))


def test_a_zone_that_this_machine_does_not_know_counts_as_utc() -> None:
    assert quiet("22:00-23:00", "Atlantis/Capital", datetime(2026, 1, 1, 22, 30, tzinfo=UTC))
    assert quiet("22:00-23:00", "", datetime(2026, 1, 1, 22, 30, tzinfo=UTC))


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kathmandu", "Etc/GMT+5"])
def test_iana_names_are_zones(name: str) -> None:
    assert is_zone(name)


@pytest.mark.parametrize(
    "name", ["", "Berlin", "europe berlin", "../../etc/passwd", "/etc/passwd", "Europe/", "Atlantis/Capital", "posix/Europe/Berlin", "a/" * 40]
)
def test_everything_else_is_no_zone(name: str) -> None:
    assert not is_zone(name)


@pytest.mark.parametrize("text", ["", "22:00", "22:00-", "a:b-c:d", "22-23", "10:00-10:00"])
def test_what_is_no_span_means_no_quiet_hours(text: str) -> None:
    assert read_quiet_hours(text) is None


def test_every_kind_and_channel_can_be_refused_but_two() -> None:
    """Messages stand in no list, system notifications always do; everything is wanted until it is refused."""
    for kind in KINDS:
        for channel in ("list", "push"):
            name = f"{channel}_{kind}"
            wanted = DEFAULTS.wants(kind, channel)
            assert wanted is ((kind, channel) != ("message", "list"))
            if name not in Preferences.__struct_fields__:
                assert (kind, channel) in {("message", "list"), ("system", "list")}
                continue
            refused = msgspec.structs.replace(DEFAULTS, **{name: False})
            assert [
                (other, at) for other in KINDS for at in ("list", "push")
                if refused.wants(other, at) is not DEFAULTS.wants(other, at)
            ] == [(kind, channel)]


@pytest.mark.parametrize(
    ("name", "kind"), [("match", "match"), ("super_like", "super_like"), ("payout_sent", "system"), ("", "system"), ("Match", "system")]
)
def test_kinds_that_services_name_themselves_are_system(name: str, kind: Kind) -> None:
    assert kind_of(name) == kind


def test_preferences_are_read_from_the_record_that_their_events_make() -> None:
    """Each field of the event has its place in the record, and each place is read."""
    names = dict(SECTIONS[NotificationPreferencesChanged])
    own = {"user_id", "idempotency_key", "body_digest"}
    assert set(names) == set(NotificationPreferencesChanged.__struct_fields__) - own == set(Preferences.__struct_fields__)
    record = {"userId": "u", "bio": "x", **{name: False for field, name in names.items() if field not in ("quiet_hours", "time_zone")}}
    record |= {"quietHours": "01:00-02:00", "timeZone": "UTC", "showContent": True}
    found = read_preferences(msgspec.json.encode(record))
    assert (found.quiet_hours, found.time_zone, found.show_content) == ("01:00-02:00", "UTC", True)
    assert not any(found.wants(kind, "push") for kind in KINDS)


def test_a_device_is_named_by_its_token_and_platform() -> None:
    assert device_id("fcm", "t") == device_id("fcm", "t") != device_id("apns", "t")
