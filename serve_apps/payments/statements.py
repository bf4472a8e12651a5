"""What one paid and earned: transactions and the creator's balance, as the ledger's rows have them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query, Response

from configs.contracts.changes import rfc3339
from configs.contracts.ledger import Balance, Kind, balance_of
from configs.contracts.money import format_amount
from configs.contracts.statements import (
    LINES,
    BalanceEntry,
    MoneyPage,
    MoneyPlace,
    Statement,
    TransactionEntry,
    page_key,
    page_name,
    read_money,
    read_place,
)
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer, Time
from serve_apps.identity import Deps, Person
from serve_apps.limits import Rate
from serve_apps.pages import DEFAULT_LIMIT, Cursor, Limit
from serve_apps.problems import SIGNED_IN, Refused, errors

router = APIRouter(prefix="/payments", tags=["payments"])
Form = Annotated[Literal["json", "csv"], Query(alias="format", description="csv: the month's transactions, a line each")]
USE: Final = b"money"
HOUR_S: Final = 3_600
Month = Annotated[str, Path(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="a month of UTC", examples=["2026-11"])]


class TransactionView(Answer):
    """Money that moved. ``amount`` is what the payer paid or got back, ``netAmount`` what the creator's balance gained."""

    transaction_id: str
    kind: Kind
    side: Literal["payer", "creator"]
    other_id: str | None
    """The other person; of payouts nobody."""
    amount: str
    net_amount: str | None
    """For the creator only."""
    currency: str
    occurred_at: Time
    livemode: bool


class Transactions(Answer):
    transactions: list[TransactionView]
    next_cursor: str | None = None


class BalanceView(Answer):
    """A creator's money in one currency. ``disputed`` is frozen, shares of the platform included; ``owed`` is lacking.

    ``available`` may be paid out; ``elsewhere`` could be too, but was earned at another payment processor than the present one.
    """

    currency: str
    livemode: bool
    pending: str
    available: str
    elsewhere: str
    owed: str
    disputed: str
    paid_out: str
    in_transit: str
    """On its way to the creator's bank: neither available any more nor paid out yet."""


class Balances(Answer):
    balances: list[BalanceView]


class MovementView(Answer):
    """What transactions of one kind add up to on one's own side: gained is above zero, what was paid below."""

    side: Literal["payer", "creator"]
    kind: Kind
    count: int
    amount: str


class StatementSection(Answer):
    """One currency. ``opening`` and ``closing`` are the creator's account, whatever of it is available: opening and the
    creator's movements add up to closing."""

    currency: str
    livemode: bool
    opening: str
    closing: str
    movements: list[MovementView]


class StatementView(Answer):
    """A month of UTC, as the ledger has it."""

    month: str
    sections: list[StatementSection]


