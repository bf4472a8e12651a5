"""payment_observed -> transactions, ledger_entries: what each payment's facts mean, balanced.

Made anew from all facts of the payment, which ``provider_facts`` stored just before in the same transaction: so neither
order nor repetition matters. All facts of an owner come by one partition, so nobody else writes these rows meanwhile.
The database refuses a transaction whose entries do not sum to zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from configs.contracts.events import PaymentObserved
from configs.contracts.ledger import Transaction, subject_of, transactions_of
from configs.contracts.payment_facts import PaymentFact
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

FACTS = """
SELECT owner_id::text, subject, fact::text
FROM provider_facts JOIN unnest(%s, %s) AS named (owner, subject)
     ON owner_id = owner AND coalesce(fact ->> 'paymentId', object_id) = subject
"""
FORGET = """
DELETE FROM ledger_entries USING unnest(%s, %s) AS batch (owner, name)
WHERE owner_id = owner AND transaction_id = name
"""
STALE = """
WITH stale AS (
    DELETE FROM transactions USING unnest(%(owners)s, %(subjects)s) AS batch (owner, subject)
    WHERE owner_id = owner AND payment_id = subject AND id <> ALL(%(made)s) RETURNING owner_id, id
)
DELETE FROM ledger_entries USING stale WHERE ledger_entries.owner_id = stale.owner_id AND transaction_id = stale.id
"""
"""What the facts do not mean any more: a refund that a bank sent back."""
TRANSACTIONS = """
INSERT INTO transactions AS stored
    (owner_id, id, payee_id, kind, provider, livemode, payment_id, amount_minor, currency, occurred_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (owner_id, id) DO UPDATE
SET amount_minor = excluded.amount_minor, occurred_at = excluded.occurred_at,
    version = greatest(stored.version, excluded.version)
"""
ENTRIES = """
INSERT INTO ledger_entries (owner_id, transaction_id, account, party_id, amount_minor, currency, livemode, available_at)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s)
"""
_FACTS: Final = msgspec.json.Decoder(PaymentFact)


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    subjects: dict[tuple[str, str], int] = {}
    for event, version, _ in facts:
        subject = subject_of(event.payload.fact)
        if subject is not None:
            subjects[event.payload.owner_id, subject] = version
    if not subjects:
        return 0
    cur.execute(FACTS, (columns.uuids([owner for owner, _ in subjects]), columns.texts(subject for _, subject in subjects)))
    known: defaultdict[tuple[str, str], list[PaymentFact]] = defaultdict(list)
    for owner, subject, text in cur.fetchall():
        known[owner, subject].append(_FACTS.decode(text))
    made = [(item, subjects[place]) for place, about in known.items() for item in transactions_of(about)]
    cur.execute(STALE, {
        "owners": columns.uuids([owner for owner, _ in subjects]), "subjects": columns.texts(subject for _, subject in subjects),
        "made": columns.uuids([item.transaction_id for item, _ in made]),
    })
    if made:
        _store(cur, made)
    return len(made)


def _store(cur: Cursor, made: Sequence[tuple[Transaction, int]]) -> None:
    items = [item for item, _ in made]
    owners, names = columns.uuids([item.owner_id for item in items]), columns.uuids([item.transaction_id for item in items])
    cur.execute(FORGET, (owners, names))
    cur.execute(TRANSACTIONS, (
        owners, names,
        columns.uuids([item.payee_id for item in items]),
        columns.texts(item.kind for item in items),
        columns.texts(item.provider for item in items),
        columns.booleans([item.livemode for item in items]),
        columns.texts(item.payment_id for item in items),
        columns.bigints([item.amount_minor for item in items]),
        columns.texts(item.currency for item in items),
        columns.timestamps([item.occurred_at for item in items]),
        columns.bigints([version for _, version in made]),
    ))
    sides = [(item, entry) for item in items for entry in item.entries]
    cur.execute(ENTRIES, (
        columns.uuids([item.owner_id for item, _ in sides]),
        columns.uuids([item.transaction_id for item, _ in sides]),
        columns.texts(entry.account for _, entry in sides),
        columns.uuids([entry.party_id for _, entry in sides]),
        columns.bigints([entry.amount_minor for _, entry in sides]),
        columns.texts(item.currency for item, _ in sides),
        columns.booleans([item.livemode for item, _ in sides]),
        columns.timestamps([entry.available_at for _, entry in sides]),
    ))


SINK = Sink("ledger", (PaymentObserved,), write)
