"""Single payments of a payer, tips and pay-per-view purchases: what was asked for, and what the provider's facts make of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

from configs.contracts.events import (
    Event,
    PaymentAbandoned,
    PaymentObserved,
    PaymentRequested,
    RefundAnswered,
    RefundRequested,
)
from configs.contracts.money import refundable
from configs.contracts.payment_facts import (
    DisputeClosed,
    DisputeOpened,
    MoneyFact,
    PaymentFailed,
    PaymentSucceeded,
    Refunded,
)

SingleFact = PaymentSucceeded | PaymentFailed | Refunded | DisputeOpened | DisputeClosed
"""What a provider reports of a single payment."""
PaymentStatus = Literal["pending", "completed", "failed", "refunded", "disputed"]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
REFUNDS: Final = 50
"""Refunds of one payment that may be asked for, refused ones included."""


_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Refunding(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """A refund that staff or the platform asked for. ``made``: None until the provider has answered."""

    refund_id: str
    amount_minor: int
    body_digest: str
    asked_at: Instant
    made: bool | None = None
    all_left: bool = False

    @property
    def wanted_minor(self) -> int | None:
        """What the provider is asked for; None: all that is left."""
        return None if self.all_left else self.amount_minor


class Payment(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """One payment. ``facts``: of each kind and object of the provider the newest, so that order and repetition mean nothing.

    ``version``: of the newest event about it. ``paid_version``: of the first that said that it was paid.
    """

    asked: PaymentRequested
    requested_at: Instant
    abandoned: str | None = None
    facts: tuple[SingleFact, ...] = ()
    version: int = 0
    paid_version: int = 0
    refunds: tuple[Refunding, ...] = ()

    def refund(self, refund_id: str) -> Refunding | None:
        return next((refund for refund in self.refunds if refund.refund_id == refund_id), None)

    @property
    def refundable_minor(self) -> int:
        """What may still be given back: of what was paid all that neither the provider has given back nor staff has asked for.

        Nothing while a dispute is open, or after it was lost: the bank has the money.
        """
        paid = self.succeeded
        if paid is None or self.status == "disputed":
            return 0
        return refundable(
            paid.amount_minor, back=max((fact.refunded_minor for fact in self.facts if isinstance(fact, Refunded)), default=None),
            made=sum(refund.amount_minor for refund in self.refunds if refund.made),
            asked=sum(refund.amount_minor for refund in self.refunds if refund.made is None),
        )

    @property
    def succeeded(self) -> PaymentSucceeded | None:
        return next((fact for fact in self.facts if isinstance(fact, PaymentSucceeded)), None)

    @property
    def status(self) -> PaymentStatus:
        """What was paid, as far as the provider has told; a full refund or a dispute that is open or lost ends it."""
        paid = self.succeeded
        if paid is None:
            given_up = any(isinstance(fact, PaymentFailed) and fact.final for fact in self.facts)
            return "failed" if given_up or self.abandoned is not None else "pending"
        if any(isinstance(fact, Refunded) and fact.refunded_minor >= paid.amount_minor for fact in self.facts):
            return "refunded"
        won = {fact.object_id for fact in self.facts if isinstance(fact, DisputeClosed) and fact.won}
        disputes = {fact.object_id for fact in self.facts if isinstance(fact, DisputeOpened | DisputeClosed)}
        return "disputed" if disputes - won else "completed"

    def holds_post(self, now: datetime) -> bool:
        """Whether it keeps its payer from buying the post again: bought, frozen, or still being paid."""
        status = self.status
        return status in ("completed", "disputed") or (status == "pending" and now < self.asked.checkout_until)


def payment_of(event: Event) -> str | None:
    """The single payment that an event is about; None: about none."""
    payload = event.payload
    if isinstance(payload, PaymentRequested | PaymentAbandoned | RefundRequested | RefundAnswered):
        return payload.payment_id
    if isinstance(payload, PaymentObserved) and isinstance(payload.fact, MoneyFact) and payload.fact.subscription_id is None:
        # Metadata at the provider can be written by others too: what names no request of ours is about none.
        return payload.fact.request_id if _ID.fullmatch(payload.fact.request_id) else None
    return None


def without_text(event: Event) -> Event:
    """The event without what people wrote: no state needs it, so that only one column of rows has to be erased."""
    payload = event.payload
    if isinstance(payload, PaymentRequested) and payload.message is not None:
        return msgspec.structs.replace(event, payload=msgspec.structs.replace(payload, message=None))
    if isinstance(payload, RefundRequested):
        return msgspec.structs.replace(event, payload=msgspec.structs.replace(payload, reason=""))
    return event


def payment_after(before: Payment | None, event: Event, version: int) -> Payment | None:
    """The payment after an event; its request comes first, a repeated one changes nothing."""
    payload = without_text(event).payload
    if isinstance(payload, PaymentRequested):
        return Payment(asked=payload, requested_at=event.occurred_at, version=version) if before is None else before
    if before is None:
        return None
    # The version moves by an event that says nothing new too: a shard that takes two in the other order answers with the later one's.
    before = msgspec.structs.replace(before, version=max(before.version, version))
    if isinstance(payload, PaymentAbandoned):
        return before if before.abandoned is not None else msgspec.structs.replace(before, abandoned=payload.reason)
    if isinstance(payload, RefundRequested | RefundAnswered):
        return msgspec.structs.replace(before, refunds=_refunds_after(before.refunds, event))
    if isinstance(payload, PaymentObserved) and isinstance(payload.fact, SingleFact):
        first = before.succeeded is None and isinstance(payload.fact, PaymentSucceeded)
        return msgspec.structs.replace(
            before, facts=with_fact(before.facts, payload.fact), paid_version=version if first else before.paid_version
        )
    return before


def _refunds_after(before: tuple[Refunding, ...], event: Event) -> tuple[Refunding, ...]:
    """A refund is asked for once, and its first answer counts."""
    payload = event.payload
    known = next((refund for refund in before if refund.refund_id == payload.refund_id), None)
    if isinstance(payload, RefundRequested):
        if known is not None:
            return before
        return (*before, Refunding(
            refund_id=payload.refund_id, amount_minor=payload.amount_minor, body_digest=payload.body_digest, asked_at=event.occurred_at,
            all_left=payload.all_left,
        ))
    if known is None or known.made is not None:
        return before
    return tuple(
        msgspec.structs.replace(refund, made=payload.made) if refund is known else refund for refund in before
    )


def with_fact(facts: tuple[SingleFact, ...], fact: SingleFact) -> tuple[SingleFact, ...]:
    """The facts with one more; of one kind and object the greatest ``order`` stays."""
    held = {(known.kind, known.object_id): known for known in facts}
    known = held.get((fact.kind, fact.object_id))
    if known is not None and known.order >= fact.order:
        return facts
    held[(fact.kind, fact.object_id)] = fact
    return tuple(held[place] for place in sorted(held))


def stands(payments: Iterable[Payment]) -> bool:
    """Whether one of a payer's payments for a post opens it."""
    return any(payment.status == "completed" for payment in payments)


def effective(payments: Iterable[Payment]) -> Payment | None:
    """The one of a payer's payments for a post that opens it: of those that are paid the one that was told first.

    Any other that is paid was paid for nothing, and is given back.
    """
    paid = (payment for payment in payments if payment.status == "completed")
    return min(paid, key=lambda payment: (payment.paid_version, payment.asked.payment_id), default=None)


def payment_place(payer_id: str, payment_id: str) -> str:
    """Names a payment where rows are loaded."""
    return f"{payer_id}/{payment_id}"


def post_place(payer_id: str, post_id: str) -> str:
    """Names a payer's payments for one post where rows are loaded."""
    return f"{payer_id}/post/{post_id}"
