"""The route by which staff gives money back: durable first, then the processor, under an id that a repetition makes again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated, Final, Literal

from fastapi import APIRouter
from pydantic import Field

from actors.payments.commands import (
    AnswerRefund,
    Find,
    IdempotencyConflict,
    NotRefundable,
    PaymentStands,
    RequestRefund,
    Unknown,
)
from configs.contracts.ids import derived_id
from configs.contracts.money import format_amount, parse_amount
from configs.contracts.payment_facts import AnyFact
from configs.contracts.payments import Refund
from configs.contracts.purchases import Payment, SingleFact
from configs.contracts.selling import bought
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer, Body, Text, Time, UserIdText, body_digest
from serve_apps.identity import Deps, Moderator, Staff
from serve_apps.moderation.viewing import STAFF
from serve_apps.problems import WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.subscriptions.checkout import WRONG
from serve_apps.subscriptions.models import Amount, MoneyKey

router = APIRouter(prefix="/payments", tags=["payments"])
CODES: Final = (
    *STAFF, *WITH_BODY, "idempotency_conflict", "not_found", "not_refundable", "amount_invalid", "payments_off", "payment_refused",
)


RefundStatus = Literal["pending", "made", "refused"]


class RefundBody(Body):
    """A payer's tip or purchase; without ``amount`` all that is left of it, in the payment's currency."""

    payer_id: UserIdText
    payment_id: UserIdText
    amount: Amount | None = None
    reason: Annotated[Text, Field(min_length=1, max_length=500)]


class RefundView(Answer):
    """``pending``: durable, the processor has not answered; it is asked until it does."""

    id: str
    payment_id: str
    status: RefundStatus
    amount: str
    currency: str
    left: str
    """What may still be given back of the payment."""
    livemode: bool
    created_at: Time


@router.post("/refunds", operation_id="refundPayment", status_code=201, response_model=RefundView, responses=errors(*CODES))
async def refund(body: RefundBody, staff: Moderator, dependencies: Deps, idempotency_key: MoneyKey) -> RefundView:
    """Gives a payment back, to whoever paid it; creator and platform return their shares in proportion.

    Never more than was paid, of all refunds together. What it bought closes when the processor says that all of it went
    back. A key names one refund of a payment for good; who paid or was paid cannot decide it.
    """
    return await to_the_end(_refunded(dependencies, staff, body, idempotency_key))


async def _refunded(dependencies: Dependencies, staff: Staff, body: RefundBody, key: str) -> RefundView:
    found = await dependencies.payments.find(Find(payer_id=body.payer_id, payment_id=body.payment_id))
    if not isinstance(found, PaymentStands):
        raise Refused("not_found")
    asked = found.payment.asked
    if staff.person_id in (asked.payer_id, asked.payee_id):
        raise Refused("forbidden")
    amount = None if body.amount is None else parse_amount(body.amount, asked.currency)
    if body.amount is not None and not amount:
        raise Refused("amount_invalid", field="amount")
    refund_id = derived_id(asked.payment_id, f"refund {staff.name} {key}")
    answer = await dependencies.payments.refund(RequestRefund(
        payer_id=asked.payer_id, payment_id=asked.payment_id, refund_id=refund_id,
        body_digest=body_digest(dependencies.seals.key, body.model_dump_json()), amount_minor=amount, reason=body.reason,
        requested_by=staff.name,
    ))
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, NotRefundable):
        raise Refused("not_refundable", left=format_amount(answer.left_minor, asked.currency))
    if isinstance(answer, Unknown):
        raise Refused("not_found")
    return _view(await _made(dependencies, answer.payment, refund_id), refund_id)


async def asked_of_processor(dependencies: Dependencies, name: str, refund: Refund) -> tuple[bool, Sequence[AnyFact]]:
    """(whether the processor gives it back, what its answer proves). Raises Refused: it is off here. ProviderUnavailable."""
    if name not in dependencies.providers.names:
        raise Refused("payments_off")
    provider = await dependencies.providers.named(name)
    try:
        started = await provider.refund(refund)
    except WRONG:
        return False, ()
    return started.status != "failed", started.facts


async def _made(dependencies: Dependencies, payment: Payment, refund_id: str) -> Payment:
    """The payment once the processor has been asked. Raises ProviderUnavailable: it is asked again, whoever comes back."""
    refund, paid = payment.refund(refund_id), payment.succeeded
    assert refund is not None
    assert paid is not None
    if refund.made is False:
        raise Refused("payment_refused")
    if refund.made:
        return payment
    made, facts = await asked_of_processor(
        dependencies, paid.provider, Refund(request_id=refund_id, payment_id=paid.payment_id, amount_minor=refund.amount_minor)
    )
    answer = await dependencies.payments.tell(AnswerRefund(
        payer_id=payment.asked.payer_id, payment_id=payment.asked.payment_id, refund_id=refund_id, made=made,
        post_id=payment.asked.post_id, facts=tuple(fact for fact in facts if isinstance(fact, SingleFact)),
    ))
    if not made:
        raise Refused("payment_refused")
    if not isinstance(answer, PaymentStands):
        return payment
    if answer.payment.asked.post_id is not None:
        await dependencies.write_through.apply(bought(answer.held))
    return answer.payment


def _view(payment: Payment, refund_id: str) -> RefundView:
    refund, paid, currency = payment.refund(refund_id), payment.succeeded, payment.asked.currency
    assert refund is not None
    assert paid is not None
    return RefundView(
        id=refund_id, payment_id=payment.asked.payment_id, status="pending" if refund.made is None else "made",
        amount=format_amount(refund.amount_minor, currency), currency=currency,
        left=format_amount(payment.refundable_minor, currency), livemode=paid.livemode,
        created_at=refund.asked_at.astimezone(UTC),
    )
