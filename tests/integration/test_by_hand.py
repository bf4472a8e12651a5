"""Operators are told what money waits for them: payouts that staff makes, and refunds that a bank sent back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from configs.contracts.events import Event, PaymentObserved, PayoutRecorded, PayoutRequested
from configs.contracts.events.base import Payload
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import Refunded
from configs.settings import Settings
from writers.by_hand import TOLD_FOR, by_hand
from writers.commit import write_facts
from writers.connections import Connection, open_rows
from writers.records import Fact

pytestmark = pytest.mark.servers

NOW = datetime.now(UTC)
VERSIONS = count(1 << 40)


@pytest.fixture
def rows(servers: Settings) -> Iterator[Connection]:
    with open_rows(servers, "by-hand-test") as conn:
        yield conn


def write(conn: Connection, person: str, at: datetime, payload: Payload) -> None:
    with conn.transaction(), conn.cursor() as cur:
        write_facts(cur, [Fact(Event(new_id(), at, person, payload), next(VERSIONS), 0)])


def test_a_payout_waits_for_staff_until_they_say_what_became_of_it(servers: Settings, rows: Connection) -> None:
    before, creator, names = by_hand(servers)["payouts"]["waiting"], new_id(), (new_id(), new_id(), new_id())
    two_days = timedelta(days=2)
    for name, account in zip(names, ("", "", "acct_1"), strict=True):
        write(rows, creator, NOW - two_days, PayoutRequested(
            payout_id=name, creator_id=creator, amount_minor=1_000, currency="EUR", provider="hosted_form", account_id=account,
            livemode=False, body_digest="",
        ))
    found = by_hand(servers)["payouts"]
    assert found["waiting"] == before + 2, "a processor makes the third"
    assert found["oldest_s"] >= two_days.total_seconds()
    for name, outcome in zip(names, ("paid", "refused"), strict=False):
        recorded: Any = {"payout_id": name, "creator_id": creator, "outcome": outcome, "reference": "x", "recorded_by": "service:test"}
        write(rows, creator, NOW, PayoutRecorded(**recorded))
    assert by_hand(servers)["payouts"]["waiting"] == before


def test_a_refund_that_came_back_is_told_until_it_is_made_again_or_a_week_is_over(servers: Settings, rows: Connection) -> None:
    payer, creator, hour = new_id(), new_id(), timedelta(hours=1)

    def told(payment: str, total: int, at: datetime) -> None:
        write(rows, payer, at, PaymentObserved(owner_id=payer, fact=Refunded(
            provider="stripe", livemode=False, event_id=new_id(), object_id=f"ch_{payment}", as_of=at, payment_id=payment,
            payer_id=payer, payee_id=creator, request_id=new_id(), currency="EUR", amount_minor=1_000, refunded_minor=total,
            fee_refunded_minor=total // 5,
        )))

    def waiting() -> int:
        return by_hand(servers)["refunds"]["waiting"] - before

    before = by_hand(servers)["refunds"]["waiting"]
    told("part", 300, NOW - 9 * hour)
    told("part", 500, NOW - 8 * hour)
    told("whole", 1_000, NOW - TOLD_FOR - hour)
    told("old", 1_000, NOW - TOLD_FOR - 2 * hour)
    told("old", 0, NOW - TOLD_FOR - hour)
    assert waiting() == 0
    told("part", 300, NOW - 5 * hour)
    told("whole", 0, NOW - 4 * hour)
    assert waiting() == 2
    assert by_hand(servers)["refunds"]["oldest_s"] >= (5 * hour).total_seconds()
    told("part", 500, NOW - 3 * hour)
    assert waiting() == 1
    told("whole", 1_000, NOW - 2 * hour)
    assert waiting() == 0
