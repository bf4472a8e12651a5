"""What the read model holds of a person's money: pages that the loader writes for a request, and nobody else.

``money:{u}:…`` (cache) the transactions of one page with the balances as rows have them. Balances are sums of the
ledger's entries at that moment; nothing is ever added to a balance.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from configs.contracts.ledger import Kind
from configs.contracts.read_model import Operation

PAGE_TTL_S: Final = 60
"""A page is written anew for each request; this only lets it go afterwards."""
SHOWN: Final = 100
"""Transactions of a page."""
LINES: Final = 10_000
"""Lines of a month's statement; a month with more is read as pages of transactions."""


class MoneyPlace(msgspec.Struct, frozen=True, array_like=True):
    """Whose page, and the last transaction of the one before; or (``month``, as 2026-11, of UTC) whose statement."""

    user_id: str
    before: datetime | None = None
    before_id: str = ""
    month: str = ""


class TransactionEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One transaction as one of its two people sees it. ``net_minor``: what the creator's balance gained by it."""

    transaction_id: str
    owner_id: str
    payee_id: str
    kind: Kind
    livemode: bool
    amount_minor: int
    net_minor: int
    currency: str
    occurred_at: datetime


class BalanceEntry(msgspec.Struct, frozen=True, rename="camel"):
    """A creator's sums in one currency at one processor: settled and unsettled are of the account creator."""

    currency: str
    livemode: bool
    settled_minor: int
    unsettled_minor: int
    disputed_minor: int
    paid_out_minor: int
    in_transit_minor: int = 0
    """Of payouts that were asked for and are not booked yet."""
    provider: str = ""


class Movement(msgspec.Struct, frozen=True, rename="camel"):
    """What one side of a month's transactions of one kind adds up to: gained is above zero."""

    currency: str
    livemode: bool
    side: Literal["payer", "creator"]
    kind: Kind
    count: int
    amount_minor: int


class StatementLine(msgspec.Struct, frozen=True, rename="camel"):
    """One transaction of a month, as one side of it: gained is above zero."""

    transaction_id: str
    occurred_at: datetime
    kind: Kind
    side: Literal["payer", "creator"]
    other_id: str | None
    amount_minor: int
    currency: str
    livemode: bool


class Statement(msgspec.Struct, frozen=True, rename="camel"):
    """One month. ``openings``: (currency, livemode, the creator's account before the month); ``lines`` at most one more than LINES."""

    openings: tuple[tuple[str, bool, int], ...]
    movements: tuple[Movement, ...]
    lines: tuple[StatementLine, ...]


class MoneyPage(msgspec.Struct, frozen=True, rename="camel"):
    """The newest transactions before a place, one more than are shown where there are more."""

    transactions: tuple[TransactionEntry, ...] = ()
    balances: tuple[BalanceEntry, ...] = ()
    """On the first page only."""
    statement: Statement | None = None


_PLACES: Final = msgspec.json.Decoder(MoneyPlace)
_PAGES: Final = msgspec.json.Decoder(MoneyPage)


def page_name(place: MoneyPlace) -> str:
    """Names a page to the loader."""
    return msgspec.json.encode(place).decode()


def read_place(name: str | bytes) -> MoneyPlace:
    return _PLACES.decode(name)


def page_key(place: MoneyPlace) -> str:
    return f"money:{{{place.user_id}}}:{place.month or place.before_id}"


def put_page(place: MoneyPlace, page: MoneyPage) -> Operation:
    return Operation("cache", (page_key(place),), (msgspec.json.encode(page), PAGE_TTL_S))


def read_money(value: bytes) -> MoneyPage:
    return _PAGES.decode(value)