@router.get(
    "/transactions", operation_id="listTransactions", response_model=Transactions, responses=errors(*SIGNED_IN, "cursor_invalid")
)
async def list_transactions(
    person: Person, dependencies: Deps, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Transactions:
    """One's payments and earnings, newest first. What the processor just reported shows within moments."""
    place = MoneyPlace(person.user_id) if cursor is None else _place(dependencies, person.user_id, cursor)
    found = (await _money(dependencies, place)).transactions
    following = None
    if len(found) > limit:
        last = found[limit - 1]
        after = MoneyPlace(person.user_id, last.occurred_at, last.transaction_id)
        following = dependencies.seals.seal(USE, page_name(after).encode())
    return Transactions(transactions=[_shown(person.user_id, item) for item in found[:limit]], next_cursor=following)


@router.get("/balance", operation_id="getBalance", response_model=Balances, responses=errors(*SIGNED_IN))
async def get_balance(person: Person, dependencies: Deps) -> Balances:
    """One's balance as a creator, a currency each; empty for whoever never earned."""
    entries = (await _money(dependencies, MoneyPlace(person.user_id))).balances
    kinds = dict.fromkeys((entry.currency, entry.livemode) for entry in entries)
    return Balances(balances=[
        _balance([entry for entry in entries if (entry.currency, entry.livemode) == kind], dependencies.providers.processor)
        for kind in kinds
    ])


def _balance(entries: Sequence[BalanceEntry], processor: str) -> BalanceView:
    """Of one currency, whatever processors its money lies at."""
    currency = entries[0].currency
    balance, in_all = _sums(entries)
    _, at_present = _sums([entry for entry in entries if entry.provider == processor])
    available = min(at_present, in_all)
    return BalanceView(
        currency=currency, livemode=entries[0].livemode, pending=format_amount(balance.pending_minor, currency),
        available=format_amount(available, currency), elsewhere=format_amount(in_all - available, currency),
        owed=format_amount(balance.owed_minor, currency), disputed=format_amount(balance.disputed_minor, currency),
        paid_out=format_amount(balance.paid_out_minor, currency),
        in_transit=format_amount(sum(entry.in_transit_minor for entry in entries), currency),
    )


def _sums(entries: Sequence[BalanceEntry]) -> tuple[Balance, int]:
    """(what entries add up to, what of it may still be paid out)."""
    balance = balance_of(
        sum(entry.settled_minor for entry in entries), sum(entry.unsettled_minor for entry in entries),
        sum(entry.disputed_minor for entry in entries), sum(entry.paid_out_minor for entry in entries),
    )
    return balance, max(0, balance.available_minor - sum(entry.in_transit_minor for entry in entries))


@router.get(
    "/statements/{month}", operation_id="getStatement", response_model=StatementView,
    responses=errors(*SIGNED_IN, "statement_too_long") | {
        200: {"description": "The statement; its lines as CSV where they are asked for.", "content": {"text/csv": {"schema": {"type": "string"}}}},
    },
)
async def get_statement(month: Month, person: Person, dependencies: Deps, form: Form = "json") -> StatementView | Response:
    """What one earned and paid in a month: sums of the ledger's entries, a currency each.

    As CSV the month's transactions, oldest first, at most 10,000; their sums are those of the statement.
    """
    found = await _statement(dependencies, person.user_id, month)
    return _lines(found, month) if form == "csv" else _sections(found, month)


def _sections(found: Statement, month: str) -> StatementView:
    openings = {(currency, livemode): amount for currency, livemode, amount in found.openings}
    sections = []
    for currency, livemode in sorted({*openings, *((item.currency, item.livemode) for item in found.movements)}):
        moved = [item for item in found.movements if (item.currency, item.livemode) == (currency, livemode)]
        opening = openings.get((currency, livemode), 0)
        closing = opening + sum(item.amount_minor for item in moved if item.side == "creator")
        sections.append(StatementSection(
            currency=currency, livemode=livemode, opening=format_amount(opening, currency), closing=format_amount(closing, currency),
            movements=[
                MovementView(side=item.side, kind=item.kind, count=item.count, amount=format_amount(item.amount_minor, currency))
                for item in moved
            ],
        ))
    return StatementView(month=month, sections=sections)


def _lines(found: Statement, month: str) -> Response:
    if len(found.lines) > LINES:
        raise Refused("statement_too_long")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(("transactionId", "occurredAt", "kind", "side", "otherId", "amount", "currency", "livemode"))
    for line in found.lines:
        writer.writerow((
            line.transaction_id, rfc3339(line.occurred_at), line.kind, line.side, line.other_id or "",
            format_amount(line.amount_minor, line.currency), line.currency, str(line.livemode).lower(),
        ))
    return Response(out.getvalue(), media_type="text/csv", headers={
        "Content-Disposition": f'attachment; filename="statement-{month}.csv"', "Cache-Control": "private, no-store",
    })


async def _statement(dependencies: Dependencies, user_id: str, month: str) -> Statement:
    limit = dependencies.settings.limits.statements_per_user_an_hour
    await dependencies.limits.take((Rate("statements", limit, HOUR_S), user_id))
    found = (await _money(dependencies, MoneyPlace(user_id, month=month))).statement
    if found is None:
        raise Refused("read_model_unknown")
    return found


async def _money(dependencies: Dependencies, place: MoneyPlace) -> MoneyPage:
    await dependencies.warm_money.ensure((page_name(place),))
    (value,) = await dependencies.reads.read(("GET", page_key(place)))
    if value is None:
        raise Refused("read_model_unknown")
    return read_money(value)


def _place(dependencies: Dependencies, user_id: str, cursor: str) -> MoneyPlace:
    opened = dependencies.seals.open(USE, cursor)
    place = None if opened is None else read_place(opened)
    if place is None or place.user_id != user_id:
        raise Refused("cursor_invalid")
    return place


def _shown(user_id: str, item: TransactionEntry) -> TransactionView:
    creator = item.payee_id == user_id
    other = item.owner_id if creator else item.payee_id
    return TransactionView(
        transaction_id=item.transaction_id, kind=item.kind, side="creator" if creator else "payer",
        other_id=None if other == user_id else other, amount=format_amount(item.amount_minor, item.currency),
        net_amount=format_amount(item.net_minor, item.currency) if creator else None, currency=item.currency,
        occurred_at=item.occurred_at, livemode=item.livemode,
    )
