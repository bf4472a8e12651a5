"""What a payer's shard is asked, and what it answers. Every payment is named for good by its request's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from actors.idempotency import IdempotencyConflict
from configs.contracts.purchases import Payment, SingleFact

__all__ = [
    "SERVICE", "Abandon", "AlreadyBought", "AnswerRefund", "Find", "IdempotencyConflict", "NotRefundable", "Observe", "PaymentStands",
    "RequestPayment", "RequestRefund", "Unknown",
]

SERVICE = "payments"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPayment:
    """Begin a tip or a purchase. ``payment_id`` is derived from payer and Idempotency-Key."""

    payer_id: str
    payment_id: str
    body_digest: str
    payee_id: str
    purpose: Literal["tip", "post"]
    post_id: str | None
    amount_minor: int
    currency: str
    fee_minor: int
    account_id: str
    payment_method_id: str
    message: str | None
    checkout_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """What became of a request; Unknown: it was never recorded. Without ``body_digest``: whatever its body was."""

    payer_id: str
    payment_id: str
    body_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """Take in facts about one payment that the provider's answer proved; the same facts may come by webhook too.

    With its ``post_id`` the answer has all of the payer's payments for the post.
    """

    payer_id: str
    payment_id: str
    facts: tuple[SingleFact, ...]
    post_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """The provider refused it, or ended it once its time was over. Changes nothing once the provider says that it was paid."""

    payer_id: str
    payment_id: str
    reason: Literal["declined", "provider_refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefund:
    """Give some of a payment back; None: all that is left. ``refund_id`` is derived from payment, staff and Idempotency-Key."""

    payer_id: str
    payment_id: str
    refund_id: str
    body_digest: str
    amount_minor: int | None
    reason: str
    requested_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRefund:
    """The provider has made a refund, or refused it; with the facts that its answer proved."""

    payer_id: str
    payment_id: str
    refund_id: str
    made: bool
    post_id: str | None
    facts: tuple[SingleFact, ...] = ()


@dataclass(frozen=True, slots=True)
class PaymentStands:
    """The request is durable; the payment as it is now. ``held``: the payer's payments for the post, if it is one."""

    payment: Payment
    replayed: bool
    held: tuple[Payment, ...] = ()


@dataclass(frozen=True, slots=True)
class NotRefundable:
    """Not as much of the payment may be given back; nothing was recorded."""

    left_minor: int


@dataclass(frozen=True, slots=True)
class AlreadyBought:
    """The post is bought, or being paid for; nothing was recorded."""

    payment_id: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The payer has no such payment."""
