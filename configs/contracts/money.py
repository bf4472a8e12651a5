"""Money: whole minor units of a currency inside, decimal text outside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

EXPONENTS: Final[Mapping[str, int]] = {
    **dict.fromkeys((
        "AUD", "BRL", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "HKD", "MXN", "NOK", "NZD", "PLN", "RON", "SEK", "SGD", "USD",
    ), 2),
    **dict.fromkeys(("CLP", "JPY", "KRW", "PYG", "VND", "XAF", "XOF", "XPF"), 0),
}
"""Currencies that prices may have -> digits after the point (ISO 4217)."""
_AMOUNT: Final = re.compile(r"(?P<whole>0|[1-9][0-9]{0,11})(?:\.(?P<part>[0-9]{1,2}))?")


def parse_amount(text: str, currency: str) -> int | None:
    """The amount in minor units; None: not a plain decimal number, or finer than the currency's smallest unit."""
    found = _AMOUNT.fullmatch(text)
    exponent = EXPONENTS.get(currency)
    if found is None or exponent is None:
        return None
    part = found["part"] or ""
    if len(part) > exponent:
        return None
    return int(found["whole"] + part.ljust(exponent, "0"))


def format_amount(minor: int, currency: str) -> str:
    """The amount as a decimal number with all of the currency's digits."""
    exponent = EXPONENTS[currency]
    if not exponent:
        return str(minor)
    whole, part = divmod(abs(minor), 10**exponent)
    return f"{'-' if minor < 0 else ''}{whole}.{part:0{exponent}d}"


def share_of(share: int, part: int, whole: int) -> int:
    """What of a share of ``whole`` belongs to ``part`` of it, floored to the minor unit."""
    return share * part // whole


def refundable(paid: int, *, back: int | None, made: int, asked: int) -> int:
    """What may still be given back of a payment: all that was paid but what went back, or is on its way.

    ``back``: the processor's total so far; None: it told none. ``made``: what it made of the refunds that were asked for,
    ``asked``: those that it has not answered. A total below what it made says that a bank sent some of it back: that may be
    given again.
    """
    stands = made if back is None else min(made, back)
    return max(0, paid - max(back or 0, stands + asked))
