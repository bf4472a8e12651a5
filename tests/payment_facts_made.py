"""Facts about one payment, as a provider may report them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from configs.contracts.ids import new_id
from configs.contracts.payment_facts import (
    DisputeClosed,
    DisputeOpened,
    InvoicePaid,
    PaymentFact,
    PaymentSucceeded,
    Refunded,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def _step(kind: str, amount: int, second: int, payer: str, payee: str, currency: str) -> PaymentFact:
    money: dict[str, Any] = {
        "provider": "stripe", "livemode": False, "event_id": new_id(), "as_of": START + timedelta(seconds=second),
        "payment_id": "pi_1", "payer_id": payer, "payee_id": payee, "request_id": "r", "currency": currency,
    }
    paid: dict[str, Any] = {"amount_minor": 1_999, "fee_minor": 399}
    match kind:
        case "invoice":
            return InvoicePaid(
                object_id="in_1", reason="first", tier_id="t", period_start=START, period_end=START,
                processor_fee_minor=amount % 90 or None, **paid, **money,
            )
        case "paid":
            return PaymentSucceeded(object_id="pi_1", processor_fee_minor=amount % 90 or None, **paid, **money)
        case "refund":
            return Refunded(object_id="ch_1", amount_minor=1_999, refunded_minor=amount, fee_refunded_minor=amount // 5, **money)
        case "sent back":
            return Refunded(object_id="ch_1", amount_minor=1_999, refunded_minor=0, fee_refunded_minor=0, **money)
        case "opened":
            return DisputeOpened(object_id=f"dp_{amount % 2}", amount_minor=amount, reason="fraudulent", fee_minor=1_500, **money)
        case _:
            return DisputeClosed(object_id=f"dp_{amount % 2}", amount_minor=amount, won=amount % 3 == 0, **money)


STEPS = st.lists(st.tuples(
    st.sampled_from(["invoice", "paid", "refund", "sent back", "opened", "closed"]), st.integers(1, 1_999), st.integers(0, 3)
), max_size=8)


def facts_of(steps: list[tuple[str, int, int]], payer: str, payee: str, currency: str = "EUR") -> list[PaymentFact]:
    return [_step(*step, payer, payee, currency) for step in steps]
