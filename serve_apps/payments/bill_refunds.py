"""The route by which staff gives a subscription's bill back: durable first, then the processor."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from actors.subscriptions.commands import (
    AnswerBillRefund,
    IdempotencyConflict,
    NotRefundable,
    Observe,
    RefundBill,
    SubscriptionStands,
)
from configs.contracts.ids import derived_id
from configs.contracts.money import format_amount, parse_amount
from configs.contracts.payment_facts import InvoicePaid, SubscriptionFact
from configs.contracts.payments import Refund
from configs.contracts.subscriptions import BillRefund, Subscription
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer, Body, Text, Time, UserIdText, body_digest
from serve_apps.identity import Deps, Moderator, Staff
from serve_apps.payments.refunds import CODES, RefundStatus, asked_of_processor
from serve_apps.problems import Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.subscriptions.checkout import shown
from serve_apps.subscriptions.models import Amount, MoneyKey

router = APIRouter(prefix="/payments", tags=["payments"])


class BillRefundBody(Body):
    """A subscription's paid bill. Without ``billId`` the newest one, without ``amount`` all that is left of it."""

    subscriber_id: UserIdText
    subscription_id: UserIdText
    bill_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$", description="as the processor calls it")] | None = None
    amount: Amount | None = None
    reason: Annotated[Text, Field(min_length=1, max_length=500)]


class BillRefundView(Answer):
    """``pending``: durable, the processor has not answered; it is asked until it does."""

    id: str
    subscription_id: str
    bill_id: str
    status: RefundStatus
    amount: str
    currency: str
    left: str
    """What may still be given back of the bill."""
    cancel_at_period_end: bool
    livemode: bool
    created_at: Time


@router.post(
    "/subscription-refunds", operation_id="refundBill", status_code=201, response_model=BillRefundView, responses=errors(*CODES)
)
async def refund_bill(body: BillRefundBody, staff: Moderator, dependencies: Deps, idempotency_key: MoneyKey) -> BillRefundView:
    """Gives a subscription's bill back, to whoever paid it; creator and platform return their shares in proportion.

    Never more than was paid, of all refunds of a bill together. What the bill opened closes when the processor says that
    all of it went back; who gets all of the newest bill back is charged no more, unless they resume. A key names one refund
    of a subscription for good; who paid or was paid cannot decide it.
    """
    return await to_the_end(_refunded(dependencies, staff, body, idempotency_key))


async def _refunded(dependencies: Dependencies, staff: Staff, body: BillRefundBody, key: str) -> BillRefundView:
    held = (await dependencies.subscriptions.observe(Observe(subscriber_id=body.subscriber_id, facts=()))).subscriber
    subscription = None if held is None else held.subscriptions.get(body.subscription_id)
    if subscription is None:
        raise Refused("not_found")
    if staff.person_id in (subscription.subscriber_id, subscription.creator_id):
        raise Refused("forbidden")
    amount = None if body.amount is None else parse_amount(body.amount, subscription.terms.currency)
    if body.amount is not None and not amount:
        raise Refused("amount_invalid", field="amount")
    refund_id = derived_id(subscription.subscription_id, f"refund {staff.name} {key}")
    answer = await dependencies.subscriptions.refund(RefundBill(
        subscriber_id=subscription.subscriber_id, subscription_id=subscription.subscription_id, refund_id=refund_id,
        body_digest=body_digest(dependencies.seals.key, body), bill_id=body.bill_id, amount_minor=amount, reason=body.reason,
        requested_by=staff.name,
    ))
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, NotRefundable):
        raise Refused("not_refundable", left=format_amount(answer.left_minor, answer.currency))
    if not isinstance(answer, SubscriptionStands):
        raise Refused("not_found")
    return _view(await _made(dependencies, answer, refund_id), refund_id)


async def _made(dependencies: Dependencies, asked: SubscriptionStands, refund_id: str) -> Subscription:
    """The subscription once the processor has been asked. Raises ProviderUnavailable: it is asked again, whoever comes back."""
    subscription = asked.subscription
    refund, bill = _named(subscription, refund_id)
    if refund.made is False:
        raise Refused("payment_refused")
    if refund.made:
        return subscription
    await shown(dependencies, asked.subscriber, subscription.subscription_id)
    made, facts = await asked_of_processor(
        dependencies, bill.provider, Refund(request_id=refund_id, payment_id=bill.payment_id, amount_minor=refund.amount_minor)
    )
    answer = await dependencies.subscriptions.refunded(AnswerBillRefund(
        subscriber_id=subscription.subscriber_id, subscription_id=subscription.subscription_id, refund_id=refund_id, made=made,
        facts=tuple(fact for fact in facts if isinstance(fact, SubscriptionFact)),
    ))
    if not made:
        raise Refused("payment_refused")
    if not isinstance(answer, SubscriptionStands):
        return subscription
    await shown(dependencies, answer.subscriber, subscription.subscription_id)
    return answer.subscription


def _named(subscription: Subscription, refund_id: str) -> tuple[BillRefund, InvoicePaid]:
    refund = subscription.refund(refund_id)
    assert refund is not None
    bill = next((bill for bill in subscription.bills if bill.object_id == refund.bill_id), None)
    if bill is None:  # older than what is kept: nothing is asked of the processor any more
        raise Refused("not_found")
    return refund, bill


def _view(subscription: Subscription, refund_id: str) -> BillRefundView:
    refund, bill = _named(subscription, refund_id)
    return BillRefundView(
        id=refund_id, subscription_id=subscription.subscription_id, bill_id=refund.bill_id,
        status="pending" if refund.made is None else "made", amount=format_amount(refund.amount_minor, bill.currency),
        currency=bill.currency, left=format_amount(subscription.refundable_minor(bill), bill.currency),
        cancel_at_period_end=subscription.cancel_at_period_end, livemode=bill.livemode,
        created_at=refund.asked_at.astimezone(UTC),
    )
