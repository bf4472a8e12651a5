"""Pages of people for the card shards: one fixed-size record a person, decoded by numpy."""

from __future__ import annotations

from datetime import date
from typing import Final

import numpy as np

from configs.contracts.loading import UNKNOWN_ROLE, PackedIds, PeopleRows
from configs.contracts.people import GENDER_CODES, ROLE_CODES
from configs.contracts.read_model import UserRecord
from writers.connections import Connection

FIRST = "00000000-0000-0000-0000-000000000000"
_DEFAULT: Final = UserRecord(user_id=FIRST)
_DAYS_TO_2000: Final = (date(2000, 1, 1) - date(1970, 1, 1)).days

_RECORD: Final = np.dtype([
    ("id", "V16"), ("latitude", ">f8"), ("longitude", ">f8"), ("cell", ">u8"), ("birth_day", ">i4"), ("role", ">i2"),
    ("gender", ">i2"), ("age_min", ">i2"), ("age_max", ">i2"), ("distance", ">i2"), ("role_mask", ">i2"),
    ("gender_mask", ">i2"), ("discoverable", "u1"), ("verified", "u1"), ("last_active_s", ">i8"), ("version", ">u8"),
    ("match_version", ">u8"),
])


def _code(column: str, codes: dict[str, int], otherwise: int) -> str:
    cases = " ".join(f"WHEN '{name}' THEN {code}" for name, code in codes.items())
    return f"CASE {column} {cases} ELSE {otherwise} END"


def _mask(column: str, codes: dict[str, int]) -> str:
    """The bits of the names that a JSON array holds; a NULL array gives 0."""
    return " + ".join(f"CASE WHEN {column} ? '{name}' THEN {1 << code} ELSE 0 END" for name, code in codes.items())


_ROLES: Final = dict(ROLE_CODES)
_GENDERS: Final = {name: code for name, code in GENDER_CODES.items() if name is not None}
_OPPOSITE: Final = {"sugar_baby": 1 << ROLE_CODES["sugar_daddy"], "sugar_daddy": 1 << ROLE_CODES["sugar_baby"]}

PAGE: Final = f"""
SELECT count(*), string_agg(
    uuid_send(id)
    || float8send(coalesce(latitude, 'NaN')) || float8send(coalesce(longitude, 'NaN'))
    || int8send(coalesce(cell, 0)) || int4send(coalesce(birth_date - date '2000-01-01', -{_DAYS_TO_2000}))
    || int2send(({_code("role", _ROLES, UNKNOWN_ROLE)})::int2) || int2send(({_code("gender", _GENDERS, 0)})::int2)
    || int2send(coalesce((preferences->>'ageMin')::int2, {_DEFAULT.age_min}::int2))
    || int2send(coalesce((preferences->>'ageMax')::int2, {_DEFAULT.age_max}::int2))
    || int2send(coalesce((preferences->>'maxDistanceKm')::int2, {_DEFAULT.max_distance_km}::int2))
    || int2send((CASE WHEN jsonb_typeof(preferences->'roles') = 'array' THEN {_mask("preferences->'roles'", _ROLES)}
                      ELSE {_code("role", _OPPOSITE, 0)} END)::int2)
    || int2send(({_mask("preferences->'genders'", _GENDERS)})::int2)
    || boolsend(status = 'active' AND coalesce((preferences->>'discoverable')::bool, true))
    || boolsend(verification_status = 'verified')
    || int8send(coalesce(extract(epoch FROM last_active_at), 0)::bigint)
    || int8send(version) || int8send(match_version), '' ORDER BY id)
FROM (SELECT * FROM users WHERE id > %s ORDER BY id LIMIT %s) AS page
"""  # noqa: S608 - constants


def people(conn: Connection, page: str | None, limit: int) -> PeopleRows:
    """Everybody after ``page`` in order of id, at most ``limit``."""
    row = conn.execute(PAGE, (page or FIRST, limit), binary=True).fetchone()
    count, packed = row if row is not None else (0, None)
    rows = np.frombuffer(packed or b"", _RECORD)
    ids = PackedIds(np.ascontiguousarray(rows["id"]).tobytes())
    return PeopleRows(
        user_ids=ids,
        latitudes=rows["latitude"].astype(np.float64), longitudes=rows["longitude"].astype(np.float64),
        cells=rows["cell"].astype(np.uint64), birth_days=rows["birth_day"].astype(np.int32) + np.int32(_DAYS_TO_2000),
        roles=rows["role"].astype(np.uint8), genders=rows["gender"].astype(np.uint8),
        age_min=rows["age_min"].astype(np.uint8), age_max=rows["age_max"].astype(np.uint8),
        max_distance_km=rows["distance"].astype(np.uint16), role_masks=rows["role_mask"].astype(np.uint8),
        gender_masks=rows["gender_mask"].astype(np.uint8), discoverable=rows["discoverable"].astype(np.bool_),
        verified=rows["verified"].astype(np.bool_), last_active_s=rows["last_active_s"].astype(np.int64),
        versions=rows["version"].astype(np.uint64), match_versions=rows["match_version"].astype(np.uint64),
        next_page=ids[-1] if count == limit and ids else None,
    )

