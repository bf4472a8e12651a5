"""account_registered, password_rehashed -> credentials: the claim on an address and its password hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from configs.contracts.events import AccountRegistered, PasswordRehashed
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, hash_as_id, parsed_id

READ = """
SELECT email_hash::text, user_id::text, email, password_hash, claimed_at, version
FROM credentials WHERE email_hash = ANY(%s) ORDER BY email_hash FOR UPDATE
"""
WRITE = """
INSERT INTO credentials AS stored (email_hash, user_id, email, password_hash, claimed_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s)
ON CONFLICT (email_hash) DO UPDATE SET password_hash = excluded.password_hash, version = excluded.version
WHERE stored.version < excluded.version
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who holds an address; ``version`` is that of the newest event that named the address."""

    user_id: str
    email: str
    password_hash: str | None
    claimed_at: datetime
    version: int


def fold(stored: Mapping[str, Claim], facts: Iterable[Fact]) -> dict[str, Claim]:
    """The claims after the facts; only those that changed. The first registration in the log holds the address."""
    changed: dict[str, Claim] = {}
    for event, version, _ in facts:
        payload = event.payload
        address = hash_as_id(payload.email_hash)
        claim = changed.get(address) or stored.get(address)
        if claim is None:
            if isinstance(payload, AccountRegistered):
                parsed_id(payload.user_id)
                changed[address] = Claim(
                    payload.user_id, payload.email, payload.password_hash, event.occurred_at, version
                )
            continue
        if version <= claim.version:
            continue
        if isinstance(payload, PasswordRehashed) and payload.user_id == claim.user_id:
            claim = replace(claim, password_hash=payload.password_hash)
        changed[address] = replace(claim, version=version)
    return changed


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    addresses = sorted({hash_as_id(fact.event.payload.email_hash) for fact in facts})
    stored = {row[0]: Claim(*row[1:]) for row in cur.execute(READ, (columns.uuids(addresses),)).fetchall()}
    changed = fold(stored, facts)
    if changed:
        claims = changed.values()
        cur.execute(
            WRITE,
            (
                columns.uuids(list(changed)),
                columns.uuids([claim.user_id for claim in claims]),
                columns.texts(claim.email for claim in claims),
                columns.texts(claim.password_hash for claim in claims),
                columns.timestamps([claim.claimed_at for claim in claims]),
                columns.bigints([claim.version for claim in claims]),
            ),
        )
    return len(changed)


SINK = Sink("accounts", (AccountRegistered, PasswordRehashed), write)
