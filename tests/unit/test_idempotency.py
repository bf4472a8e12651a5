"""How many requests an owner's memory keeps, and in which order keys are forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from actors.entries import Entries
from actors.idempotency import LIFETIME, REMEMBERED, Remembered, Requests

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_newest_64_requests_are_remembered() -> None:
    requests = Requests()
    for second in range(REMEMBERED + 1):
        requests.remember(f"k{second}", Remembered("d", f"{second:03}", NOW + timedelta(seconds=second)))
    assert len(requests) == REMEMBERED == 64
    assert requests.find("k0", NOW) is None
    assert requests.find("k1", NOW) is not None


def test_a_request_is_remembered_for_a_day() -> None:
    requests = Requests()
    requests.remember("k", Remembered("d", "e", NOW))
    assert requests.find("k", NOW + LIFETIME - timedelta(seconds=1)) is not None
    assert requests.find("k", NOW + LIFETIME) is None


def test_the_least_recently_used_keys_are_forgotten_first_and_reading_is_no_use() -> None:
    entries: Entries[list[int]] = Entries(list)
    for key in ("a", "b", "c", "d"):
        entries.use(key)
    entries.use("a")
    entries.get("b")
    assert entries.evict(2, lambda key, entry: key != "c") == 2
    assert [key for key in "abcd" if entries.get(key) is not None] == ["a", "c"]
    assert entries.evict(2, lambda key, entry: True) == 0
