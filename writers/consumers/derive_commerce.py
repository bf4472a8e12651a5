"""What creators and their subscribers are told: a subscriber, a tip, a purchase, a post."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from configs.contracts import topics
from configs.contracts.changes import rfc3339
from configs.contracts.content import PostRecord
from configs.contracts.events import ContentPublished, Event, PaymentObserved, SubscriptionObserved
from configs.contracts.ids import derived_id
from configs.contracts.notifying import Kind
from configs.contracts.payment_facts import InvoicePaid, PaymentSucceeded
from configs.contracts.purchases import Payment, payment_of
from configs.contracts.topics import Topic
from writers.connections import Connection
from writers.consumers import audience
from writers.consumers.audience import Wishes
from writers.loads.content import posts
from writers.loads.notifying import wishes_of
from writers.records import Fact
from writers.sinks.payments import read_payment

TOLD_OF_A_POST: Final = 10_000
"""Subscribers who are told of one post: the newest ones. Feeds show it to all of them."""
SUBSCRIBERS: Final = """
SELECT DISTINCT subscriber_id::text FROM (
    SELECT subscriber_id FROM subscriptions
    WHERE creator_id = %s::uuid AND status IN ('trialing', 'active', 'past_due') ORDER BY requested_at DESC LIMIT %s
) AS newest
"""
BLOCKED: Final = """
SELECT blocked_id::text FROM blocks WHERE user_id = %(creator)s::uuid AND active
UNION ALL SELECT user_id::text FROM blocks WHERE blocked_id = %(creator)s::uuid AND active
"""
PAYMENTS: Final = """
SELECT state::text FROM tips WHERE from_user_id = ANY(%(payers)s::uuid[]) AND id = ANY(%(ids)s::uuid[])
UNION ALL SELECT state::text FROM post_purchases WHERE buyer_id = ANY(%(payers)s::uuid[]) AND id = ANY(%(ids)s::uuid[])
"""
KNOWN: Final = "SELECT id::text FROM notifications WHERE user_id = ANY(%s::uuid[]) AND id = ANY(%s::uuid[])"


@dataclass(frozen=True, slots=True)
class Commerce:
    """What the rows say of sales and posts among these events."""

    wishes: Wishes = field(default_factory=dict)
    payments: Mapping[str, Payment] = field(default_factory=dict)
    listed: Mapping[str, PostRecord] = field(default_factory=dict)
    """Posts that stand in feeds, by id."""
    subscribers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Creator -> who is told of their posts; nobody whom they block, or who blocks them."""
    known: frozenset[str] = frozenset()
    """Notifications of subscribers that were made before: a first bill may be reported again."""


def commerce_of(conn: Connection, facts: Sequence[Fact]) -> Commerce:
    """What ``notices`` needs of the rows for these facts."""
    events = [fact.event for fact in facts]
    paid = {(event.key, name) for event in events if _is_paid(event) and (name := payment_of(event)) is not None}
    published = {
        f"{event.payload.creator_id}/{event.payload.post_id}" for event in events if isinstance(event.payload, ContentPublished)
    }
    first = {_subscriber_notice(bill): bill.payee_id for event in events if (bill := _first_bill(event)) is not None}
    if not (paid or published or first):
        return Commerce()
    payments: dict[str, Payment] = {}
    if paid:
        rows = conn.execute(PAYMENTS, {"payers": sorted({payer for payer, _ in paid}), "ids": sorted({name for _, name in paid})})
        payments = {payment.asked.payment_id: payment for payment in (read_payment(state) for (state,) in rows)}
    listed = {post.post_id: post for post in posts(conn, sorted(published)).values() if post.listed} if published else {}
    subscribers = {creator: _subscribers(conn, creator) for creator in {post.creator_id for post in listed.values()}}
    known = conn.execute(KNOWN, (sorted(set(first.values())), sorted(first))).fetchall() if first else ()
    asked = {payment.asked.payee_id for payment in payments.values()} | set(first.values())
    for found in subscribers.values():
        asked |= set(found)
    return Commerce(wishes_of(conn, asked), payments, listed, subscribers, frozenset(name for (name,) in known))


def _subscribers(conn: Connection, creator_id: str) -> list[str]:
    blocked = {name for (name,) in conn.execute(BLOCKED, {"creator": creator_id}).fetchall()}
    return sorted(name for (name,) in conn.execute(SUBSCRIBERS, (creator_id, TOLD_OF_A_POST)).fetchall() if name not in blocked)


def notices(event: Event, version: int, commerce: Commerce) -> Iterator[tuple[Topic, Event]]:
    """Who is told what of a sale or a post. What is told names people by id only: lists leave out who is blocked since."""
    for told in _told(event, version, commerce):
        if told is not None:
            yield topics.NOTIFICATION_SEND, told


def _told(event: Event, version: int, commerce: Commerce) -> Iterator[Event | None]:
    payload, wishes = event.payload, commerce.wishes
    if isinstance(payload, ContentPublished):
        post = commerce.listed.get(payload.post_id)
        if post is None or post.published_at != rfc3339(event.occurred_at):
            return
        data = {"userId": post.creator_id, "postId": post.post_id}
        for subscriber_id in commerce.subscribers.get(post.creator_id, ()):
            yield audience.told(
                event, subscriber_id, "post", "Somebody to whom you subscribe has published something", data, wishes,
                notification_id=derived_id(post.post_id, f"published:{subscriber_id}"),
            )
    elif _is_paid(event):
        payment = commerce.payments.get(payment_of(event) or "")
        # Only the first report that it was paid is news.
        if payment is None or payment.paid_version != version:
            return
        asked = payment.asked
        kind: Kind = "tip" if asked.purpose == "tip" else "purchase"
        data = {"userId": asked.payer_id, "paymentId": asked.payment_id}
        if asked.post_id is not None:
            data["postId"] = asked.post_id
        yield audience.told(
            event, asked.payee_id, kind, "You received a tip" if kind == "tip" else "Somebody bought a post of yours", data, wishes,
            notification_id=derived_id(asked.payment_id, "paid"),
        )
    elif (bill := _first_bill(event)) is not None and _subscriber_notice(bill) not in commerce.known:
        yield audience.told(
            event, bill.payee_id, "subscriber", "You have a new subscriber",
            {"userId": bill.payer_id, "subscriptionId": bill.request_id}, wishes, notification_id=_subscriber_notice(bill),
        )


def _is_paid(event: Event) -> bool:
    return isinstance(event.payload, PaymentObserved) and isinstance(event.payload.fact, PaymentSucceeded)


def _first_bill(event: Event) -> InvoicePaid | None:
    """The bill with which a subscription begins; a trial's is over nothing."""
    payload = event.payload
    if isinstance(payload, SubscriptionObserved) and isinstance(payload.fact, InvoicePaid) and payload.fact.reason == "first":
        return payload.fact
    return None


def _subscriber_notice(bill: InvoicePaid) -> str:
    return derived_id(bill.request_id, "subscribed")
