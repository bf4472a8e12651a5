"""Every transaction sums to zero, and what is booked depends on what happened, not on how often or when it was told."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from payment_facts_made import START, STEPS, facts_of

from configs.contracts.ledger import Transaction, balance_of, transactions_of
from configs.contracts.payment_facts import PaymentFact, PayoutFailed, PayoutPaid

PAYER, PAYEE = "01a00000-0000-7000-8000-000000000001", "01a00000-0000-7000-8000-000000000002"


def accounts(made: list[Transaction]) -> Counter[str]:
    total: Counter[str] = Counter()
    for item in made:
        for entry in item.entries:
            total[entry.account] += entry.amount_minor
    return Counter({account: amount for account, amount in total.items() if amount})


def told(*steps: tuple[str, int, int], currency: str = "EUR") -> list[Transaction]:
    return transactions_of(facts_of(list(steps), PAYER, PAYEE, currency))


@given(STEPS, st.data())
def test_any_order_with_repetitions_books_the_same_and_all_of_it_sums_to_zero(
    steps: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    facts = facts_of(steps, PAYER, PAYEE)
    made = transactions_of(facts)
    for item in made:
        assert sum(entry.amount_minor for entry in item.entries) == 0
        assert len({entry.account for entry in item.entries}) == len(item.entries)
    assert len({item.transaction_id for item in made}) == len(made)
    again = data.draw(st.permutations(facts + facts[: len(facts) // 2]))
    assert transactions_of(again) == made


@given(STEPS)
def test_the_platform_never_gives_back_more_of_its_fee_than_it_took_by_refund_and_one_dispute(
    steps: list[tuple[str, int, int]]
) -> None:
    one = [step for step in steps if step[0] in ("paid", "refund") or step[1] % 2]
    made = transactions_of(facts_of(one, PAYER, PAYEE))
    assert accounts(made)["platform_fee"] >= 0


def test_a_payment_is_split_and_the_processors_fee_is_the_platforms() -> None:
    (charge,) = told(("paid", 45, 0))
    assert accounts([charge]) == {
        "customer_funds": -1_999, "platform_fee": 399, "creator": 1_600, "processor_fees": -45, "processor": 45,
    }
    assert {entry.available_at for entry in charge.entries if entry.account == "creator"} == {START + timedelta(days=7)}


def test_a_currency_without_fractions_is_booked_in_its_own_units() -> None:
    (charge,) = told(("paid", 90, 0), currency="JPY")
    assert (charge.amount_minor, charge.currency) == (1_999, "JPY")


def test_the_latest_total_of_refunds_counts_and_a_whole_refund_leaves_nothing() -> None:
    assert accounts(told(("paid", 90, 0), ("refund", 1_000, 1), ("refund", 500, 1))) == {
        "customer_funds": -999, "platform_fee": 199, "creator": 800,
    }
    assert accounts(told(("paid", 90, 0), ("refund", 1_999, 2))) == {}


def test_each_refund_is_booked_when_it_was_told_and_a_later_one_changes_nothing_before_it() -> None:
    first = told(("paid", 90, 0), ("refund", 500, 1))
    both = told(("refund", 1_999, 3), ("paid", 90, 2), ("refund", 500, 2), ("refund", 500, 1), ("paid", 90, 0))
    assert [(item.kind, item.amount_minor, (item.occurred_at - START).seconds) for item in both] == [
        ("charge", 1_999, 0), ("refund", 500, 1), ("refund", 1_499, 3),
    ]
    assert {item.transaction_id for item in first} < {item.transaction_id for item in both}
    assert [item.occurred_at for item in first] == [item.occurred_at for item in both[:2]]
    sent_back = told(("paid", 90, 0), ("refund", 1_500, 1), ("refund", 500, 2))
    assert accounts(sent_back)["customer_funds"] == 500 - 1_999


def test_a_refund_that_a_bank_sent_back_is_not_booked_until_it_is_made_again() -> None:
    back = told(("paid", 90, 0), ("refund", 1_999, 1), ("refund", 0, 2))
    assert [item.kind for item in back] == ["charge"]
    again = told(("refund", 1_999, 3), ("refund", 0, 2), ("refund", 1_999, 1), ("paid", 90, 0))
    assert [(item.kind, item.amount_minor, (item.occurred_at - START).seconds) for item in again] == [
        ("charge", 1_999, 0), ("refund", 1_999, 3),
    ]
    assert accounts(again) == {}


def test_nothing_is_given_back_of_a_payment_that_is_not_known() -> None:
    assert told(("refund", 500, 1), ("opened", 500, 1)) == []


def test_a_dispute_freezes_both_shares_until_the_bank_decides() -> None:
    opened = told(("paid", 90, 0), ("opened", 999, 1))
    assert accounts(opened) == {
        "customer_funds": -1_999, "platform_fee": 399 - 199, "creator": 1_600 - 800, "disputed": 999,
        "processor_fees": -1_500, "processor": 1_500,
    }
    won = told(("paid", 90, 0), ("opened", 999, 1), ("closed", 999, 2))
    assert accounts(won) == {
        "customer_funds": -1_999, "platform_fee": 399, "creator": 1_600, "processor_fees": -1_500, "processor": 1_500,
    }
    lost = told(("paid", 90, 0), ("opened", 997, 1), ("closed", 997, 2))
    assert accounts(lost)["disputed"] == 0
    assert accounts(lost)["customer_funds"] == 997 - 1_999


def test_a_dispute_in_another_currency_freezes_the_charge_and_adds_no_amount_of_its_own() -> None:
    paid, opened, closed = facts_of([("paid", 90, 0), ("opened", 3, 1), ("closed", 3, 2)], PAYER, PAYEE)
    foreign = [msgspec.structs.replace(fact, currency="JPY") for fact in (opened, closed)]  # type: ignore[call-arg]
    made = transactions_of([paid, foreign[0]])
    assert {item.currency for item in made} == {"EUR"}
    assert accounts(made) == {"customer_funds": -1_999, "disputed": 1_999}
    assert accounts(transactions_of([paid, *foreign])) == accounts(told(("paid", 90, 0))), "won"


def test_a_payout_that_came_back_is_the_creators_again() -> None:
    of = {
        "provider": "stripe", "livemode": False, "object_id": "po_1", "as_of": START, "account_id": "acct_1",
        "creator_id": PAYEE, "amount_minor": 700, "currency": "EUR",
    }
    paid: list[PaymentFact] = [PayoutPaid(event_id="1", arrives_at=START, **of)]  # type: ignore[arg-type]
    failed: list[PaymentFact] = [PayoutFailed(event_id="2", code="no_account", **of)]  # type: ignore[arg-type]
    assert accounts(transactions_of(paid)) == {"creator": -700, "paid_out": 700}
    assert accounts(transactions_of(failed + paid)) == {}
    assert accounts(transactions_of(failed)) == {}


@given(st.integers(-500, 500), st.integers(-500, 500))
def test_a_balance_is_the_sum_of_its_parts(settled: int, unsettled: int) -> None:
    balance = balance_of(settled, unsettled, 0, 0)
    assert balance.pending_minor + balance.available_minor - balance.owed_minor == settled + unsettled
    assert min(balance.pending_minor, balance.available_minor, balance.owed_minor) >= 0
    assert balance.available_minor <= max(0, settled)
