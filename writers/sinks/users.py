"""user_created and the sections of user.updated -> users: each field holds its newest value, whatever the order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from configs.contracts.changes import sent
from configs.contracts.errors import InvalidEvent
from configs.contracts.events import (
    AgeAssessed,
    LocationChanged,
    NotificationPreferencesChanged,
    PaymentPartiesChanged,
    PreferencesChanged,
    ProfileChanged,
    StandingChanged,
    UserCreated,
    UserErased,
    WasActive,
)
from configs.contracts.parties import CUSTOMER
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, parsed_day, parsed_id

PROFILE = ("display_name", "bio", "gender")
MATCHING = {"gender", "place", "ageMin", "ageMax", "maxDistanceKm", "roles", "genders", "discoverable", "status"}
"""Fields whose change moves ``match_version``; see ``PeopleRows.match_versions``."""

STANDING_NUMBER = "standing number"
"""Beside the versions of fields: the number of the standing that counts (``StandingChanged``)."""

READ = """
SELECT id::text, role, display_name, bio, gender, latitude, longitude, cell, birth_date, last_active_at, created_at,
       status, verification_status, preferences, field_versions, version, match_version, updated_at
FROM users WHERE id = ANY(%s)
"""
WRITE = """
INSERT INTO users AS stored
    (id, role, display_name, bio, gender, latitude, longitude, cell, birth_date, last_active_at, created_at,
     status, verification_status, preferences, field_versions, version, match_version, updated_at)
SELECT id, role, display_name, bio, gender, latitude, longitude, cell, birth_date, last_active_at, created_at,
       coalesce(status, 'active'), coalesce(verification_status, 'unverified'), preferences::jsonb, field_versions::jsonb, version, match_version, updated_at
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
     AS batch (id, role, display_name, bio, gender, latitude, longitude, cell, birth_date, last_active_at, created_at,
               status, verification_status, preferences, field_versions, version, match_version, updated_at)
ON CONFLICT (id) DO UPDATE
SET role = excluded.role, display_name = excluded.display_name, bio = excluded.bio, gender = excluded.gender,
    latitude = excluded.latitude, longitude = excluded.longitude, cell = excluded.cell,
    birth_date = excluded.birth_date, last_active_at = excluded.last_active_at, created_at = excluded.created_at,
    status = excluded.status, verification_status = excluded.verification_status,
    preferences = excluded.preferences, field_versions = excluded.field_versions, version = excluded.version,
    match_version = excluded.match_version, updated_at = excluded.updated_at
