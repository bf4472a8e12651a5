"""Amounts go in and out without loss, and what a currency cannot express is refused, never rounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.contracts.money import EXPONENTS, format_amount, parse_amount, share_of


@given(st.integers(0, 10**13 - 1), st.sampled_from(sorted(EXPONENTS)))
def test_an_amount_survives_its_text(minor: int, currency: str) -> None:
    if minor < 10 ** (12 + EXPONENTS[currency]):
        assert parse_amount(format_amount(minor, currency), currency) == minor


@pytest.mark.parametrize(("text", "currency", "minor"), [
    ("9.99", "USD", 999), ("9.9", "USD", 990), ("9", "USD", 900), ("0", "EUR", 0), ("500", "JPY", 500),
])
def test_amounts_are_counted_in_the_smallest_unit(text: str, currency: str, minor: int) -> None:
    assert parse_amount(text, currency) == minor


@pytest.mark.parametrize(("text", "currency"), [
    ("9.999", "USD"), ("1.5", "JPY"), ("-1", "USD"), ("+1", "USD"), ("1e3", "USD"), ("", "USD"), (" 1", "USD"), ("1 ", "USD"),
    ("01", "USD"), (".5", "USD"), ("1.", "USD"), ("1,00", "USD"), ("NaN", "USD"), ("\u0661", "USD"), ("1\n", "USD"),
    ("1000000000000", "USD"), ("1.00", "XXX"), ("1.00", "usd"),
])
def test_whatever_is_not_a_plain_amount_is_refused(text: str, currency: str) -> None:
    assert parse_amount(text, currency) is None


def test_a_negative_balance_keeps_its_sign() -> None:
    assert format_amount(-5, "USD") == "-0.05"


@given(st.integers(1, 10**12), st.data())
def test_a_part_of_a_share_is_floored_and_never_more_than_the_share(whole: int, data: st.DataObject) -> None:
    share, part = data.draw(st.integers(0, whole)), data.draw(st.integers(0, whole))
    taken = share_of(share, part, whole)
    assert 0 <= taken * whole <= share * part < (taken + 1) * whole
    assert share_of(share, whole, whole) == share
