"""Claims on addresses, token families and remembered requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from configs.contracts.loading import AccountRow, IdempotencyRow, SessionRow
from writers.connections import Connection

REMEMBERED = 64

ACCOUNTS = """
SELECT email_hash, user_id::text, password_hash, version FROM credentials WHERE email_hash = ANY(%s)
"""

SESSIONS = """
SELECT family_id, user_id::text, counter, token_hash, coalesce(rotated_at, revoked_at), expires_at,
       revoked_at IS NOT NULL, version
FROM sessions WHERE family_id = ANY(%s)
"""

REQUESTS = """
SELECT owner, key, body_digest, event_id::text, created_at FROM (
    SELECT *, row_number() OVER (PARTITION BY owner ORDER BY created_at DESC, event_id DESC) AS place
    FROM idempotency_keys WHERE owner = ANY(%s) AND created_at > now() - interval '24 hours'
) AS newest WHERE place <= %s ORDER BY owner, created_at, event_id
"""

_NEVER = datetime.min.replace(tzinfo=UTC)


def accounts(conn: Connection, email_hashes: Sequence[str]) -> Mapping[str, AccountRow]:
    """Only claimed addresses; keyed as they were asked for."""
    asked = {UUID(text): text for text in email_hashes}
    return {
        asked[email_hash]: AccountRow(asked[email_hash], user_id, password_hash, version)
        for email_hash, user_id, password_hash, version in conn.execute(ACCOUNTS, (list(asked),)).fetchall()
    }


def sessions(conn: Connection, family_ids: Sequence[str]) -> Mapping[str, SessionRow]:
    """Only known families. One that was revoked before its start arrived has counter -1 and no token."""
    asked = {UUID(text): text for text in family_ids}
    return {
        asked[family_id]: SessionRow(
            asked[family_id], user_id, counter, bytes(token_hash or b"").hex(), rotated_at or _NEVER,
            expires_at or _NEVER, revoked, version,
        )
        for family_id, user_id, counter, token_hash, rotated_at, expires_at, revoked, version
        in conn.execute(SESSIONS, (list(asked),)).fetchall()
    }


def requests(conn: Connection, owner_ids: Sequence[str]) -> Mapping[str, Sequence[IdempotencyRow]]:
    """The newest 64 of each owner from the last 24 hours, oldest first."""
    asked = {UUID(text): text for text in owner_ids}
    found: dict[str, list[IdempotencyRow]] = {}
    for owner, key, body_digest, event_id, at in conn.execute(REQUESTS, (list(asked), REMEMBERED)).fetchall():
        found.setdefault(asked[owner], []).append(IdempotencyRow(key, body_digest, event_id, at))
    return found