"""
COLUMNS = (
    "role", "display_name", "bio", "gender", "latitude", "longitude", "cell", "birth_date", "last_active_at", "created_at",
    "status", "verification_status",
)


@dataclass(slots=True)
class Person:
    """One person's row while facts are folded into it. Unset values are None."""

    values: dict[str, Any] = field(default_factory=dict)
    preferences: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    version: int = 0
    match_version: int = 0
    updated_at: datetime | None = None
    changed: bool = False

    def take(self, fact: Fact) -> None:
        """Takes in one fact; older and repeated ones change nothing."""
        event, version, _ = fact
        payload = event.payload
        if self.values.get("status") == "deleted":
            return
        if isinstance(payload, UserErased):
            # The payer's names at the processor stay until the processor has forgotten them.
            self.preferences = {name: value for name, value in self.preferences.items() if name.startswith(CUSTOMER)}
            self.values, self.versions = {"status": "deleted"}, {"status": version}
            self.version = self.match_version = max(self.version, version)
            self.updated_at, self.changed = event.occurred_at, True
            return
        if isinstance(payload, UserCreated):
            self._fill("role", payload.role)
            self._fill("display_name", payload.display_name)
            self._fill("birth_date", parsed_day(payload.birth_date))
            self._fill("created_at", event.occurred_at)
            self.updated_at = self.updated_at or event.occurred_at
            return
        if isinstance(payload, ProfileChanged):
            for name in PROFILE:
                value = getattr(payload, name)
                if value is not None:
                    self._set(name, version, {name: value})
        elif isinstance(payload, PreferencesChanged | NotificationPreferencesChanged | PaymentPartiesChanged):
            # The preferences column has the read model's names.
            for stored, value in sent(payload).items():
                if self._newer(stored, version):
                    self.preferences[stored] = value
        elif isinstance(payload, LocationChanged):
            place = {"latitude": payload.latitude, "longitude": payload.longitude, "cell": _cell(payload.cell)}
            self._set("place", version, place)
        elif isinstance(payload, AgeAssessed):
            self._assess(payload.status, version)
        elif isinstance(payload, StandingChanged):
            if payload.number >= self.versions.get(STANDING_NUMBER, 0):
                self.versions[STANDING_NUMBER] = payload.number
                self._set("status", version, {"status": payload.status})
        elif isinstance(payload, WasActive):
            self._set("last_active_at", version, {"last_active_at": payload.active_at})
        if version > self.version:
            self.version, self.updated_at, self.changed = version, event.occurred_at, True

    def _fill(self, name: str, value: Any) -> None:
        if name not in self.versions:
            self.values[name], self.versions[name], self.changed = value, 0, True

    def _assess(self, status: str, version: int) -> None:
        """Whoever was found an adult stays ``verified``, whatever another check says; ``RECORD_LUA`` keeps the same rule."""
        held, found = self.values.get("verification_status") == "verified", status == "verified"
        if found and not held:
            self.values["verification_status"], self.versions["verification"], self.changed = status, version, True
        elif found or not held:
            self._set("verification", version, {"verification_status": status})

    def _set(self, name: str, version: int, values: Mapping[str, Any]) -> None:
        if self._newer(name, version):
            self.values.update(values)

    def _newer(self, name: str, version: int) -> bool:
        if self.versions.get(name, -1) >= version:
            return False
        self.versions[name], self.changed = version, True
        if name in MATCHING:
            self.match_version = max(self.match_version, version)
        return True


def _cell(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise InvalidEvent("not a cell") from error


def fold(stored: Mapping[str, Person], facts: Iterable[Fact]) -> dict[str, Person]:
    """The people after the facts; only those that changed. The stored ones are taken over and changed."""
    people = dict(stored)
    for fact in facts:
        person = people.get(fact.event.payload.user_id)
        if person is None:
            parsed_id(fact.event.payload.user_id)
            person = people[fact.event.payload.user_id] = Person()
        person.take(fact)
    return {name: person for name, person in people.items() if person.changed}


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    ids = sorted({fact.event.payload.user_id for fact in facts})
    stored = {}
    for row in cur.execute(READ, (columns.uuids(ids),)).fetchall():
        values = dict(zip(COLUMNS, row[1:13], strict=True))
        stored[row[0]] = Person(values, row[13], row[14], row[15], row[16], row[17])
    changed = fold(stored, facts)
    if changed:
        _write(cur, changed)
    return len(changed)


def _write(cur: Cursor, changed: Mapping[str, Person]) -> None:
    people = list(changed.values())

    def column(name: str) -> list[Any]:
        return [person.values.get(name) for person in people]

    cur.execute(
        WRITE,
        (
            columns.uuids(list(changed)),
            *(columns.texts(column(name)) for name in ("role", "display_name", "bio", "gender")),
            *(columns.nullable_doubles(column(name)) for name in ("latitude", "longitude")),
            columns.nullable_bigints(column("cell")),
            columns.dates(column("birth_date")),
            columns.timestamps(column("last_active_at")),
            columns.timestamps(column("created_at")),
            *(columns.texts(column(name)) for name in ("status", "verification_status")),
            columns.texts(msgspec.json.encode(person.preferences).decode() for person in people),
            columns.texts(msgspec.json.encode(person.versions).decode() for person in people),
            columns.bigints([person.version for person in people]),
            columns.bigints([person.match_version for person in people]),
            columns.timestamps([person.updated_at for person in people]),
        ),
    )


SINK = Sink(
    "users",
    (
        UserCreated, ProfileChanged, PreferencesChanged, NotificationPreferencesChanged, PaymentPartiesChanged, LocationChanged,
        WasActive, AgeAssessed, StandingChanged, UserErased,
    ),
    write,
)
