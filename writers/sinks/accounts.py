"""The events of auth.accounts -> credentials: the claim on an address and what its holder signs in with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from configs.contracts.accounts import AccountRow, Security, after
from configs.contracts.events import (
    AccountRegistered,
    AddressChanged,
    AddressChangeRequested,
    AddressClaimed,
    AddressReleased,
    AddressTokenRequested,
    AddressVerified,
    IdentityLinked,
    PasskeyAdded,
    PasskeyRemoved,
    PasskeyUsed,
    PasswordRehashed,
    PasswordSet,
    RoleGranted,
    SecondFactorUsed,
    SessionsEnded,
    StandingSet,
    TotpDisabled,
    TotpEnabled,
)
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, hash_as_id, parsed_id

COLUMNS = (
    "email_hash::text, user_id::text, password_hash, version, email, claimed_at, status, verified_at, sessions_from, "
    "kept_family::text, security, permission_role, standing_number"
)
READ = f"SELECT {COLUMNS} FROM credentials WHERE email_hash = ANY(%s)"  # noqa: S608
WRITE = """
INSERT INTO credentials AS stored
    (email_hash, user_id, email, password_hash, claimed_at, version, verified_at, sessions_from, kept_family, ended_at, security,
     status, permission_role, standing_number)
SELECT email_hash, user_id, email, password_hash, claimed_at, version, verified_at, sessions_from, kept_family, ended_at,
       security::jsonb, status, permission_role, standing_number
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch
    (email_hash, user_id, email, password_hash, claimed_at, version, verified_at, sessions_from, kept_family, ended_at, security,
     status, permission_role, standing_number)
ON CONFLICT (email_hash) DO UPDATE
SET user_id = excluded.user_id, email = excluded.email, password_hash = excluded.password_hash,
    claimed_at = excluded.claimed_at, version = excluded.version, verified_at = excluded.verified_at,
    sessions_from = excluded.sessions_from, kept_family = excluded.kept_family,
    ended_at = coalesce(excluded.ended_at, stored.ended_at), security = excluded.security,
    status = excluded.status, permission_role = excluded.permission_role, standing_number = excluded.standing_number
WHERE stored.version < excluded.version
"""


def read_account(row: Sequence[object]) -> AccountRow:
    """The account of a row of ``COLUMNS``."""
    email_hash, *facts, security, permission_role, number = row
    values: list[Any] = [UUID(str(email_hash)).hex, *facts, msgspec.convert(security, Security), permission_role, number]
    return AccountRow(*values)


def fold(stored: Mapping[str, AccountRow], facts: Iterable[Fact]) -> dict[str, AccountRow]:
    """The accounts after the facts, by address; only those that changed."""
    changed: dict[str, AccountRow] = {}
    for event, version, _ in facts:
        address = hash_as_id(event.payload.email_hash)
        before = changed.get(address) or stored.get(address)
        if isinstance(event.payload, AccountRegistered | AddressClaimed):
            parsed_id(event.payload.user_id)
        account = after(before, event, version)
        if account is not None and account is not before:
            changed[address] = account
    return changed


def _ended(changed: Mapping[str, AccountRow], facts: Sequence[Fact]) -> list[datetime | None]:
    """When the sessions of each changed account ended, where one of the facts ended them."""
    at = {fact.version: fact.event.occurred_at for fact in facts}
    return [at.get(account.sessions_from) for account in changed.values()]


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    addresses = sorted({hash_as_id(fact.event.payload.email_hash) for fact in facts})
    rows = cur.execute(READ, (columns.uuids(addresses),)).fetchall()
    stored = {row[0]: read_account(row) for row in rows}
    changed = fold(stored, facts)
    if changed:
        accounts = changed.values()
        cur.execute(
            WRITE,
            (
                columns.uuids(list(changed)),
                columns.uuids([account.user_id for account in accounts]),
                columns.texts(account.email for account in accounts),
                columns.texts(account.password_hash for account in accounts),
                columns.timestamps([account.claimed_at for account in accounts]),
                columns.bigints([account.version for account in accounts]),
                columns.timestamps([account.verified_at for account in accounts]),
                columns.bigints([account.sessions_from for account in accounts]),
                columns.uuids([account.kept_family for account in accounts]),
                columns.timestamps(_ended(changed, facts)),
                columns.texts(msgspec.json.encode(account.security).decode() for account in accounts),
                columns.texts(account.status for account in accounts),
                columns.texts(account.permission_role for account in accounts),
                columns.bigints([account.standing_number for account in accounts]),
            ),
        )
    return len(changed)


SINK = Sink(
    "accounts",
    (AccountRegistered, PasswordRehashed, AddressTokenRequested, AddressVerified, PasswordSet, SessionsEnded, IdentityLinked,
     AddressChangeRequested, AddressClaimed, AddressChanged, AddressReleased,
     TotpEnabled, TotpDisabled, SecondFactorUsed, PasskeyAdded, PasskeyUsed, PasskeyRemoved, RoleGranted, StandingSet),
    write,
)
