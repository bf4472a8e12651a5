"""Rows of the ledger -> pages of a person's transactions, and balances."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from configs.contracts.read_model import Operation
from configs.contracts.statements import (
    LINES,
    SHOWN,
    BalanceEntry,
    MoneyPage,
    MoneyPlace,
    Movement,
    Statement,
    StatementLine,
    TransactionEntry,
    put_page,
    read_place,
)
from writers.connections import Connection

TRANSACTIONS: Final = """
SELECT shown.id::text, shown.owner_id::text, payee_id::text, kind, shown.livemode, shown.amount_minor,
       coalesce(ledger_entries.amount_minor, 0), shown.currency::text, occurred_at
FROM (
    (SELECT * FROM transactions
     WHERE owner_id = %(user)s
       AND (%(before)s::timestamptz IS NULL OR (occurred_at, id) < (%(before)s, %(before_id)s))
     ORDER BY occurred_at DESC, id DESC LIMIT %(most)s)
    UNION
    (SELECT * FROM transactions
     WHERE payee_id = %(user)s
       AND (%(before)s::timestamptz IS NULL OR (occurred_at, id) < (%(before)s, %(before_id)s))
     ORDER BY occurred_at DESC, id DESC LIMIT %(most)s)
) AS shown
LEFT JOIN ledger_entries ON ledger_entries.owner_id = shown.owner_id AND transaction_id = shown.id AND account = 'creator'
ORDER BY occurred_at DESC, shown.id DESC LIMIT %(most)s
"""
BALANCES: Final = """
SELECT currency::text, livemode,
       coalesce(sum(amount_minor) FILTER (WHERE account = 'creator' AND available_at <= now()), 0)::bigint,
       coalesce(sum(amount_minor) FILTER (WHERE account = 'creator' AND available_at > now()), 0)::bigint,
       coalesce(sum(amount_minor) FILTER (WHERE account = 'disputed'), 0)::bigint,
       coalesce(sum(amount_minor) FILTER (WHERE account = 'paid_out'), 0)::bigint,
       coalesce(sum(amount_minor) FILTER (WHERE account = 'asked for'), 0)::bigint,
       provider
FROM (
    SELECT provider, entries.currency, entries.livemode, account, entries.amount_minor, available_at
    FROM ledger_entries AS entries
    JOIN transactions ON transactions.owner_id = entries.owner_id AND transactions.id = transaction_id
    WHERE party_id = %(user)s AND account IN ('creator', 'disputed', 'paid_out')
    UNION ALL
    SELECT state -> 'asked' ->> 'provider', currency, livemode, 'asked for', amount_minor, NULL
    FROM payouts WHERE creator_id = %(user)s AND status IN ('pending', 'in_transit')
) AS sides
GROUP BY currency, livemode, provider ORDER BY currency, livemode, provider
"""


OPENINGS: Final = """
SELECT ledger_entries.currency::text, ledger_entries.livemode, sum(ledger_entries.amount_minor)::bigint
FROM ledger_entries JOIN transactions ON transactions.owner_id = ledger_entries.owner_id AND id = transaction_id
WHERE party_id = %(user)s AND account = 'creator' AND occurred_at < %(since)s
GROUP BY 1, 2 ORDER BY 1, 2
"""
OF_MONTH: Final = """
FROM ledger_entries JOIN transactions ON transactions.owner_id = ledger_entries.owner_id AND id = transaction_id
WHERE party_id = %(user)s AND account IN ('creator', 'customer_funds') AND occurred_at >= %(since)s AND occurred_at < %(until)s
"""
SIDE: Final = "CASE account WHEN 'creator' THEN 'creator' ELSE 'payer' END"
MOVEMENTS: Final = f"""
SELECT ledger_entries.currency::text, ledger_entries.livemode, {SIDE}, kind, count(*), sum(ledger_entries.amount_minor)::bigint
{OF_MONTH} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
OTHER: Final = "CASE account WHEN 'creator' THEN transactions.owner_id ELSE payee_id END"
LINES_OF: Final = f"""
SELECT id::text, occurred_at, kind, {SIDE}, nullif({OTHER}, %(user)s)::text,
       ledger_entries.amount_minor, ledger_entries.currency::text, ledger_entries.livemode
{OF_MONTH} ORDER BY occurred_at, id, account LIMIT %(most)s
"""


def money_operations(conn: Connection, pages: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the pages, the operations that cache them); whoever has no money has an empty page."""
    return list(pages), [put_page(place, _page(conn, place)) for place in map(read_place, pages)]


def _page(conn: Connection, place: MoneyPlace) -> MoneyPage:
    if place.month:
        return MoneyPage(statement=_statement(conn, place))
    transactions = conn.execute(TRANSACTIONS, {
        "user": UUID(place.user_id), "before": place.before, "before_id": UUID(place.before_id) if place.before_id else None,
        "most": SHOWN + 1,
    }).fetchall()
    balances = [] if place.before is not None else conn.execute(BALANCES, {"user": UUID(place.user_id)}).fetchall()
    return MoneyPage(
        tuple(TransactionEntry(*row) for row in transactions), tuple(BalanceEntry(*row) for row in balances)
    )


def _statement(conn: Connection, place: MoneyPlace) -> Statement:
    """A month, of one snapshot."""
    year, month = map(int, place.month.split("-"))
    wanted = {
        "user": UUID(place.user_id), "since": datetime(year, month, 1, tzinfo=UTC),
        "until": datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC), "most": LINES + 1,
    }
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        openings, movements, lines = (conn.execute(each, wanted).fetchall() for each in (OPENINGS, MOVEMENTS, LINES_OF))
    return Statement(
        tuple((currency, livemode, amount) for currency, livemode, amount in openings),
        tuple(Movement(*row) for row in movements), tuple(StatementLine(*row) for row in lines),
    )
