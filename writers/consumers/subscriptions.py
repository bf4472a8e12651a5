"""What follows for subscriptions: pure decisions from blocks and from ends of accounts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from configs.contracts.events import (
    Event,
    StandingChanged,
    SubscriptionCancelled,
    UserBlocked,
    UserErased,
)
from configs.contracts.events.base import Payload
from configs.contracts.ids import derived_id


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


def stopped(event: Event, renewing: Iterable[Renewing]) -> Iterator[Event]:
    """Whoever blocks, is blocked or leaves pays, and is paid, for no further period."""
    ((pairs, ended), payload) = pairs_and_ended((event.payload,)), event.payload
    for item in renewing:
        people = {item.subscriber_id, item.creator_id}
        if any(people == set(pair) for pair in pairs) or people & set(ended):
            request_id = derived_id(event.event_id, f"stop:{item.subscription_id}")
            yield Event(
                request_id, event.occurred_at, item.subscriber_id,
                SubscriptionCancelled(
                    request_id=request_id, subscription_id=item.subscription_id, subscriber_id=item.subscriber_id,
                    reason="blocked" if isinstance(payload, UserBlocked) else "account",
                ),
            )
