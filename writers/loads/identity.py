"""Claims on addresses, token families and remembered requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from configs.contracts.accounts import IdentityRow
from configs.contracts.loading import AccountRow, IdempotencyRow, SessionRow
from configs.contracts.read_model import SESSIONS_SHOWN, Operation, SessionEntry, put_sessions
from writers.connections import Connection
from writers.sinks.accounts import COLUMNS, read_account
from writers.sinks.identities import COLUMNS as IDENTITY_COLUMNS
from writers.sinks.identities import read_identity

REMEMBERED = 64

ACCOUNTS = f"""
SELECT {COLUMNS} FROM credentials WHERE email_hash = ANY(%s)
"""  # noqa: S608

IDENTITIES = f"SELECT {IDENTITY_COLUMNS} FROM identities WHERE identity_hash = ANY(%s)"  # noqa: S608

SESSIONS = """
SELECT family_id, user_id::text, counter, token_hash, coalesce(rotated_at, revoked_at), expires_at,
       revoked_at IS NOT NULL, version, email_hash, sessions_from, signed_in_at
FROM sessions WHERE family_id = ANY(%s)
"""

SIGNED_IN = """
SELECT person.id::text, newest.* FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT family_id::text, signed_in_at, rotated_at, expires_at, client, sessions.sessions_from
    FROM sessions LEFT JOIN credentials ON credentials.email_hash = sessions.email_hash
    WHERE sessions.user_id = person.id AND revoked_at IS NULL AND expires_at > now()
      AND (sessions.sessions_from >= coalesce(credentials.sessions_from, 0) OR family_id = kept_family)
    ORDER BY signed_in_at DESC NULLS LAST LIMIT %s
) AS newest
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
    rows = conn.execute(ACCOUNTS, ([UUID(text) for text in email_hashes],)).fetchall()
    return {account.email_hash: account for account in map(read_account, rows)}


def identities(conn: Connection, hashes: Sequence[str]) -> Mapping[str, IdentityRow]:
    """Only identities that have an account; keyed as they were asked for."""
    rows = conn.execute(IDENTITIES, ([UUID(text) for text in hashes],)).fetchall()
    return {identity.identity_hash: identity for identity in map(read_identity, rows)}


def sessions(conn: Connection, family_ids: Sequence[str]) -> Mapping[str, SessionRow]:
    """Only known families. One that was revoked before its start arrived has counter -1 and no token."""
    asked = {UUID(text): text for text in family_ids}
    return {
        asked[family_id]: SessionRow(
            asked[family_id], user_id, counter, bytes(token_hash or b"").hex(), rotated_at or _NEVER,
            expires_at or _NEVER, revoked, version, None if email_hash is None else email_hash.hex, sessions_from, signed_in_at,
        )
        for family_id, user_id, counter, token_hash, rotated_at, expires_at, revoked, version, email_hash, sessions_from, signed_in_at
        in conn.execute(SESSIONS, (list(asked),)).fetchall()
    }


def signed_in(conn: Connection, user_ids: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the people who are signed in somewhere, the operations that cache where), the newest sessions first."""
    entries: dict[str, list[SessionEntry]] = {}
    for user_id, *facts in conn.execute(SIGNED_IN, ([UUID(text) for text in user_ids], SESSIONS_SHOWN)).fetchall():
        entries.setdefault(user_id, []).append(SessionEntry(*facts))
    return list(entries), [put_sessions(user_id, found) for user_id, found in entries.items()]


def requests(conn: Connection, owner_ids: Sequence[str]) -> Mapping[str, Sequence[IdempotencyRow]]:
    """The newest 64 of each owner from the last 24 hours, oldest first."""
    asked = {UUID(text): text for text in owner_ids}
    found: dict[str, list[IdempotencyRow]] = {}
    for owner, key, body_digest, event_id, at in conn.execute(REQUESTS, (list(asked), REMEMBERED)).fetchall():
        found.setdefault(asked[owner], []).append(IdempotencyRow(key, body_digest, event_id, at))
    return found
