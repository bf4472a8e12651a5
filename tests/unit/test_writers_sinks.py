"""Every event has a sink, and folding keeps what a stale or repeated fact must not change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from configs.contracts import events
from configs.contracts.errors import InvalidEvent
from configs.contracts.events import EVENTS, Event
from configs.contracts.ids import derived_id, match_id, new_id, pair
from writers.records import Fact
from writers.sinks import SINKS, accounts, matches, sessions, sinks_of, users

START = datetime(2026, 1, 1, tzinfo=UTC)
ONE, OTHER = pair("01a00000-0000-7000-8000-000000000001", "01a00000-0000-7000-8000-000000000002")
MATCH = match_id(ONE, OTHER)


def fact(payload: events.Payload, version: int, *, key: str = "k", event_id: str | None = None) -> Fact:
    return Fact(Event(event_id or new_id(), START + timedelta(seconds=version), key, payload), version, 0)


def matched(generation: int, version: int) -> Fact:
    payload = events.Matched(match_id=MATCH, low_id=ONE, high_id=OTHER, generation=generation)
    return fact(payload, version, event_id=derived_id(MATCH, f"matched:{generation}"))


def ended(generation: int, version: int, reason: Any = "unmatched") -> Fact:
    return fact(
        events.Unmatched(match_id=MATCH, low_id=ONE, high_id=OTHER, generation=generation, ended_by=ONE, reason=reason),
        version,
    )


@pytest.mark.parametrize("payload", [payload for _, payload in EVENTS], ids=lambda payload: payload.TYPE)
def test_every_event_has_a_sink(payload: type[events.Payload]) -> None:
    assert sinks_of(payload)


@pytest.mark.parametrize("payload", [payload for _, payload in EVENTS], ids=lambda payload: payload.TYPE)
def test_an_event_that_carries_an_idempotency_key_is_stored_with_it(payload: type[events.Payload]) -> None:
    if "idempotency_key" in payload.__struct_fields__:
        assert {sink.name for sink in sinks_of(payload)} & {"idempotency", "swipes", "media"}


def test_sinks_have_names_of_their_own() -> None:
    assert len({sink.name for sink in SINKS}) == len(SINKS)


class TestMatches:
    def test_a_match_is_active_until_it_is_ended(self) -> None:
        active = matches.fold({}, [matched(1, 10)])
        assert (active[MATCH].status, active[MATCH].generation) == ("active", 1)
        over = matches.fold(active, [ended(1, 11)])
        assert (over[MATCH].status, over[MATCH].matched_at, over[MATCH].ended_by) == ("unmatched", active[MATCH].matched_at, ONE)

    def test_a_second_authoritys_copy_of_a_match_does_not_revive_an_ended_one(self) -> None:
        over = matches.fold({}, [matched(1, 10), ended(1, 11)])
        assert matches.fold(over, [matched(1, 12)]) == {}

    def test_the_next_generation_does_begin_again_after_an_undo(self) -> None:
        again = matches.fold({}, [matched(1, 10), ended(1, 11, "undone"), matched(2, 12)])
        assert (again[MATCH].status, again[MATCH].generation, again[MATCH].ended_at) == ("active", 2, None)

    def test_nothing_follows_a_block(self) -> None:
        blocked = matches.fold({}, [ended(0, 10, "blocked")])
        assert (blocked[MATCH].status, blocked[MATCH].matched_at) == ("blocked", None)
        assert matches.fold(blocked, [matched(1, 11), ended(1, 12)]) == {}

    def test_a_block_after_an_unmatch_is_what_stays(self) -> None:
        assert matches.fold({}, [matched(1, 10), ended(1, 11), ended(1, 12, "blocked")])[MATCH].status == "blocked"

    def test_the_end_of_an_older_generation_does_not_end_the_present_one(self) -> None:
        active = matches.fold({}, [matched(1, 10), ended(1, 11, "undone"), matched(2, 12)])
        assert matches.fold(active, [ended(1, 13)]) == {}

    def test_a_block_does_not_move_the_time_at_which_a_match_ended(self) -> None:
        over = matches.fold({}, [matched(1, 10), ended(1, 11, "undone")])
        blocked = matches.fold(over, [ended(1, 12, "blocked")])
        assert (blocked[MATCH].status, blocked[MATCH].ended_at) == ("blocked", over[MATCH].ended_at)

    def test_a_fact_that_is_older_than_the_row_changes_nothing(self) -> None:
        active = matches.fold({}, [matched(1, 10)])
        assert matches.fold(active, [ended(1, 9)]) == {}


class TestSessions:
    FAMILY = "01a00000-0000-7000-8000-00000000000f"

    def started(self, version: int) -> Fact:
        payload = events.SessionStarted(
            family_id=self.FAMILY, user_id=ONE, token_hash="00" * 32, expires_at=START + timedelta(days=1)
        )
        return fact(payload, version)

    def rotated(self, counter: int, version: int) -> Fact:
        payload = events.SessionRotated(
            family_id=self.FAMILY, user_id=ONE, counter=counter, token_hash=f"{counter:02x}" * 32,
            expires_at=START + timedelta(days=2),
        )
        return fact(payload, version)

    def revoked(self, version: int) -> Fact:
        return fact(events.SessionRevoked(family_id=self.FAMILY, user_id=ONE, reason="logout"), version)

    def test_a_start_that_is_derived_again_after_a_rotation_takes_nothing_back(self) -> None:
        family = sessions.fold({}, [self.started(1), self.rotated(1, 2), self.started(3)])[self.FAMILY]
        assert (family.counter, family.token_hash) == (1, b"\x01" * 32)

    def test_a_revocation_stays_whatever_comes_later(self) -> None:
        family = sessions.fold({}, [self.revoked(1), self.started(2), self.rotated(1, 3)])[self.FAMILY]
        assert family.revoked_at == START + timedelta(seconds=1)
        assert family.counter == 1

    def test_a_token_hash_that_is_none_is_refused(self) -> None:
        payload = events.SessionStarted(family_id=self.FAMILY, user_id=ONE, token_hash="no", expires_at=START)
        with pytest.raises(InvalidEvent):
            sessions.fold({}, [fact(payload, 1)])


class TestAccounts:
    ADDRESS = "0123456789abcdef0123456789abcdef"
    NAME = "01234567-89ab-cdef-0123-456789abcdef"

    def registered(self, user: str, version: int) -> Fact:
        payload = events.AccountRegistered(
            user_id=user, email="a@example.com", email_hash=self.ADDRESS, password_hash="first", role="sugar_baby",
            display_name="A", birth_date="1990-01-01",
        )
        return fact(payload, version)

    def test_the_first_registration_in_the_log_holds_the_address(self) -> None:
        claims = accounts.fold({}, [self.registered(ONE, 5), self.registered(OTHER, 6)])
        assert (claims[self.NAME].user_id, claims[self.NAME].version) == (ONE, 6)

    def test_only_the_holder_can_renew_the_password_hash_and_never_backwards(self) -> None:
        held = accounts.fold({}, [self.registered(ONE, 5)])

        def renewed(user: str, text: str, version: int) -> Fact:
            return fact(events.PasswordRehashed(user_id=user, email_hash=self.ADDRESS, password_hash=text), version)

        assert accounts.fold(held, [renewed(OTHER, "stolen", 6)])[self.NAME].password_hash == "first"
        assert accounts.fold(held, [renewed(ONE, "late", 4)]) == {}
        assert accounts.fold(held, [renewed(ONE, "new", 6)])[self.NAME].password_hash == "new"


class TestUsers:
    def test_a_field_keeps_its_newest_value_and_the_others_stay(self) -> None:
        people = users.fold({}, [
            fact(events.ProfileChanged(user_id=ONE, bio="new", gender="man"), 7),
            fact(events.ProfileChanged(user_id=ONE, bio="old", display_name="B"), 6),
        ])
        assert people[ONE].values == {"bio": "new", "gender": "man", "display_name": "B"}
        assert people[ONE].version == 7

    def test_creation_fills_only_what_no_update_has_set(self) -> None:
        created = events.UserCreated(user_id=ONE, role="sugar_baby", display_name="First", birth_date="1990-02-03")
        people = users.fold({}, [
            fact(events.ProfileChanged(user_id=ONE, display_name="Second"), 7), fact(created, 3),
        ])
        assert (people[ONE].values["display_name"], people[ONE].values["role"]) == ("Second", "sugar_baby")
        assert people[ONE].version == 7, "another topic's position says nothing here"

    def test_only_what_candidate_generation_uses_moves_the_match_version(self) -> None:
        people = users.fold({}, [
            fact(events.ProfileChanged(user_id=ONE, gender="man"), 5),
            fact(events.ProfileChanged(user_id=ONE, bio="b"), 6),
            fact(events.WasActive(user_id=ONE, active_at=START), 7),
            fact(events.PreferencesChanged(user_id=ONE, hide_distance=True), 8),
        ])
        assert (people[ONE].match_version, people[ONE].version) == (5, 8)
        moved = users.fold(people, [fact(events.PreferencesChanged(user_id=ONE, age_min=30), 9)])
        assert moved[ONE].match_version == 9

    @pytest.mark.parametrize("late", ["pending", "failed"])
    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_whoever_was_found_an_adult_stays_verified_whatever_another_check_says(self, late: Any, order: tuple[int, int]) -> None:
        def assessed(status: Any, version: int) -> Fact:
            return fact(events.AgeAssessed(user_id=ONE, assessment_id=new_id(), status=status, provider="p"), version)

        both = (assessed("verified", 7), assessed(late, 8))
        people = users.fold(users.fold({}, [assessed("pending", 6)]), [both[number] for number in order])
        assert people[ONE].values["verification_status"] == "verified"
        assert people[ONE].versions["verification"] == 7
        again = users.fold(people, [assessed("verified", 9)])
        assert again[ONE].versions["verification"] == 9

    def test_an_id_that_is_none_is_refused(self) -> None:
        with pytest.raises(InvalidEvent):
            users.fold({}, [fact(events.ProfileChanged(user_id="x", bio="b"), 1)])
