"""A device has the owner of its newest registration, and only that owner's removal counts."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

from configs.contracts.events import DeviceRegistered, DeviceRemoved, Event
from configs.contracts.ids import derived_id
from writers.records import Fact
from writers.sinks.devices import Device, fold

DEVICE, ALICE, BOB = (derived_id(name, "test") for name in ("device", "alice", "bob"))
AT = datetime(2026, 11, 25, tzinfo=UTC)


def fact(payload: Any, version: int) -> Fact:
    return Fact(Event(derived_id(str(version), "event"), AT, DEVICE, payload), version, 0)


def registered(user: str, version: int) -> Fact:
    return fact(DeviceRegistered(device_id=DEVICE, user_id=user, platform="fcm", token=f"token-{version}"), version)


def removed(user: str, version: int, registration: int | None = None) -> Fact:
    named = None if registration is None else derived_id(str(registration), "event")
    return fact(DeviceRemoved(device_id=DEVICE, user_id=user, reason="signed_out", registration=named), version)


def owner(*facts: Fact, stored: tuple[Device, ...] = ()) -> str | None:
    (device,) = fold(stored, facts) or (None,)
    return None if device is None or device.removed_at is not None else device.user_id


def test_a_device_that_moved_belongs_to_the_newer_account() -> None:
    assert owner(registered(ALICE, 1), registered(BOB, 2)) == BOB


def test_the_old_account_cannot_remove_what_is_no_longer_its_own() -> None:
    """Signing out of the old account, late, must not silence the new one."""
    assert owner(registered(ALICE, 1), registered(BOB, 2), removed(ALICE, 3)) == BOB


def test_a_removal_takes_the_token_away() -> None:
    (device,) = fold((), (registered(ALICE, 1), removed(ALICE, 2)))
    assert (device.removed_at, device.token, device.public_key, device.auth_secret) == (AT, "", None, None)


def test_a_provider_that_forgot_an_old_registration_leaves_the_newer_one() -> None:
    assert owner(registered(ALICE, 1), registered(ALICE, 2), removed(ALICE, 3, registration=1)) == ALICE
    assert owner(registered(ALICE, 1), registered(ALICE, 2), removed(ALICE, 3, registration=2)) is None


def test_late_and_repeated_facts_change_nothing_whatever_the_batches() -> None:
    facts = [registered(ALICE, 1), removed(ALICE, 2), registered(BOB, 3), removed(ALICE, 4)]
    expected = fold((), facts)
    for cut in range(len(facts) + 1):
        first = fold((), facts[:cut])
        second = fold(first, facts[cut:]) or first
        assert second == expected
        assert fold(second, facts) == []
    for late in itertools.permutations(facts[:2]):
        assert fold(expected, late) == []
