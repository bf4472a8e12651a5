"""Everything that moderators and administrators do -> audit_log: one row an act, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from configs.contracts.events import (
    AppealDecided,
    BillRefundRequested,
    CaseDecided,
    DecisionAppealed,
    Event,
    EvidenceSeen,
    PayoutRecorded,
    RefundRequested,
    RoleGranted,
    StandingSet,
)
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

INSERT = """
INSERT INTO audit_log (target_id, id, at, actor, action, details)
SELECT target_id, id, at, actor, action, details::jsonb
FROM unnest(%s, %s, %s, %s, %s, %s) AS batch (target_id, id, at, actor, action, details)
ON CONFLICT (target_id, id) DO NOTHING
"""

Act = tuple[str, str, str, dict[str, Any]]
"""(target, actor, action, details)."""


def _act(event: Event) -> Act:
    payload = event.payload
    if isinstance(payload, RoleGranted):
        return payload.user_id, payload.granted_by, f"grant {payload.role}", {}
    if isinstance(payload, StandingSet):
        return payload.user_id, "platform", f"account {payload.status}", {"causeId": payload.cause_id, "number": payload.number}
    if isinstance(payload, CaseDecided):
        details = {"decisionId": payload.decision_id, "targetType": payload.target_type, "category": payload.category}
        return payload.target_id, payload.decided_by, payload.action, details
    if isinstance(payload, DecisionAppealed):
        return payload.target_id, f"person:{payload.appellant_id}", "appeal", {"decisionId": payload.decision_id}
    if isinstance(payload, EvidenceSeen):
        return payload.target_id, payload.seen_by, "see", {}
    if isinstance(payload, RefundRequested):
        asked: dict[str, Any] = {"paymentId": payload.payment_id, "amountMinor": payload.amount_minor, "reason": payload.reason}
        return payload.payer_id, payload.requested_by, "refund", asked
    if isinstance(payload, BillRefundRequested):
        bill: dict[str, Any] = {
            "subscriptionId": payload.subscription_id, "billId": payload.bill_id, "amountMinor": payload.amount_minor,
            "reason": payload.reason,
        }
        return payload.subscriber_id, payload.requested_by, "refund", bill
    if isinstance(payload, PayoutRecorded):
        return payload.creator_id, payload.recorded_by, f"payout {payload.outcome}", {
            "payoutId": payload.payout_id, "reference": payload.reference,
        }
    return payload.target_id, payload.decided_by, f"appeal {payload.outcome}", {"decisionId": payload.decision_id}


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    acts = [_act(fact.event) for fact in facts]
    cur.execute(INSERT, (
        columns.uuids([target for target, *_ in acts]),
        columns.uuids([fact.event.event_id for fact in facts]),
        columns.timestamps([fact.event.occurred_at for fact in facts]),
        columns.texts(actor for _, actor, _, _ in acts),
        columns.texts(action for _, _, action, _ in acts),
        columns.texts(msgspec.json.encode(details).decode() for *_, details in acts),
    ))
    return len(facts)


SINK = Sink(
    "audit", (
        RoleGranted, StandingSet, CaseDecided, DecisionAppealed, AppealDecided, EvidenceSeen, RefundRequested, BillRefundRequested,
        PayoutRecorded,
    ), write
)
