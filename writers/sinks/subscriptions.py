"""What was asked and reported of subscriptions -> subscriptions, subscription_requests: the fold that shards make too."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from configs.contracts.events import (
    BillRefundAnswered,
    BillRefundRequested,
    SubscriptionAbandoned,
    SubscriptionCancelled,
    SubscriptionChangeRequested,
    SubscriptionMethodRequested,
    SubscriptionObserved,
    SubscriptionRequested,
    SubscriptionResumed,
)
from configs.contracts.subscriptions import Subscription, subscription_after, subscription_of
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, parsed_id

READ = """
SELECT subscriber_id::text, id::text, state::text
FROM subscriptions JOIN unnest(%s, %s) AS named (subscriber, name) ON subscriber_id = subscriber AND id = name
"""
WRITE = """
INSERT INTO subscriptions AS stored
    (subscriber_id, id, creator_id, tier_id, status, cancel_at_period_end, entitled_until, provider_subscription_id,
     current_period_start, current_period_end, cancelled_at, requested_at, state, version, unsettled)
SELECT subscriber_id, id, creator_id, tier_id, status, cancel_at_period_end, entitled_until, provider_subscription_id,
       current_period_start, current_period_end, cancelled_at, requested_at, state::jsonb, version, unsettled
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch
    (subscriber_id, id, creator_id, tier_id, status, cancel_at_period_end, entitled_until, provider_subscription_id,
     current_period_start, current_period_end, cancelled_at, requested_at, state, version, unsettled)
ON CONFLICT (subscriber_id, id) DO UPDATE
SET tier_id = excluded.tier_id, status = excluded.status, cancel_at_period_end = excluded.cancel_at_period_end,
    entitled_until = excluded.entitled_until, provider_subscription_id = excluded.provider_subscription_id,
    current_period_start = excluded.current_period_start, current_period_end = excluded.current_period_end,
    cancelled_at = excluded.cancelled_at, state = excluded.state, version = excluded.version,
    unsettled = excluded.unsettled
WHERE stored.version < excluded.version
"""
REQUESTS = """
INSERT INTO subscription_requests (subscriber_id, id, subscription_id, body_digest, upgrade, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s)
ON CONFLICT (subscriber_id, id) DO NOTHING
"""
Place = tuple[str, str]
_STATES = msgspec.json.Decoder(Subscription)


def read_subscription(state: str) -> Subscription:
    """The subscription of the column ``state``."""
    return _STATES.decode(state)


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    named: dict[Place, list[Fact]] = {}
    for fact in facts:
        name = subscription_of(fact.event)
        if name is None:
            continue
        parsed_id(name)
        named.setdefault((fact.event.key, name), []).append(fact)
    places = sorted(named)
    rows = cur.execute(READ, (
        columns.uuids([subscriber for subscriber, _ in places]), columns.uuids([name for _, name in places])
    )).fetchall()
    stored = {(subscriber, name): read_subscription(state) for subscriber, name, state in rows}
    changed: dict[Place, Subscription] = {}
    for place, own in named.items():
        before = after = stored.get(place)
        for event, version, _ in own:
            after = subscription_after(after, event, version)
        if after is not None and after is not before:
            changed[place] = after
    _write(cur, changed)
    _remember(cur, facts)
    return len(changed)


def _write(cur: Cursor, changed: dict[Place, Subscription]) -> None:
    if not changed:
        return
    found = list(changed.values())
    seen = [item.observed for item in found]
    cur.execute(WRITE, (
        columns.uuids([subscriber for subscriber, _ in changed]),
        columns.uuids([name for _, name in changed]),
        columns.uuids([item.creator_id for item in found]),
        columns.uuids([item.current_terms.tier_id for item in found]),
        columns.texts(item.status for item in found),
        columns.booleans([item.cancel_at_period_end for item in found]),
        columns.timestamps([item.entitled_until for item in found]),
        columns.texts(item.provider_id for item in found),
        columns.timestamps([None if state is None else state.period_start for state in seen]),
        columns.timestamps([None if state is None else state.period_end for state in seen]),
        columns.timestamps([None if state is None else state.cancelled_at for state in seen]),
        columns.timestamps([item.requested_at for item in found]),
        columns.texts(msgspec.json.encode(item).decode() for item in found),
        columns.bigints([item.version for item in found]),
        columns.booleans([item.unsettled for item in found]),
    ))


def _remember(cur: Cursor, facts: Sequence[Fact]) -> None:
    """The first event under a request's id holds it: of two in one batch too."""
    requests: dict[Place, tuple[str, str, bool, int]] = {}
    for event, version, _ in facts:
        payload = event.payload
        if isinstance(payload, SubscriptionRequested):
            request_id, upgrade = payload.subscription_id, False
        elif isinstance(payload, SubscriptionChangeRequested | SubscriptionMethodRequested | SubscriptionCancelled | SubscriptionResumed):
            request_id, upgrade = payload.request_id, isinstance(payload, SubscriptionChangeRequested) and payload.now
        else:
            continue
        requests.setdefault(
            (payload.subscriber_id, request_id), (payload.subscription_id, payload.body_digest, upgrade, version)
        )
    if requests:
        cur.execute(REQUESTS, (
            columns.uuids([subscriber for subscriber, _ in requests]),
            columns.uuids([name for _, name in requests]),
            columns.uuids([row[0] for row in requests.values()]),
            columns.texts(row[1] for row in requests.values()),
            columns.booleans([row[2] for row in requests.values()]),
            columns.bigints([row[3] for row in requests.values()]),
        ))


SINK = Sink(
    "subscriptions",
    (
        SubscriptionRequested, SubscriptionAbandoned, SubscriptionChangeRequested, SubscriptionCancelled,
        SubscriptionResumed, SubscriptionMethodRequested, SubscriptionObserved, BillRefundRequested, BillRefundAnswered,
    ),
    write,
)
