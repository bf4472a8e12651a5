"""Who may open what, as a table: every line is a promise to somebody who paid, or to somebody who is paid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from configs.contracts.content import Visibility
from configs.contracts.entitlements import GRACE, RENEWING, Access, Content, Holding, Period, Viewer, access

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
CREATOR, FAN = "0198c0de-0000-7000-8000-000000000001", "0198c0de-0000-7000-8000-000000000002"


def period(rank: int = 1, begins: timedelta = -DAY, ends: timedelta = DAY, *, revoked: bool = False) -> Period:
    return Period(rank, NOW + begins, NOW + ends, revoked)


def holding(status: Any, *periods: Period) -> Holding:
    return Holding(status, periods or (period(),))


def renewing(status: Any, *periods: Period) -> Holding:
    return Holding(status, periods, renewing=True)


def content(visibility: Visibility = "subscribers", rank: int = 0, *, exists: bool = True) -> Content:
    return Content("0198c0de-0000-7000-8000-00000000000a", CREATOR, visibility, rank, exists)


def decided(what: Content, *held: Holding, **facts: Any) -> Access:
    return access(what, Viewer(facts.pop("user_id", FAN), holdings=held, **facts), NOW)


VISIBILITIES: tuple[Visibility, ...] = ("public", "subscribers", "tier_specific", "ppv")

TABLE: list[tuple[str, Content, tuple[Holding, ...], dict[str, Any], Access]] = [
    ("public needs nothing", content("public"), (), {}, "open"),
    ("nobody who does not pay sees what is for subscribers", content(), (), {}, "subscribe"),
    ("an active subscription", content(), (holding("active"),), {}, "open"),
    ("a trial", content(), (holding("trialing"),), {}, "open"),
    ("one that was never paid", content(), (holding("incomplete"),), {}, "subscribe"),
    ("one that ended", content(), (holding("expired"),), {}, "subscribe"),
    ("active, and nothing of it was paid", content(), (Holding("active"),), {}, "subscribe"),
    ("paid until this very moment", content(), (holding("active", period(ends=timedelta(0))),), {}, "subscribe"),
    ("paid until a moment later", content(), (holding("active", period(ends=TICK)),), {}, "open"),
    ("paid from this very moment", content(), (holding("active", period(begins=timedelta(0))),), {}, "open"),
    ("paid from a moment later", content(), (holding("active", period(begins=TICK)),), {}, "subscribe"),
    ("past due within grace", content(), (holding("past_due", period(ends=TICK - GRACE)),), {}, "open"),
    ("past due after grace", content(), (holding("past_due", period(ends=-GRACE)),), {}, "subscribe"),
    ("grace is for past due only", content(), (holding("active", period(ends=-TICK)),), {}, "subscribe"),
    ("renewed, and the bill is not charged yet", content(), (renewing("active", period(ends=TICK - RENEWING)),), {}, "open"),
    ("renewed, and the bill was long to be charged", content(), (renewing("active", period(ends=-RENEWING)),), {}, "subscribe"),
    ("renewed, and what was paid last was refunded", content(),
     (renewing("active", period(begins=-2 * DAY, ends=-TICK), period(ends=TICK, revoked=True)),), {}, "subscribe"),
    ("renewed after an upgrade that was refunded", content("tier_specific", 2),
     (renewing("active", period(1, ends=-TICK), period(2, ends=-TICK, revoked=True)),), {}, "upgrade"),
    ("renewed to a lower tier", content("tier_specific", 2),
     (renewing("active", period(2, ends=-TICK), period(1, begins=-TICK)),), {}, "upgrade"),
    ("renewing is no grace of what ended", content(), (renewing("expired", period(ends=-TICK)),), {}, "subscribe"),
    ("refunded or disputed", content(), (holding("active", period(revoked=True)),), {}, "subscribe"),
    ("refunded, past due", content(), (holding("past_due", period(ends=-DAY, revoked=True)),), {}, "subscribe"),
    ("a refund takes what that payment bought", content("tier_specific", 2),
     (holding("active", period(1), period(2, revoked=True)),), {}, "upgrade"),
    ("and leaves what another one bought", content("tier_specific", 1),
     (holding("active", period(1), period(2, revoked=True)),), {}, "open"),
    ("a tier of equal rank", content("tier_specific", 2), (holding("active", period(2)),), {}, "open"),
    ("a tier of higher rank", content("tier_specific", 2), (holding("active", period(3)),), {}, "open"),
    ("a tier of lower rank", content("tier_specific", 2), (holding("active", period(1)),), {}, "upgrade"),
    ("no tier", content("tier_specific", 2), (), {}, "subscribe"),
    ("the best of two subscriptions", content("tier_specific", 2),
     (holding("active", period(1)), holding("active", period(2))), {}, "open"),
    ("an ended one lends the other no rank", content("tier_specific", 2),
     (holding("active", period(1)), holding("expired", period(2))), {}, "upgrade"),
    ("pay-per-view is bought", content("ppv"), (), {"purchased": True}, "open"),
    ("pay-per-view is not in a subscription", content("ppv"), (holding("active", period(9)),), {}, "purchase"),
    ("a purchase opens no subscription", content("tier_specific", 2), (), {"purchased": True}, "subscribe"),
]


@pytest.mark.parametrize(("what", "held", "facts", "expected"), [line[1:] for line in TABLE], ids=[line[0] for line in TABLE])
def test_table(what: Content, held: tuple[Holding, ...], facts: dict[str, Any], expected: Access) -> None:
    assert decided(what, *held, **facts) == expected


@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_block_ban_and_absence_come_before_everything_paid(visibility: Visibility) -> None:
    held = holding("active", period(9))
    for facts in ({"blocked": True}, {"active": False}, {"creator_active": False}):
        assert decided(content(visibility), held, purchased=True, **facts) == "hidden"
    assert decided(content(visibility, exists=False), held, purchased=True) == "hidden"


@pytest.mark.parametrize(("visibility", "exists"), list(product(VISIBILITIES, (True, False))))
def test_creators_open_their_own_drafts_too_but_not_when_banned(visibility: Visibility, exists: bool) -> None:
    assert decided(content(visibility, 9, exists=exists), user_id=CREATOR) == "open"
    assert decided(content(visibility, 9, exists=exists), user_id=CREATOR, active=False) == "hidden"


def test_entitled_until_is_the_last_moment_that_is_paid_for() -> None:
    first, second = period(1), period(2, ends=2 * DAY)
    assert holding("active", first, second).entitled_until == second.ends_at
    assert holding("past_due", first).entitled_until == first.ends_at + GRACE
    assert renewing("active", first).entitled_until == first.ends_at + RENEWING
    assert renewing("active", first, second).entitled_until == second.ends_at + RENEWING
    assert holding("active", first, revoked(second)).entitled_until == first.ends_at
    assert holding("expired", first).entitled_until is None
    assert holding("active", revoked(first)).entitled_until is None


def revoked(one: Period) -> Period:
    return Period(one.rank, one.starts_at, one.ends_at, revoked=True)
