"""webhook_received -> webhook_events; payment_observed, subscription_observed -> provider_facts: each once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from configs.contracts.events import PaymentObserved, SubscriptionObserved, WebhookReceived
from configs.contracts.payment_facts import SubscriptionState
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

RECEIVED = """
INSERT INTO webhook_events (object_id, provider, provider_event_id, kind, livemode, created_at, received_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (object_id, provider, provider_event_id) DO NOTHING
"""

OBSERVED = """
INSERT INTO provider_facts (owner_id, id, provider, kind, object_id, livemode, as_of, fact, version)
SELECT owner_id, id, provider, kind, object_id, livemode, as_of, fact::jsonb, version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s)
     AS batch (owner_id, id, provider, kind, object_id, livemode, as_of, fact, version)
ON CONFLICT (owner_id, id) DO NOTHING
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    webhooks = [fact for fact in facts if isinstance(fact.event.payload, WebhookReceived)]
    # Money of a subscription stands on its shard's topic too; it is kept once.
    observed = [
        fact for fact in facts
        if isinstance(fact.event.payload, PaymentObserved)
        or (isinstance(fact.event.payload, SubscriptionObserved) and isinstance(fact.event.payload.fact, SubscriptionState))
    ]
    if webhooks:
        _received(cur, webhooks)
    if observed:
        _observed(cur, observed)
    return len(webhooks) + len(observed)


def _received(cur: Cursor, facts: Sequence[Fact]) -> None:
    payloads = [fact.event.payload for fact in facts]
    cur.execute(RECEIVED, (
        columns.texts(payload.object_id for payload in payloads),
        columns.texts(payload.provider for payload in payloads),
        columns.texts(payload.provider_event_id for payload in payloads),
        columns.texts(payload.kind for payload in payloads),
        columns.booleans([payload.livemode for payload in payloads]),
        columns.timestamps([payload.created_at for payload in payloads]),
        columns.timestamps([fact.event.occurred_at for fact in facts]),
        columns.bigints([fact.version for fact in facts]),
    ))


def _observed(cur: Cursor, facts: Sequence[Fact]) -> None:
    seen = [fact.event.payload.fact for fact in facts]
    cur.execute(OBSERVED, (
        columns.uuids([fact.event.payload.owner_id for fact in facts]),
        columns.uuids([fact.event.event_id for fact in facts]),
        columns.texts(fact.provider for fact in seen),
        columns.texts(fact.kind for fact in seen),
        columns.texts(fact.object_id for fact in seen),
        columns.booleans([fact.livemode for fact in seen]),
        columns.timestamps([fact.as_of for fact in seen]),
        columns.texts(msgspec.json.encode(fact).decode() for fact in seen),
        columns.bigints([fact.version for fact in facts]),
    ))


SINK = Sink("provider_facts", (WebhookReceived, PaymentObserved, SubscriptionObserved), write)
