"""What rows say of those who are to be told something."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from configs.contracts.notifying import DEVICES_A_PERSON, Preferences
from writers.connections import Connection
from writers.consumers.audience import Registration, Wishes

WISHES: Final = "SELECT id::text, status, preferences FROM users WHERE id = ANY(%s::uuid[])"
CROWDED: Final = """
SELECT user_id::text, id::text, registration::text
FROM (
    SELECT user_id, id, registration, row_number() OVER (PARTITION BY user_id ORDER BY registered_at DESC, id) AS place
    FROM device_tokens WHERE user_id = ANY(%s::uuid[]) AND removed_at IS NULL
) AS devices
WHERE place > %s
"""
OF_SESSIONS: Final = """
SELECT family_id::text, id::text, registration::text FROM device_tokens
WHERE family_id = ANY(%s::uuid[]) AND removed_at IS NULL
"""
ENDED: Final = "SELECT family_id::text FROM sessions WHERE family_id = ANY(%s::uuid[]) AND revoked_at IS NOT NULL"

LAPSED: Final = """
SELECT family_id::text FROM sessions WHERE family_id = ANY(%s::uuid[]) AND (revoked_at IS NOT NULL OR expires_at <= now())
"""


def wishes_of(conn: Connection, user_ids: Collection[str]) -> Wishes:
    """What these people want to be told; whoever has no row yet is missing."""
    if not user_ids:
        return {}
    return {
        user_id: msgspec.convert(preferences, Preferences) if status == "active" else None
        for user_id, status, preferences in conn.execute(WISHES, (sorted(user_ids),))
    }


def too_many_devices(conn: Connection, user_ids: Iterable[str]) -> dict[str, tuple[Registration, ...]]:
    """Person -> the devices beyond the newest ten."""
    found: dict[str, tuple[Registration, ...]] = {}
    for user_id, device_id, registration in conn.execute(CROWDED, (sorted(set(user_ids)), DEVICES_A_PERSON)):
        found[user_id] = (*found.get(user_id, ()), Registration(device_id, registration))
    return found


def devices_of_sessions(conn: Connection, family_ids: Iterable[str]) -> dict[str, tuple[Registration, ...]]:
    """Session -> the devices that it registered and that are still its person's."""
    found: dict[str, tuple[Registration, ...]] = {}
    for family_id, device_id, registration in conn.execute(OF_SESSIONS, (sorted(set(family_ids)),)):
        found[family_id] = (*found.get(family_id, ()), Registration(device_id, registration))
    return found


def ended_sessions(conn: Connection, family_ids: Iterable[str]) -> set[str]:
    """Those of the sessions that have ended."""
    return {family_id for (family_id,) in conn.execute(ENDED, (sorted(set(family_ids)),))}


def lapsed_sessions(conn: Connection, family_ids: Iterable[str]) -> set[str]:
    """Those of the sessions that have ended or, by the rows, expired; one that the rows do not know yet is not among them."""
    return {family_id for (family_id,) in conn.execute(LAPSED, (sorted(set(family_ids)),))}
