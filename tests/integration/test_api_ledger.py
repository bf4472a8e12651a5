"""What people paid and earned, through the API, as the ledger's rows have it."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import pytest_asyncio
from api_world import Person, World
from payment_facts_made import facts_of

from cluster.connections.reading import Warming
from configs.contracts.events import Event, PaymentObserved
from configs.contracts.payment_facts import PaymentFact, PayoutPaid
from configs.settings import Settings
from writers.commit import write_facts
from writers.connections import open_rows
from writers.loader import Loader
from writers.records import Fact

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def paid_world(world: World, servers: Settings) -> AsyncIterator[World]:
    """The API with a loader that reads rows."""
    loader = Loader(servers)
    known = world.dependencies.warm_money
    object.__setattr__(world.dependencies, "warm_money", Warming(loader.warm_money))
    yield world
    await world.dependencies.warm_money.close()
    object.__setattr__(world.dependencies, "warm_money", known)
    await loader.close()


def store(servers: Settings, owner: Person, facts: list[PaymentFact]) -> None:
    with open_rows(servers, "ledger-test") as conn, conn.transaction(), conn.cursor() as cur:
        write_facts(cur, [
            Fact(Event(fact.event_id, fact.as_of, owner.user_id, PaymentObserved(owner_id=owner.user_id, fact=fact)), 1 << 40 | at, 0)
            for at, fact in enumerate(facts, 1)
        ])


async def test_both_sides_see_a_payment_and_the_creator_what_is_left_of_it(paid_world: World, servers: Settings) -> None:
    payer, creator, stranger = [await paid_world.register() for _ in range(3)]
    store(servers, payer, facts_of([("paid", 90, 0), ("refund", 1_000, 1), ("opened", 500, 2)], payer.user_id, creator.user_id))
    store(servers, creator, [PayoutPaid(
        provider="stripe", livemode=False, event_id=payer.user_id, object_id="po_1", as_of=datetime(2026, 2, 1, tzinfo=UTC),
        account_id="acct_1", creator_id=creator.user_id, amount_minor=600, currency="EUR", arrives_at=datetime(2026, 2, 2, tzinfo=UTC),
    )])
    paid = (await payer.ok("GET", "/payments/transactions"))["transactions"]
    assert [(item["kind"], item["side"], item["amount"], item["netAmount"]) for item in paid] == [
        ("dispute_opened", "payer", "5.00", None), ("refund", "payer", "10.00", None), ("charge", "payer", "19.99", None),
    ]
    assert {(item["otherId"], item["livemode"], item["currency"]) for item in paid} == {(creator.user_id, False, "EUR")}
    earned = (await creator.ok("GET", "/payments/transactions"))["transactions"]
    assert [(item["kind"], item["amount"], item["netAmount"], item["otherId"]) for item in earned] == [
        ("payout", "6.00", "-6.00", None), ("dispute_opened", "5.00", "-4.01", payer.user_id),
        ("refund", "10.00", "-8.00", payer.user_id), ("charge", "19.99", "16.00", payer.user_id),
    ]
    assert (await creator.ok("GET", "/payments/balance"))["balances"] == [{
        "currency": "EUR", "livemode": False, "pending": "0.00", "available": "0.00", "elsewhere": "0.00", "owed": "2.01", "disputed": "5.00",
        "paidOut": "6.00", "inTransit": "0.00",
    }]
    for person in (payer, stranger):
        assert (await person.ok("GET", "/payments/balance"))["balances"] == []
    assert await stranger.ok("GET", "/payments/transactions") == {"transactions": [], "nextCursor": None}


async def test_a_months_statement_adds_up_and_its_lines_are_the_same_money(paid_world: World, servers: Settings) -> None:
    payer, creator, stranger = [await paid_world.register() for _ in range(3)]
    second_of_february = 32 * 86_400
    store(servers, payer, facts_of([
        ("paid", 90, 0), ("refund", 500, 1), ("refund", 1_000, second_of_february), ("opened", 500, second_of_february),
    ], payer.user_id, creator.user_id))
    store(servers, creator, [PayoutPaid(
        provider="stripe", livemode=False, event_id=payer.user_id, object_id="po_2", as_of=datetime(2026, 2, 3, tzinfo=UTC),
        account_id="acct_1", creator_id=creator.user_id, amount_minor=600, currency="EUR", arrives_at=datetime(2026, 2, 2, tzinfo=UTC),
    )])

    async def months(person: Person) -> list[tuple[str, str, dict[tuple[str, str], str]]]:
        found = []
        for month in ("2025-12", "2026-01", "2026-02"):
            for section in (await person.ok("GET", f"/payments/statements/{month}"))["sections"]:
                assert (section["currency"], section["livemode"]) == ("EUR", False)
                moved = {(item["side"], item["kind"]): item["amount"] for item in section["movements"]}
                found.append((section["opening"], section["closing"], moved))
                lines = (await person.ask("GET", f"/payments/statements/{month}", params={"format": "csv"})).text.splitlines()
                sums: dict[tuple[str, str], Decimal] = {}
                for line in csv.DictReader(lines):
                    place = (line["side"], line["kind"])
                    sums[place] = sums.get(place, Decimal(0)) + Decimal(line["amount"])
                assert {place: f"{amount:.2f}" for place, amount in sums.items()} == moved
        return found

    assert await months(creator) == [
        ("0.00", "12.00", {("creator", "charge"): "16.00", ("creator", "refund"): "-4.00"}),
        ("12.00", "-2.01", {("creator", "refund"): "-4.00", ("creator", "dispute_opened"): "-4.01", ("creator", "payout"): "-6.00"}),
    ]
    assert (await creator.ok("GET", "/payments/balance"))["balances"][0]["owed"] == "2.01", "the ledger's sum"
    assert await months(payer) == [
        ("0.00", "0.00", {("payer", "charge"): "-19.99", ("payer", "refund"): "5.00"}),
        ("0.00", "0.00", {("payer", "refund"): "5.00"}),
    ]
    assert await months(stranger) == []
    for wrong in ("2026-13", "26-01", "2026-1", "x"):
        assert (await creator.ask("GET", f"/payments/statements/{wrong}")).status_code == 422


async def test_pages_go_on_where_the_last_one_ended_and_for_their_owner_only(paid_world: World, servers: Settings) -> None:
    payer, creator = [await paid_world.register() for _ in range(2)]
    store(servers, payer, facts_of([("paid", 90, 0), ("refund", 1_000, 1), ("opened", 500, 1)], payer.user_id, creator.user_id))
    whole = (await payer.ok("GET", "/payments/transactions"))["transactions"]
    found, cursor = [], None
    for _ in range(3):
        page = await payer.ok("GET", "/payments/transactions", params={"limit": 1} | ({"cursor": cursor} if cursor else {}))
        found += page["transactions"]
        cursor = page["nextCursor"] or cursor
    assert (found, page["nextCursor"]) == (whole, None)
    for wrong, person in ((cursor, creator), ("AAAA", payer)):
        answer = await person.ask("GET", "/payments/transactions", params={"cursor": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")
