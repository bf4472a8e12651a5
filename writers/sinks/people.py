"""user.created and user.updated: one row a person, in whichever order the two topics arrive; and blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import msgspec
import psycopg

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import (
    LocationChanged,
    PreferencesChanged,
    ProfileChanged,
    UserBlocked,
    UserUnblocked,
    WasActive,
)
from configs.contracts.people import cell_number
from configs.contracts.read_model import MATCH_FIELDS
from writers import columns
from writers.records import Stored
from writers.sinks.idempotency import write_keys

CREATE = """
INSERT INTO users AS stored (id, role, display_name, birth_date, created_at)
SELECT * FROM unnest(%b, %b, %b, %b, %b)
ON CONFLICT (id) DO UPDATE SET
  role = COALESCE(stored.role, excluded.role),
  display_name = COALESCE(stored.display_name, excluded.display_name),
  birth_date = COALESCE(stored.birth_date, excluded.birth_date),
  created_at = COALESCE(stored.created_at, excluded.created_at)
"""

KNOWN = "SELECT id::text, field_versions FROM users WHERE id = ANY(%b) FOR UPDATE"

UPDATE = """
INSERT INTO users AS stored (id, display_name, bio, gender, latitude, longitude, cell, preferences, last_active_at,
                             updated_at, field_versions, version, match_version)
SELECT id, display_name, bio, gender, latitude, longitude, cell, preferences::jsonb, last_active_at,
       updated_at, field_versions::jsonb, version, match_version
FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
  AS fresh (id, display_name, bio, gender, latitude, longitude, cell, preferences, last_active_at, updated_at,
            field_versions, version, match_version)
ON CONFLICT (id) DO UPDATE SET
  display_name = COALESCE(excluded.display_name, stored.display_name),
  bio = COALESCE(excluded.bio, stored.bio),
  gender = COALESCE(excluded.gender, stored.gender),
  latitude = COALESCE(excluded.latitude, stored.latitude),
  longitude = COALESCE(excluded.longitude, stored.longitude),
  cell = COALESCE(excluded.cell, stored.cell),
  preferences = stored.preferences || excluded.preferences,
  last_active_at = GREATEST(stored.last_active_at, excluded.last_active_at),
  updated_at = GREATEST(stored.updated_at, excluded.updated_at),
  field_versions = stored.field_versions || excluded.field_versions,
  version = GREATEST(stored.version, excluded.version),
  match_version = GREATEST(stored.match_version, excluded.match_version)
"""

BLOCK = """
INSERT INTO blocks AS stored (user_id, blocked_id, active, changed_at, version)
SELECT * FROM unnest(%b, %b, %b, %b, %b)
ON CONFLICT (user_id, blocked_id) DO UPDATE
SET active = excluded.active, changed_at = excluded.changed_at, version = excluded.version
WHERE stored.version < excluded.version
"""

PREFERENCES = ("ageMin", "ageMax", "maxDistanceKm", "roles", "genders", "hideDistance", "discoverable")
BOOKKEEPING = {"userId", "idempotencyKey", "bodyDigest"}


def write_created(cur: psycopg.Cursor[Any], records: Sequence[Stored]) -> None:
    """Fills what no update has set: the two topics' positions cannot be compared, so an update always wins."""
    people = {record.event.payload.user_id: record for record in records}
    payloads = [record.event.payload for record in people.values()]
    cur.execute(CREATE, (
        columns.uuids(list(people)), columns.texts(payload.role for payload in payloads),
        columns.texts(payload.display_name for payload in payloads),
        columns.dates(_day(payload.birth_date) for payload in payloads),
        columns.timestamps([record.event.occurred_at for record in people.values()]),
    ))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidEvent("not a date") from error


@dataclass(slots=True)
class _Change:
    """What a batch sets of one person: camelCase field -> (value, version)."""

    fields: dict[str, tuple[Any, int]] = field(default_factory=dict)
    updated_at: datetime | None = None
    version: int = 0


def write_updated(cur: psycopg.Cursor[Any], records: Sequence[Stored]) -> None:
    changed: dict[str, _Change] = {}
    blocks: dict[tuple[str, str], Stored] = {}
    for record in records:
        payload = record.event.payload
        if isinstance(payload, UserBlocked | UserUnblocked):
            pair = (payload.user_id, payload.blocked_id)
            if pair not in blocks or blocks[pair].version < record.version:
                blocks[pair] = record
            continue
        change = changed.setdefault(payload.user_id, _Change())
        for name, value in _fields(payload).items():
            if name not in change.fields or change.fields[name][1] < record.version:
                change.fields[name] = (value, record.version)
        change.version = max(change.version, record.version)
        change.updated_at = max(change.updated_at or record.event.occurred_at, record.event.occurred_at)
    if changed:
        _write_fields(cur, changed)
    if blocks:
        rows = list(blocks.values())
        cur.execute(BLOCK, (
            columns.uuids([user for user, _ in blocks]), columns.uuids([other for _, other in blocks]),
            columns.booleans([isinstance(row.event.payload, UserBlocked) for row in rows]),
            columns.timestamps([row.event.occurred_at for row in rows]), columns.bigints([row.version for row in rows]),
        ))
    write_keys(cur, records)


def _fields(payload: Any) -> dict[str, Any]:
    if isinstance(payload, WasActive):
        return {"lastActiveAt": payload.active_at}
    if isinstance(payload, ProfileChanged | PreferencesChanged | LocationChanged):
        sent: dict[str, Any] = msgspec.to_builtins(payload)
        return {name: value for name, value in sent.items() if name not in BOOKKEEPING and value is not None}
    raise InvalidEvent("not a change of a person", type=type(payload).__name__)


def _write_fields(cur: psycopg.Cursor[Any], changed: dict[str, _Change]) -> None:
    """Sets each field that is newer than the stored one: a replayed dead letter may be older than what followed it."""
    for user, versions in cur.execute(KNOWN, (columns.uuids(list(changed)),)).fetchall():
        fields = changed[user].fields
        for name in [name for name, (_, version) in fields.items() if int(versions.get(name, -1)) >= version]:
            del fields[name]
    rows = list(changed.values())

    def values(name: str) -> list[Any]:
        return [row.fields[name][0] if name in row.fields else None for row in rows]

    cur.execute(UPDATE, (
        columns.uuids(list(changed)), columns.texts(values("displayName")), columns.texts(values("bio")),
        columns.texts(values("gender")), columns.nullable_doubles(values("latitude")),
        columns.nullable_doubles(values("longitude")),
        columns.nullable_bigints(None if cell is None else _cell(cell) for cell in values("cell")),
        columns.texts(
            json.dumps({name: row.fields[name][0] for name in PREFERENCES if name in row.fields}) for row in rows
        ),
        columns.timestamps(values("lastActiveAt")), columns.timestamps([row.updated_at for row in rows]),
        columns.texts(json.dumps({name: version for name, (_, version) in row.fields.items()}) for row in rows),
        columns.bigints([row.version for row in rows]),
        columns.bigints([
            max((version for name, (_, version) in row.fields.items() if name in MATCH_FIELDS), default=0) for row in rows
        ]),
    ))


def _cell(text: str) -> int:
    try:
        return cell_number(text)
    except ValueError as error:
        raise InvalidEvent("not a cell") from error
