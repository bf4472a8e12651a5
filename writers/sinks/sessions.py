"""session_started, session_rotated, session_revoked -> sessions: one row a token family.

Merging is commutative, as in the shard: the highest counter wins, a revocation stays. So a start that is derived
again after a rotation changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import SessionRevoked, SessionRotated, SessionStarted
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, hash_as_id, parsed_id

UNSTARTED = -1
READ = """
SELECT family_id::text, user_id::text, counter, token_hash, rotated_at, expires_at, revoked_at, revoked_reason,
       version, email_hash::text, sessions_from, signed_in_at, client
FROM sessions WHERE family_id = ANY(%s)
"""
WRITE = """
INSERT INTO sessions AS stored
    (family_id, user_id, counter, token_hash, rotated_at, expires_at, revoked_at, revoked_reason, version,
     email_hash, sessions_from, signed_in_at, client)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (family_id) DO UPDATE
SET counter = excluded.counter, token_hash = excluded.token_hash, rotated_at = excluded.rotated_at,
    expires_at = excluded.expires_at, revoked_at = excluded.revoked_at, revoked_reason = excluded.revoked_reason,
    version = excluded.version, email_hash = excluded.email_hash, sessions_from = excluded.sessions_from,
    signed_in_at = excluded.signed_in_at, client = excluded.client
"""


@dataclass(frozen=True, slots=True)
class Family:
    """One token family; ``version`` is that of the newest event that named it."""

    user_id: str
    counter: int = UNSTARTED
    token_hash: bytes | None = None
    rotated_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    version: int = 0
    email_hash: str | None = None
    """In the text of a 16-byte value."""
    sessions_from: int = 0
    signed_in_at: datetime | None = None
    client: str | None = None


def fold(stored: Mapping[str, Family], facts: Iterable[Fact]) -> dict[str, Family]:
    """The families after the facts; only those that changed."""
    changed: dict[str, Family] = {}
    for event, version, _ in facts:
        payload = event.payload
        before = changed.get(payload.family_id) or stored.get(payload.family_id)
        family = before or Family(payload.user_id)
        if isinstance(payload, SessionRevoked):
            if family.revoked_at is None or event.occurred_at < family.revoked_at:
                family = replace(family, revoked_at=event.occurred_at, revoked_reason=payload.reason)
        else:
            counter = payload.counter if isinstance(payload, SessionRotated) else 0
            if counter > family.counter:
                family = replace(
                    family, user_id=payload.user_id, counter=counter, token_hash=_digest(payload.token_hash),
                    rotated_at=event.occurred_at, expires_at=payload.expires_at,
                )
            if isinstance(payload, SessionStarted):
                family = _began(family, payload)
        family = replace(family, version=max(family.version, version))
        if family != before:
            changed[payload.family_id] = family
    return changed


def _began(family: Family, payload: SessionStarted) -> Family:
    """How the family began; what is known stays (a start that is derived again knows no client)."""
    if family.email_hash is None and payload.email_hash is not None:
        family = replace(
            family, email_hash=hash_as_id(payload.email_hash), sessions_from=payload.sessions_from,
            signed_in_at=payload.signed_in_at,
        )
    return replace(family, client=family.client or payload.client)


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InvalidEvent("not a token hash") from error


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    ids = sorted({fact.event.payload.family_id for fact in facts})
    stored = {row[0]: Family(*row[1:]) for row in cur.execute(READ, (columns.uuids(ids),)).fetchall()}
    for fact in facts:
        parsed_id(fact.event.payload.user_id)
    changed = fold(stored, facts)
    if changed:
        families = changed.values()
        cur.execute(
            WRITE,
            (
                columns.uuids(list(changed)),
                columns.uuids([family.user_id for family in families]),
                columns.integers([family.counter for family in families]),
                columns.byte_strings(family.token_hash for family in families),
                columns.timestamps([family.rotated_at for family in families]),
                columns.timestamps([family.expires_at for family in families]),
                columns.timestamps([family.revoked_at for family in families]),
                columns.texts(family.revoked_reason for family in families),
                columns.bigints([family.version for family in families]),
                columns.uuids([family.email_hash for family in families]),
                columns.bigints([family.sessions_from for family in families]),
                columns.timestamps([family.signed_in_at for family in families]),
                columns.texts(family.client for family in families),
            ),
        )
    return len(changed)


SINK = Sink("sessions", (SessionStarted, SessionRotated, SessionRevoked), write)
