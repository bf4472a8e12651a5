"""identity_claimed, identity_used -> identities: whose a provider's identity is, and the nonces used lately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from configs.contracts.accounts import IdentityRow, identity_after
from configs.contracts.events import IdentityClaimed, IdentityUsed
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, hash_as_id

COLUMNS = "identity_hash::text, user_id::text, email_hash::text, version, issuer, subject, nonces"
READ = f"SELECT {COLUMNS} FROM identities WHERE identity_hash = ANY(%s)"  # noqa: S608
WRITE = """
INSERT INTO identities AS stored (identity_hash, user_id, email_hash, version, issuer, subject, nonces)
SELECT identity_hash, user_id, email_hash, version, issuer, subject, nonces::jsonb
FROM unnest(%s, %s, %s, %s, %s, %s, %s) AS batch
    (identity_hash, user_id, email_hash, version, issuer, subject, nonces)
ON CONFLICT (identity_hash) DO UPDATE
SET user_id = excluded.user_id, email_hash = excluded.email_hash, nonces = excluded.nonces, version = excluded.version
WHERE stored.version < excluded.version
"""
Nonces = tuple[tuple[str, datetime], ...]


def read_identity(row: Sequence[Any]) -> IdentityRow:
    """The identity of a row of ``COLUMNS``."""
    hashed, user_id, email_hash, version, issuer, subject, nonces = row
    return IdentityRow(
        UUID(hashed).hex, user_id, UUID(email_hash).hex, version, issuer, subject, msgspec.convert(nonces, Nonces)
    )


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    names = sorted({hash_as_id(fact.event.payload.identity_hash) for fact in facts})
    stored: Mapping[str, IdentityRow] = {
        row[0]: read_identity(row) for row in cur.execute(READ, (columns.uuids(names),)).fetchall()
    }
    changed: dict[str, IdentityRow] = {}
    for event, version, _ in facts:
        name = hash_as_id(event.payload.identity_hash)
        before = changed.get(name) or stored.get(name)
        identity = identity_after(before, event, version)
        if identity is not None and identity is not before:
            changed[name] = identity
    if changed:
        rows = changed.values()
        cur.execute(
            WRITE,
            (
                columns.uuids(list(changed)),
                columns.uuids([row.user_id for row in rows]),
                columns.uuids([hash_as_id(row.email_hash) for row in rows]),
                columns.bigints([row.version for row in rows]),
                columns.texts(row.issuer for row in rows),
                columns.texts(row.subject for row in rows),
                columns.texts(msgspec.json.encode(row.nonces).decode() for row in rows),
            ),
        )
    return len(changed)


SINK = Sink("identities", (IdentityClaimed, IdentityUsed), write)
