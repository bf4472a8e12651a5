"""What creators asked to have paid out and what came of it -> payouts: the fold that shards make too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from configs.contracts.events import PaymentObserved, PayoutAnswered, PayoutRecorded, PayoutRequested
from configs.contracts.payouts import Payout, Payouts, payout_of, payouts_after
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

READ = "SELECT creator_id::text, state::text FROM payouts WHERE creator_id = ANY(%s)"
WRITE = """
INSERT INTO payouts AS stored
    (creator_id, id, amount_minor, currency, livemode, status, provider_payout_id, requested_at, due, state, version)
SELECT creator, id, amount, currency, livemode, status, provider_payout_id, requested_at, due, state::jsonb, version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch
    (creator, id, amount, currency, livemode, status, provider_payout_id, requested_at, due, state, version)
ON CONFLICT (creator_id, id) DO UPDATE
SET status = excluded.status, provider_payout_id = excluded.provider_payout_id, due = excluded.due, state = excluded.state,
    version = excluded.version
WHERE stored.version < excluded.version
"""
_STATES = msgspec.json.Decoder(Payout)


def read_payout(state: str) -> Payout:
    """The payout of the column ``state``."""
    return _STATES.decode(state)


def stored_payouts(cur: Cursor, creator_ids: Sequence[str]) -> Mapping[str, Payouts]:
    """By creator all payouts of the rows; creators without any are missing."""
    held: defaultdict[str, list[Payout]] = defaultdict(list)
    for creator_id, state in cur.execute(READ, ([UUID(text) for text in creator_ids],)).fetchall():
        held[creator_id].append(read_payout(state))
    return {
        creator_id: Payouts(
            tuple(sorted(items, key=lambda item: (item.requested_at, item.asked.payout_id))), max(item.version for item in items)
        )
        for creator_id, items in held.items()
    }


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    told = [fact for fact in facts if payout_of(fact.event) is not None]
    if not told:
        return 0
    stored = stored_payouts(cur, sorted({fact.event.key for fact in told}))
    after: dict[str, Payouts | None] = dict(stored)
    for event, version, _ in told:
        after[event.key] = payouts_after(after.get(event.key), event, version)
    changed = [
        item for creator_id, held in after.items() if held is not None
        for item in held.items if item not in (stored[creator_id].items if creator_id in stored else ())
    ]
    if changed:
        _store(cur, changed)
    return len(changed)


def _store(cur: Cursor, payouts: Sequence[Payout]) -> None:
    asked = [payout.asked for payout in payouts]
    due: list[datetime | None] = [None if payout.answered else payout.requested_at for payout in payouts]
    cur.execute(WRITE, (
        columns.uuids([item.creator_id for item in asked]),
        columns.uuids([item.payout_id for item in asked]),
        columns.bigints([item.amount_minor for item in asked]),
        columns.texts(item.currency for item in asked),
        columns.booleans([item.livemode for item in asked]),
        columns.texts(payout.status for payout in payouts),
        columns.texts(payout.object_id for payout in payouts),
        columns.timestamps([payout.requested_at for payout in payouts]),
        columns.timestamps(due),
        columns.texts(msgspec.json.encode(payout).decode() for payout in payouts),
        columns.bigints([payout.version for payout in payouts]),
    ))


SINK = Sink("payouts", (PayoutRequested, PayoutAnswered, PayoutRecorded, PaymentObserved), write)
