"""What a payer asked to pay, once each: pure decisions, rebuilt from rows and the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from actors.entries import Entries
from actors.folded import Folded
from actors.payments.commands import (
    Abandon,
    AlreadyBought,
    AnswerRefund,
    Find,
    IdempotencyConflict,
    NotRefundable,
    Observe,
    PaymentStands,
    RequestPayment,
    RequestRefund,
    Unknown,
)
from actors.sharding.memory import Append, Decision
from configs.contracts.events import (
    Event,
    PaymentAbandoned,
    PaymentObserved,
    PaymentRequested,
    RefundAnswered,
    RefundRequested,
)
from configs.contracts.ids import derived_id
from configs.contracts.purchases import (
    REFUNDS,
    Payment,
    SingleFact,
    payment_after,
    payment_of,
    payment_place,
    post_place,
    with_fact,
    without_text,
)
from configs.contracts.topics import PAYMENT_COMPLETED

PaymentCommand = RequestPayment | Find | Observe | Abandon | RequestRefund | AnswerRefund
PaymentAnswer = PaymentStands | AlreadyBought | Unknown | IdempotencyConflict | NotRefundable
Told = tuple[str, PaymentRequested | PaymentAbandoned | RefundRequested | RefundAnswered | PaymentObserved]
"""(event id, what is recorded)."""


def _payment() -> Folded[Payment]:
    return Folded(payment_after)


class Held:
    """The ids of a payer's payments for one post; ``loaded``: all of them are known."""

    __slots__ = ("loaded", "names")

    def __init__(self) -> None:
        self.loaded = False
        self.names: set[str] = set()


