"""What payers asked for and what came of it -> tips, post_purchases: the fold that shards make too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from configs.contracts.events import (
    PaymentAbandoned,
    PaymentObserved,
    PaymentRequested,
    RefundAnswered,
    RefundRequested,
)
from configs.contracts.purchases import Payment, effective, payment_after, payment_of
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, parsed_id

READ = """
SELECT from_user_id::text, tips.id::text, state::text
FROM tips JOIN unnest(%(payers)s, %(ids)s) AS named (payer, name) ON from_user_id = payer AND id = name
UNION ALL
SELECT buyer_id::text, post_purchases.id::text, state::text
FROM post_purchases JOIN unnest(%(payers)s, %(ids)s) AS named (payer, name) ON buyer_id = payer AND id = name
"""
CHANGE = """
ON CONFLICT ({payer}, id) DO UPDATE
SET status = excluded.status, provider_payment_id = excluded.provider_payment_id, state = excluded.state,
    version = excluded.version, refund_due = excluded.refund_due
WHERE stored.version < excluded.version
"""
TIPS = """
INSERT INTO tips AS stored
    (from_user_id, id, to_user_id, amount_minor, currency, status, provider_payment_id, requested_at, state, version, refund_due, message)
SELECT payer, id, payee, amount, currency, status, provider_payment_id, requested_at, state::jsonb, version, refund_due, message
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch
    (payer, id, payee, amount, currency, status, provider_payment_id, requested_at, state, version, refund_due, message)
""" + CHANGE.format(payer="from_user_id")
PURCHASES = """
INSERT INTO post_purchases AS stored
    (buyer_id, id, creator_id, amount_minor, currency, status, provider_payment_id, requested_at, state, version, refund_due, post_id)
SELECT payer, id, payee, amount, currency, status, provider_payment_id, requested_at, state::jsonb, version, refund_due, post_id
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch
    (payer, id, payee, amount, currency, status, provider_payment_id, requested_at, state, version, refund_due, post_id)
""" + CHANGE.format(payer="buyer_id")
OF_POSTS = """
SELECT state::text FROM post_purchases JOIN unnest(%s::uuid[], %s::uuid[]) AS named (buyer, post)
     ON buyer_id = buyer AND post_id = post
"""
INEFFECTIVE = """
UPDATE post_purchases SET effective = false FROM unnest(%s, %s, %s) AS chosen (buyer, post, name)
WHERE buyer_id = buyer AND post_id = post AND effective AND id IS DISTINCT FROM name
"""
EFFECTIVE = """
UPDATE post_purchases SET effective = true FROM unnest(%s, %s) AS chosen (buyer, name)
WHERE buyer_id = buyer AND id = name AND NOT effective
"""
Place = tuple[str, str]
_STATES = msgspec.json.Decoder(Payment)


def read_payment(state: str) -> Payment:
    """The payment of the column ``state``."""
    return _STATES.decode(state)


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    named: dict[Place, list[Fact]] = {}
    for fact in facts:
        name = payment_of(fact.event)
        if name is not None:
            parsed_id(name)
            named.setdefault((fact.event.key, name), []).append(fact)
    if not named:
        return 0
    rows = cur.execute(READ, {
        "payers": columns.uuids([payer for payer, _ in named]), "ids": columns.uuids([name for _, name in named])
    }).fetchall()
    stored = {(payer, name): read_payment(state) for payer, name, state in rows}
    changed: list[Payment] = []
    messages = {
        fact.event.payload.payment_id: fact.event.payload.message for fact in facts
        if isinstance(fact.event.payload, PaymentRequested)
    }
    for place, own in named.items():
        before = after = stored.get(place)
        for event, version, _ in own:
            after = payment_after(after, event, version)
        if after is not None and after is not before:
            changed.append(after)
    tips = [payment for payment in changed if payment.asked.purpose == "tip"]
    bought = [payment for payment in changed if payment.asked.purpose == "post"]
    if tips:
        cur.execute(TIPS, (*_shared(tips), columns.texts(messages.get(payment.asked.payment_id) for payment in tips)))
    if bought:
        cur.execute(PURCHASES, (*_shared(bought), columns.uuids([payment.asked.post_id for payment in bought])))
        _choose(cur, sorted({(payment.asked.payer_id, payment.asked.post_id or "") for payment in bought}))
    return len(changed)


def _choose(cur: Cursor, pairs: Sequence[Place]) -> None:
    """Says which purchase of each (buyer, post) opens the post: at most one, as an index has it."""
    held = of_posts(cur, pairs)
    chosen = [effective(held.get(pair, ())) for pair in pairs]
    names = [None if payment is None else payment.asked.payment_id for payment in chosen]
    buyers = columns.uuids([buyer for buyer, _ in pairs])
    cur.execute(INEFFECTIVE, (buyers, columns.uuids([post for _, post in pairs]), columns.uuids(names)))
    cur.execute(EFFECTIVE, (buyers, columns.uuids(names)))


def of_posts(cur: Cursor, pairs: Sequence[Place]) -> Mapping[Place, Sequence[Payment]]:
    """By (buyer, post) all of the buyer's payments for the post."""
    rows = cur.execute(OF_POSTS, ([UUID(buyer) for buyer, _ in pairs], [UUID(post) for _, post in pairs])).fetchall()
    return by_post(read_payment(state) for (state,) in rows)


def by_post(found: Iterable[Payment]) -> Mapping[Place, list[Payment]]:
    held: defaultdict[Place, list[Payment]] = defaultdict(list)
    for payment in found:
        if payment.asked.post_id is not None:
            held[payment.asked.payer_id, payment.asked.post_id].append(payment)
    return held


def _shared(payments: Sequence[Payment]) -> tuple[object, ...]:
    asked = [payment.asked for payment in payments]
    paid = [payment.succeeded for payment in payments]
    return (
        columns.uuids([item.payer_id for item in asked]),
        columns.uuids([item.payment_id for item in asked]),
        columns.uuids([item.payee_id for item in asked]),
        columns.bigints([item.amount_minor for item in asked]),
        columns.texts(item.currency for item in asked),
        columns.texts(payment.status for payment in payments),
        columns.texts(None if fact is None else fact.payment_id for fact in paid),
        columns.timestamps([payment.requested_at for payment in payments]),
        columns.texts(msgspec.json.encode(payment).decode() for payment in payments),
        columns.bigints([payment.version for payment in payments]),
        columns.timestamps([
            min((refund.asked_at for refund in payment.refunds if refund.made is None), default=None) for payment in payments
        ]),
    )


SINK = Sink("payments", (PaymentRequested, PaymentAbandoned, PaymentObserved, RefundRequested, RefundAnswered), write)
