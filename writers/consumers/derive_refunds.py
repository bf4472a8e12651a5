"""What follows for those who bought a post when the moderation takes it away: all that is left of it is given back.

A removal and a purchase stand in two topics: whichever of them is derived later finds the other in the rows. Both ask for the
same refund, whose id comes from the payment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from configs.contracts import topics
from configs.contracts.events import ContentRemoved, Event, PaymentRequested, RefundRequested
from configs.contracts.ids import derived_id
from configs.contracts.topics import Topic
from writers.connections import Connection
from writers.records import Fact
from writers.sinks.payments import read_payment

BUYERS: Final = """
SELECT post_id::text, state::text FROM post_purchases WHERE post_id = ANY(%s::uuid[]) AND status IN ('completed', 'pending')
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
    """Those of the posts that somebody is about to buy that the moderation has taken away."""


def buyers_of(conn: Connection, facts: Sequence[Fact]) -> Buyers:
    """What ``refunds`` needs of the rows for these facts."""
    payloads = [fact.event.payload for fact in facts]
    gone = {payload.post_id for payload in payloads if isinstance(payload, ContentRemoved) and payload.reason in REASONS}
    wanted = {payload.post_id for payload in payloads if isinstance(payload, PaymentRequested) and payload.post_id is not None}
    of_post: dict[str, list[Owed]] = {}
    for post_id, state in conn.execute(BUYERS, (sorted(gone),)) if gone else ():
        payment = read_payment(state)
        left = payment.asked.amount_minor if payment.succeeded is None else payment.refundable_minor
        if left:
            of_post.setdefault(post_id, []).append(Owed(payment.asked.payer_id, payment.asked.payment_id, left))
    rows = conn.execute(REMOVED, (sorted(wanted),)).fetchall() if wanted else ()
    return Buyers(of_post, frozenset(name for (name,) in rows))


def refunds(event: Event, buyers: Buyers) -> Iterator[tuple[Topic, Event]]:
    """Each payment's refund; a payment that comes to nothing is never given back, since nothing was paid."""
    payload = event.payload
    owed: Sequence[Owed] = ()
    if isinstance(payload, ContentRemoved) and payload.reason in REASONS:
        owed = buyers.of_post.get(payload.post_id, ())
    elif isinstance(payload, PaymentRequested) and payload.post_id in buyers.removed:
        owed = (Owed(payload.payer_id, payload.payment_id, payload.amount_minor),)
    for payer_id, payment_id, amount_minor in owed:
        name = derived_id(payment_id, "post removed")
        yield topics.PAYMENT_COMPLETED, Event(name, event.occurred_at, payer_id, RefundRequested(
            refund_id=name, payment_id=payment_id, payer_id=payer_id, amount_minor=amount_minor,
            reason="the post was removed by the moderation", requested_by="platform", body_digest="",
        ))
