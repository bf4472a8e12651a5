"""The moments of what a payment processor says: two processes put them in the order in which they were true."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.connections.payments import stripe_calls

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()


class Clock:
    """Ours; the processor's is ``ahead_s`` ahead, and a call takes ``takes_s``."""

    def __init__(self, ahead_s: float = 0.0, takes_s: float = 0.02) -> None:
        self.now, self.ahead_s, self.takes_s = NOON, ahead_s, takes_s

    def time(self) -> float:
        return self.now

    async def call(self) -> Any:
        self.now += self.takes_s / 2
        stamp = format_datetime(datetime.fromtimestamp(int(self.now + self.ahead_s), UTC), usegmt=True)
        self.now += self.takes_s / 2
        return SimpleNamespace(to_dict=dict, last_response=SimpleNamespace(headers={"date": stamp}))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stripe_calls, "time", SimpleNamespace(time=made.time))
    return made


def read_at(calls: stripe_calls.Calls, clock: Clock) -> float:
    moment: datetime = asyncio.run(calls(clock.call()))["_read_at"]
    return moment.timestamp()


@pytest.mark.parametrize("ahead_s", [-0.01, 0.0, 0.01])
def test_a_process_that_asks_for_the_first_time_is_not_behind_one_that_asked_often(clock: Clock, ahead_s: float) -> None:
    clock.ahead_s = ahead_s
    often = stripe_calls.Calls()
    for step in range(200):
        clock.now = NOON + step * 0.0137
        read_at(often, clock)
    clock.now = NOON + 10.5
    earlier = read_at(often, clock)
    clock.now = NOON + 10.9
    later = read_at(stripe_calls.Calls(), clock)
    assert later - earlier == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("ahead_s", [-40.3, -1.4, 0.4, 3.7, 86_400.0])
def test_whatever_the_clocks_differ_order_within_a_process_is_exact_and_between_two_within_a_second(clock: Clock, ahead_s: float) -> None:
    clock.ahead_s = ahead_s
    often = stripe_calls.Calls()
    seen = []
    for step in range(200):
        clock.now = NOON + step * 0.0137
        seen.append(read_at(often, clock))
    assert all(0.0 <= later - earlier < 1.02 for earlier, later in pairwise(seen[100:]))
    asked_at = clock.now = NOON + 10.5
    first = read_at(stripe_calls.Calls(), clock)
    clock.now = asked_at
    again = read_at(often, clock)
    assert abs(first - again) < 1.02
    assert abs(again - (asked_at + ahead_s)) < 0.05


def test_a_clock_that_is_set_ahead_by_a_month_leaves_the_order_between_processes_exact(clock: Clock) -> None:
    often, seldom = stripe_calls.Calls(), stripe_calls.Calls()
    for step in range(200):
        clock.now = NOON + step * 0.0137
        read_at(often, clock)
    read_at(seldom, clock)
    clock.ahead_s = 32 * 86_400.0
    for step in range(200):
        clock.now = NOON + 5.0 + step * 0.0137
        read_at(often, clock)
    clock.now = NOON + 10.5
    earlier = read_at(often, clock)
    clock.now = NOON + 10.8
    later = read_at(seldom, clock)
    assert later - earlier == pytest.approx(0.3, abs=0.02)