class PaymentMemory:
    """Payments by payer and id, without what payers wrote.

    Of all requests for one post at most one is recorded until it has failed or been given back.
    """

    def __init__(self) -> None:
        self._payments: Entries[Folded[Payment]] = Entries(_payment)
        self._posts: Entries[Held] = Entries(Held)

    def needs(self, command: PaymentCommand) -> Sequence[str]:
        place = payment_place(command.payer_id, command.payment_id)
        if isinstance(command, RequestPayment | Observe | AnswerRefund) and command.post_id is not None:
            return place, post_place(command.payer_id, command.post_id)
        return (place,)

    def known(self, key: str) -> bool:
        if "/post/" in key:
            held = self._posts.get(key)
            return held is not None and held.loaded and all(self.known(name) for name in held.names)
        payment = self._payments.get(key)
        return payment is not None and payment.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges a ``Payment``, or all payments for a post as a tuple; None: there is none."""
        if "/post/" in key:
            held = self._posts.use(key)
            held.loaded = True
            for payment in row if isinstance(row, tuple) else ():
                name = payment_place(payment.asked.payer_id, payment.asked.payment_id)
                held.names.add(name)
                self._payments.use(name).load(payment)
            for name in held.names:  # those that only the log has told of so far
                if not self._payments.use(name).loaded:
                    self._payments.use(name).load(None)
        else:
            self._payments.use(key).load(row if isinstance(row, Payment) else None)

    def conflict_key(self, command: PaymentCommand) -> str:
        return command.payer_id

    def decide(self, command: PaymentCommand, now: datetime) -> Decision[PaymentAnswer]:
        payment = self._row(payment_place(command.payer_id, command.payment_id))
        if isinstance(command, RequestPayment):
            return self._request(command, payment, now)
        if payment is None:
            return _answer(Unknown())
        if isinstance(command, Find):
            if command.body_digest is not None and command.body_digest != payment.asked.body_digest:
                return _answer(IdempotencyConflict())
            return _answer(PaymentStands(payment, replayed=True))
        if isinstance(command, Observe):
            return self._recorded(_news(payment, command.facts), payment, now)
        if isinstance(command, RequestRefund):
            return self._refund(command, payment, now)
        if isinstance(command, AnswerRefund):
            return self._answered(command, payment, now)
        if payment.abandoned is not None or payment.succeeded is not None:
            return _answer(PaymentStands(payment, replayed=True))
        given_up = PaymentAbandoned(payment_id=command.payment_id, payer_id=command.payer_id, reason=command.reason)
        return self._recorded([(derived_id(command.payment_id, "abandoned"), given_up)], payment, now)

    def _request(self, command: RequestPayment, known: Payment | None, now: datetime) -> Decision[PaymentAnswer]:
        if known is not None:
            same = known.asked.body_digest == command.body_digest
            return _answer(PaymentStands(known, replayed=True) if same else IdempotencyConflict())
        if command.post_id is not None:
            for held in self._of_post(command.payer_id, command.post_id):
                if held.holds_post(now):
                    return _answer(AlreadyBought(held.asked.payment_id))
        asked = PaymentRequested(
            payment_id=command.payment_id, payer_id=command.payer_id, payee_id=command.payee_id, purpose=command.purpose,
            post_id=command.post_id, amount_minor=command.amount_minor, currency=command.currency,
            fee_minor=command.fee_minor, account_id=command.account_id, payment_method_id=command.payment_method_id,
            message=command.message, checkout_until=now + timedelta(seconds=command.checkout_s),
            body_digest=command.body_digest,
        )
        return self._recorded([(command.payment_id, asked)], None, now)

    def _refund(self, command: RequestRefund, payment: Payment, now: datetime) -> Decision[PaymentAnswer]:
        """Never more than what was paid, of all refunds together."""
        known = payment.refund(command.refund_id)
        if known is not None:
            same = known.body_digest == command.body_digest
            return _answer(PaymentStands(payment, replayed=True) if same else IdempotencyConflict())
        left = payment.refundable_minor
        amount = left if command.amount_minor is None else command.amount_minor
        if not 0 < amount <= left or len(payment.refunds) >= REFUNDS:
            return _answer(NotRefundable(left))
        return self._recorded([(command.refund_id, RefundRequested(
            refund_id=command.refund_id, payment_id=command.payment_id, payer_id=command.payer_id, amount_minor=amount,
            reason=command.reason, requested_by=command.requested_by, body_digest=command.body_digest,
        ))], payment, now)

    def _answered(self, command: AnswerRefund, payment: Payment, now: datetime) -> Decision[PaymentAnswer]:
        """The facts first: whoever sees the refund made sees what came back."""
        told = _news(payment, command.facts)
        refund = payment.refund(command.refund_id)
        if refund is not None and refund.made is None:
            told.append((derived_id(command.refund_id, "answered"), RefundAnswered(
                refund_id=command.refund_id, payment_id=command.payment_id, payer_id=command.payer_id, made=command.made,
            )))
        return self._recorded(told, payment, now)

    def apply(self, event: Event, version: int) -> None:
        name = payment_of(event)
        if name is None:
            return
        place = payment_place(event.key, name)
        self._payments.use(place).take(without_text(event), version)
        if isinstance(event.payload, PaymentRequested) and event.payload.post_id is not None:
            self._posts.use(post_place(event.key, event.payload.post_id)).names.add(place)

    def entries(self) -> int:
        return len(self._payments) + len(self._posts)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """Posts first: they are known only while all of their payments are."""
        gone = self._posts.evict(max(0, limit - len(self._payments)), lambda key, held: all(
            payment is None or payment.newest < committed(key[:36]) for payment in map(self._payments.get, held.names)
        ))
        return gone + self._payments.evict(limit, lambda key, payment: payment.newest < committed(key[:36]))

    def _row(self, place: str) -> Payment | None:
        folded = self._payments.get(place)
        return None if folded is None else folded.row

    def _of_post(self, payer_id: str, post_id: str) -> tuple[Payment, ...]:
        held = self._posts.get(post_place(payer_id, post_id))
        rows = () if held is None else map(self._row, sorted(held.names))
        return tuple(row for row in rows if row is not None)

    def _recorded(self, told: Sequence[Told], before: Payment | None, now: datetime) -> Decision[PaymentAnswer]:
        appends = tuple(
            Append(PAYMENT_COMPLETED, payer_id, Event(event_id, now, payer_id, payload))
            for event_id, payload in told for payer_id in (_payer(payload),)
        )

        def answer(versions: tuple[int, ...]) -> PaymentAnswer:
            after = before
            for append, version in zip(appends, versions, strict=True):
                after = payment_after(after, append.event, version)
            assert after is not None
            post_id = after.asked.post_id
            others = () if post_id is None else self._of_post(after.asked.payer_id, post_id)
            held = {payment.asked.payment_id: payment for payment in (*others, after)}
            return PaymentStands(after, replayed=not appends, held=tuple(held.values()) if post_id is not None else ())

        return Decision(appends, answer)


def _news(payment: Payment, reported: Sequence[SingleFact]) -> list[Told]:
    """What of the facts says something new about this payment."""
    facts: tuple[SingleFact, ...] = payment.facts
    told: list[Told] = []
    for fact in reported:
        after = with_fact(facts, fact)
        if fact.request_id == payment.asked.payment_id and after != facts:
            facts = after
            told.append((
                derived_id(fact.event_id, f"{fact.kind}:{fact.object_id}"),
                PaymentObserved(owner_id=payment.asked.payer_id, fact=fact),
            ))
    return told


def _payer(payload: PaymentRequested | PaymentAbandoned | RefundRequested | RefundAnswered | PaymentObserved) -> str:
    return payload.owner_id if isinstance(payload, PaymentObserved) else payload.payer_id


def _answer(answer: PaymentAnswer) -> Decision[PaymentAnswer]:
    return Decision((), lambda versions: answer)
