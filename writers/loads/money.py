"""Rows of the ledger -> pages of a person's transactions, and balances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from configs.contracts.read_model import Operation
from configs.contracts.statements import (
    SHOWN,
    BalanceEntry,
    MoneyPage,
    MoneyPlace,
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
       (SELECT coalesce(sum(payouts.amount_minor), 0)::bigint FROM payouts
        WHERE creator_id = %(user)s AND payouts.currency = ledger_entries.currency
          AND payouts.livemode = ledger_entries.livemode AND status IN ('pending', 'in_transit'))
FROM ledger_entries
WHERE party_id = %(user)s AND account IN ('creator', 'disputed', 'paid_out')
GROUP BY currency, livemode ORDER BY currency, livemode
"""


def money_operations(conn: Connection, pages: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the pages, the operations that cache them); whoever has no money has an empty page."""
    return list(pages), [put_page(place, _page(conn, place)) for place in map(read_place, pages)]


def _page(conn: Connection, place: MoneyPlace) -> MoneyPage:
    transactions = conn.execute(TRANSACTIONS, {
        "user": UUID(place.user_id), "before": place.before, "before_id": UUID(place.before_id) if place.before_id else None,
        "most": SHOWN + 1,
    }).fetchall()
    balances = [] if place.before is not None else conn.execute(BALANCES, {"user": UUID(place.user_id)}).fetchall()
    return MoneyPage(
        tuple(TransactionEntry(*row) for row in transactions), tuple(BalanceEntry(*row) for row in balances)
    )
