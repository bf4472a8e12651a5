"""What follows for subscriptions: pure decisions from blocks, from ends of accounts and from a second one to the same creator."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from configs.contracts.events import (
    BillRefundRequested,
    Event,
    StandingChanged,
    SubscriptionCancelled,
    SubscriptionObserved,
    SubscriptionRequested,
    UserBlocked,
    UserErased,
)
from configs.contracts.events.base import Payload
from configs.contracts.ids import derived_id
from configs.contracts.payment_facts import InvoicePaid, SubscriptionState
from configs.contracts.subscriptions import Subscription


class Renewing(NamedTuple):
    """A subscription that goes on."""

    subscriber_id: str
    creator_id: str
    subscription_id: str


def pairs_and_ended(payloads: Iterable[Payload]) -> tuple[list[tuple[str, str]], list[str]]:
    """(who blocked whom, whose account ended) among events."""
    pairs, ended = [], []
    for payload in payloads:
        if isinstance(payload, UserBlocked):
            pairs.append((payload.user_id, payload.blocked_id))
        elif isinstance(payload, UserErased) or (isinstance(payload, StandingChanged) and payload.status in ("banned", "deleted")):
            ended.append(payload.user_id)
    return pairs, ended


def subscribing(payloads: Iterable[Payload]) -> list[tuple[str, str]]:
    """(subscriber, creator) of every subscription that begins or goes on among events."""
    found: list[tuple[str, str]] = []
    for payload in payloads:
        if isinstance(payload, SubscriptionRequested):
            found.append((payload.subscriber_id, payload.creator_id))
        elif isinstance(payload, SubscriptionObserved) and isinstance(payload.fact, SubscriptionState):
            found.append((payload.fact.subscriber_id, payload.fact.creator_id))
    return found


def stopped(event: Event, renewing: Iterable[Renewing], apart: Container[tuple[str, str]] = ()) -> Iterator[Event]:
    """Whoever blocks, is blocked or leaves pays, and is paid, for no further period.

    ``apart``: pairs that rows know to be blocked, or one of them gone. A subscription and what parts its people are in two
    topics: which of them is derived later finds the other in the rows.
    """
    ((pairs, ended), payload) = pairs_and_ended((event.payload,)), event.payload
    pairs += [pair for pair in subscribing((payload,)) if pair in apart]
    for item in renewing:
        people = {item.subscriber_id, item.creator_id}
        if any(people == set(pair) for pair in pairs) or people & set(ended):
            request_id = derived_id(event.event_id, f"stop:{item.subscription_id}")
            yield Event(
                request_id, event.occurred_at, item.subscriber_id,
                SubscriptionCancelled(
                    request_id=request_id, subscription_id=item.subscription_id, subscriber_id=item.subscriber_id,
                    reason="account" if ended else "blocked",
                ),
            )


def reported(payloads: Iterable[Payload]) -> list[tuple[str, str]]:
    """(subscriber, creator) of every subscription that is reported to run, or to be paid, among events."""
    found: list[tuple[str, str]] = []
    for payload in payloads:
        if isinstance(payload, SubscriptionObserved) and isinstance(payload.fact, SubscriptionState):
            found.append((payload.fact.subscriber_id, payload.fact.creator_id))
        elif isinstance(payload, SubscriptionObserved) and isinstance(payload.fact, InvoicePaid):
            found.append((payload.fact.payer_id, payload.fact.payee_id))
    return found


def second(event: Event, running: Mapping[tuple[str, str], Sequence[Subscription]]) -> Iterator[Event]:
    """Of two subscriptions to one creator that both go on, the later one is stopped and its first bill given back.

    The subscriber's shard lets no second one begin. But what a processor did with a call longer than anybody waited for it
    becomes known only after another checkout has begun.
    """
    for pair in reported((event.payload,)):
        ordered = sorted(running.get(pair, ()), key=lambda item: (item.requested_at, item.subscription_id))
        for number, item in enumerate(ordered):
            now = max(event.occurred_at, item.requested_at)
            if any(older.live_at(now) and not older.cancel_at_period_end for older in ordered[:number]):
                yield from _stopped(event, item)


def _stopped(event: Event, item: Subscription) -> Iterator[Event]:
    if not item.cancel_at_period_end:
        request_id = derived_id(item.subscription_id, "second")
        yield Event(request_id, event.occurred_at, item.subscriber_id, SubscriptionCancelled(
            request_id=request_id, subscription_id=item.subscription_id, subscriber_id=item.subscriber_id,
        ))
    refund_id = derived_id(item.subscription_id, "second refunded")
    bill = next((bill for bill in item.bills if bill.reason == "first"), None)
    if bill is not None and item.refund(refund_id) is None and (left := item.refundable_minor(bill)):
        yield Event(refund_id, event.occurred_at, item.subscriber_id, BillRefundRequested(
            refund_id=refund_id, subscription_id=item.subscription_id, subscriber_id=item.subscriber_id, bill_id=bill.object_id,
            amount_minor=left, reason="there is another subscription to the same creator", requested_by="platform",
            stops_renewal=True, body_digest="", all_left=True,
        ))
