"""Rows as operations on the read model: the one translation that warming, rebuilding and mending share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from configs.contracts.read_model import (
    NotificationEntry,
    Operation,
    ended_member,
    open_person,
    put_consent,
    put_credential,
    put_entry,
    put_notification,
    put_record,
    put_relation,
)
from configs.contracts.selling import put_commerce, put_shop, put_tier
from configs.contracts.tiers import Shop
from writers.connections import Connection
from writers.loads.people import Person, load_credentials, load_people
from writers.loads.tiers import owners

REVOKED_FOR = "2 hours"
"""How far back revoked families are listed; replicas look back the life of an access token, at most 15 minutes."""


def operations(user_id: str, person: Person) -> Iterator[Operation]:
    """Everything of one person; last the mark that says so."""
    by_version: dict[int, dict[str, object]] = {}
    for name, (value, version) in person.fields.items():
        by_version.setdefault(version, {})[name] = value
    for version, fields in by_version.items():
        yield put_record(user_id, fields, version)
    for name, (blocked, version) in person.relations.items():
        direction, _, other_id = name.partition(":")
        if direction in ("c", "cb"):
            yield put_consent(user_id, other_id, by_other=direction == "cb", given=blocked, version=version)
        else:
            yield put_relation(user_id, other_id, by_other=direction == "by", blocked=blocked, version=version)
    for listing, entries in person.listings.items():
        for entry_id, entry in entries.items():
            if isinstance(entry.content, NotificationEntry) and entry.at_ms is not None:
                yield put_notification(user_id, entry.content, version=entry.version, at_ms=entry.at_ms)
            else:
                yield put_entry(listing, user_id, entry_id, entry.content, version=entry.version, at_ms=entry.at_ms)
    for name, (value, version) in person.commerce.items():
        if isinstance(value, Shop):
            yield from put_shop(value)
        else:
            yield put_commerce(user_id, name, value, version)
    for email_hash, (credential, version) in person.credentials.items():
        yield put_credential(email_hash, credential, version)
    yield open_person(user_id)


def people_operations(conn: Connection, user_ids: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the ids that have a ``users`` row, their operations); nothing is written of anybody else."""
    people = {user_id: person for user_id, person in load_people(conn, user_ids).items() if person.known}
    return list(people), [step for user_id, person in people.items() for step in operations(user_id, person)]


PAGE_OF_IDS = """
(SELECT id FROM users WHERE id > %(after)s ORDER BY id LIMIT %(limit)s)
UNION (SELECT user_id FROM credentials WHERE user_id > %(after)s ORDER BY user_id LIMIT %(limit)s)
ORDER BY id LIMIT %(limit)s
"""
"""Registered people are in ``credentials`` before the derived user_created has given them a row; blocks and likes may
name them already."""

FIRST_ID = "00000000-0000-0000-0000-000000000000"


def pages_of_people(conn: Connection, size: int) -> Iterator[list[str]]:
    """The ids of everybody, in order, a page at a time."""
    after = FIRST_ID
    while True:
        page = [str(row[0]) for row in conn.execute(PAGE_OF_IDS, {"after": after, "limit": size}).fetchall()]
        if page:
            yield page
        if len(page) < size:
            return
        after = page[-1]


def address_operations(conn: Connection, email_hashes: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the hashes that are claimed, their operations)."""
    found = load_credentials(conn, email_hashes)
    return list(found), [put_credential(name, credential, version) for name, (credential, version) in found.items()]


def tier_operations(conn: Connection, tier_ids: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the tiers that exist, the operations that say whose they are)."""
    found = owners(conn, tier_ids)
    return list(found), [put_tier(tier_id, creator_id) for tier_id, creator_id in found.items()]


def revoked_families(conn: Connection) -> Mapping[str, int]:
    """Member of the set of revocations (a family, or all of a person's) -> Unix ms, of those that were revoked lately."""
    rows = conn.execute(
        "SELECT family_id::text, revoked_at FROM sessions WHERE revoked_at > now() - %s::interval", (REVOKED_FOR,)
    ).fetchall()
    ended = conn.execute(
        "SELECT user_id::text, sessions_from, kept_family::text, ended_at FROM credentials "
        "WHERE ended_at > now() - %s::interval", (REVOKED_FOR,)
    ).fetchall()
    return {family_id: int(at.timestamp() * 1_000) for family_id, at in rows} | {
        ended_member(user_id, version, kept): int(at.timestamp() * 1_000) for user_id, version, kept, at in ended
    }
