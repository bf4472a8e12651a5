"""What follows for those who bought a post when the moderation takes it away: all that is left of it is given back.

A removal and a purchase stand in two topics: whichever of them is derived later finds the other in the rows. Both ask for the
same refund, whose id comes from the payment. What was with a bank when the post was removed, or had been given up, is given
back once it turns out to be paid after all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from configs.contracts import topics
from configs.contracts.events import ContentRemoved, Event, PaymentObserved, PaymentRequested, RefundRequested
from configs.contracts.ids import derived_id
from configs.contracts.payment_facts import DisputeClosed, PaymentSucceeded
from configs.contracts.purchases import Payment, payment_of
from configs.contracts.topics import Topic
from writers.connections import Connection
from writers.records import Fact
from writers.sinks.payments import read_payment

BUYERS: Final = """
SELECT post_id::text, state::text FROM post_purchases WHERE post_id = ANY(%s::uuid[]) AND status IN ('completed', 'pending')
"""
PAID: Final = """
SELECT post_id::text, state::text FROM post_purchases
WHERE buyer_id = ANY(%s::uuid[]) AND id = ANY(%s::uuid[]) AND status = 'completed'
"""
REMOVED: Final = "SELECT id::text FROM posts WHERE id = ANY(%s::uuid[]) AND state = 'removed' AND review = 'rejected'"
REASONS: Final = ("moderation", "intimate_image")


class Owed(NamedTuple):
    """What is left of a payment; of one that is still being made all of it."""

    payer_id: str
    payment_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Buyers:
    """What the rows say of purchases and posts."""

    of_post: Mapping[str, Sequence[Owed]] = field(default_factory=dict)
    """Post that was removed -> whoever bought it, or is about to."""
    removed: frozenset[str] = frozenset()
    """Those of the posts that somebody is about to buy, or has paid for, that the moderation has taken away."""
    paid: Mapping[tuple[str, str], Payment] = field(default_factory=dict)
    """(payer, payment) that was just reported as paid, or won back from a bank, and opens its post."""


def buyers_of(conn: Connection, facts: Sequence[Fact]) -> Buyers:
    """What ``refunds`` needs of the rows for these facts."""
    payloads = [fact.event.payload for fact in facts]
    gone = {payload.post_id for payload in payloads if isinstance(payload, ContentRemoved) and payload.reason in REASONS}
    wanted = {payload.post_id for payload in payloads if isinstance(payload, PaymentRequested) and payload.post_id is not None}
    told = {(fact.event.key, name) for fact in facts if _is_paid(fact.event) and (name := payment_of(fact.event)) is not None}
    of_post: dict[str, list[Owed]] = {}
    for post_id, state in conn.execute(BUYERS, (sorted(gone),)) if gone else ():
        payment = read_payment(state)
        left = payment.asked.amount_minor if payment.succeeded is None else payment.refundable_minor
        if left:
            of_post.setdefault(post_id, []).append(Owed(payment.asked.payer_id, payment.asked.payment_id, left))
    paid: dict[tuple[str, str], Payment] = {}
    for post_id, state in conn.execute(PAID, (sorted({payer for payer, _ in told}), sorted({name for _, name in told}))) if told else ():
        payment = read_payment(state)
        paid[payment.asked.payer_id, payment.asked.payment_id] = payment
        wanted.add(post_id)
    rows = conn.execute(REMOVED, (sorted(wanted),)).fetchall() if wanted else ()
    return Buyers(of_post, frozenset(name for (name,) in rows), paid)


def _is_paid(event: Event) -> bool:
    """Whether it says that money of a payer is here: the first time, or again."""
    payload = event.payload
    if not isinstance(payload, PaymentObserved):
        return False
    return isinstance(payload.fact, PaymentSucceeded) or (isinstance(payload.fact, DisputeClosed) and payload.fact.won)


def refunds(event: Event, buyers: Buyers) -> Iterator[tuple[Topic, Event]]:
    """Each payment's refund; a payment that comes to nothing is never given back, since nothing was paid."""
    payload = event.payload
    if isinstance(payload, ContentRemoved) and payload.reason in REASONS:
        for owed in buyers.of_post.get(payload.post_id, ()):
            yield _refund(event, _name(owed.payment_id), owed)
    elif isinstance(payload, PaymentRequested) and payload.post_id in buyers.removed:
        yield _refund(event, _name(payload.payment_id), Owed(payload.payer_id, payload.payment_id, payload.amount_minor))
    elif isinstance(payload, PaymentObserved) and _is_paid(event):
        payment = buyers.paid.get((event.key, payment_of(event) or ""))
        if payment is None or payment.asked.post_id not in buyers.removed or not payment.refundable_minor:
            return
        name = _name(payment.asked.payment_id)
        known = payment.refund(name)
        if known is not None and known.made is False and isinstance(payload.fact, DisputeClosed):
            # It was asked for before anybody had told that a bank had the money: the processor refused.
            name = derived_id(name, payload.fact.object_id)
        yield _refund(event, name, Owed(payment.asked.payer_id, payment.asked.payment_id, payment.refundable_minor))


def _name(payment_id: str) -> str:
    return derived_id(payment_id, "post removed")


def _refund(event: Event, name: str, owed: Owed) -> tuple[Topic, Event]:
    return topics.PAYMENT_COMPLETED, Event(name, event.occurred_at, owed.payer_id, RefundRequested(
        refund_id=name, payment_id=owed.payment_id, payer_id=owed.payer_id, amount_minor=owed.amount_minor,
        reason="the post was removed by the moderation", requested_by="platform", body_digest="", all_left=True,
    ))
