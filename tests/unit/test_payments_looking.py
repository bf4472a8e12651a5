"""What is made of Stripe's objects where the sandbox has none of their kind: money that Stripe keeps in another currency."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.connections.payments.stripe_looking import Looking
from configs.contracts.payment_facts import DisputeOpened, InvoicePaid, PaymentSucceeded

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OURS = {"requestId": "r", "payerId": "p", "payeeId": "c", "subscriberId": "p", "creatorId": "c", "tierId": "t"}


class Account:
    """Stripe with one payment in euros of a platform that is paid out in ``settles``, its bill and its dispute."""

    def __init__(self, settles: str) -> None:
        took = {"object": "balance_transaction", "fee": 31, "currency": settles}
        self.payment = {
            "id": "pi_1", "object": "payment_intent", "status": "succeeded", "currency": "eur", "amount": 1_000,
            "application_fee_amount": 200, "metadata": OURS, "latest_charge": {"id": "ch_1", "balance_transaction": took},
        }
        self.invoice = {
            "id": "in_1", "object": "invoice", "status": "paid", "currency": "eur", "amount_paid": 1_000,
            "billing_reason": "subscription_create",
            "parent": {"subscription_details": {"metadata": OURS, "subscription": "sub_1"}},
            "payments": {"data": [{"status": "paid", "payment": {"payment_intent": "pi_1"}}]},
            "lines": {"data": [{"amount": 1_000, "period": {"start": 0, "end": 1}, "pricing": {"price_details": {"price": "price_1"}}}]},
        }
        self.dispute = {
            "id": "du_1", "object": "dispute", "status": "needs_response", "currency": "eur", "amount": 1_000, "reason": "fraudulent",
            "payment_intent": "pi_1", "balance_transactions": [took | {"fee": 1_500}],
        }
        self.price = {"id": "price_1", "metadata": {"tierId": "t"}}
        kinds = {"payment_intents": self.payment, "invoices": self.invoice, "disputes": self.dispute, "prices": self.price}
        self.v1 = SimpleNamespace(**{name: SimpleNamespace(retrieve_async=answering(found)) for name, found in kinds.items()})

    async def __call__(self, call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        return await call | {"_read_at": NOW}


def answering(found: dict[str, Any]) -> Any:
    async def retrieve(object_id: str, params: Any = None) -> dict[str, Any]:
        return found

    return retrieve


@pytest.mark.parametrize(("settles", "fee", "of_dispute"), [("eur", 31, 1_500), ("usd", None, 0)])
async def test_a_fee_is_told_in_the_currency_of_the_payment_or_not_at_all(
    settles: str, fee: int | None, of_dispute: int
) -> None:
    """The ledger books it in that currency: 31 cents of another one would be 31 yen, or 31 pence."""
    account: Any = Account(settles)
    looking = Looking(account, account, provider="stripe", livemode=False)
    [paid] = await looking.facts("pi_1")
    [bill] = await looking.facts("in_1")
    [opened] = await looking.facts("du_1")
    assert isinstance(paid, PaymentSucceeded)
    assert isinstance(bill, InvoicePaid)
    assert isinstance(opened, DisputeOpened)
    assert (paid.currency, paid.amount_minor, paid.fee_minor, paid.processor_fee_minor) == ("EUR", 1_000, 200, fee)
    assert (bill.fee_minor, bill.processor_fee_minor) == (200, fee)
    assert (opened.amount_minor, opened.fee_minor) == (1_000, of_dispute)


async def test_a_bill_has_the_payment_that_paid_it_whatever_else_is_open_or_was_given_up() -> None:
    account: Any = Account("eur")
    looking = Looking(account, account, provider="stripe", livemode=False)
    (paid,) = account.invoice["payments"]["data"]
    for status in ("open", "canceled"):
        account.invoice["payments"]["data"] = [{"status": status, "payment": {"payment_intent": "pi_0"}}, paid]
        [bill] = await looking.facts("in_1")
        assert isinstance(bill, InvoicePaid)
        assert bill.payment_id == "pi_1"
