"""The operations that a batch of committed events means for the read model, a function for each topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from configs.contracts import changes, topics
from configs.contracts.events import (
    AccountRegistered,
    Matched,
    NotificationRead,
    NotificationSent,
    PasswordRehashed,
    SessionRevoked,
    Swiped,
    SwipeUndone,
    Unmatched,
    UserCreated,
)
from configs.contracts.read_model import (
    Credential,
    LikeEntry,
    NotificationEntry,
    Operation,
    open_person,
    put_credential,
    put_entry,
    put_record,
)
from writers.records import Fact

LIKES = ("like", "super_like")


@dataclass(slots=True)
class Changes:
    """What to apply: versioned operations, and families for the sorted set of revocations (family -> Unix ms)."""

    operations: list[Operation] = field(default_factory=list)
    revoked: dict[str, int] = field(default_factory=dict)


Project = Callable[[psycopg.Connection[Any], Sequence[Fact], Changes], None]


def accounts(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Credentials, from the rows: of two claims on one address the row holds the one that counts."""
    hashes = {
        record.event.payload.email_hash for record in records
        if isinstance(record.event.payload, AccountRegistered | PasswordRehashed)
    }
    rows = conn.execute(
        "SELECT email_hash, user_id, password_hash, status, version FROM credentials WHERE email_hash = ANY(%s::uuid[])",
        (list(hashes),),
    )
    for email_hash, user_id, password_hash, status, version in rows:
        credential = Credential(user_id=str(user_id), password_hash=password_hash, status=status)
        into.operations.append(put_credential(email_hash.hex, credential, version))


def sessions(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    for record in records:
        if isinstance(record.event.payload, SessionRevoked):
            into.revoked[record.event.payload.family_id] = int(record.event.occurred_at.timestamp() * 1_000)


def created(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    for record in records:
        payload = record.event.payload
        if isinstance(payload, UserCreated):
            fields = {
                "role": payload.role, "displayName": payload.display_name, "birthDate": payload.birth_date,
                "createdAt": changes.rfc3339(record.event.occurred_at),
            }
            into.operations += (put_record(payload.user_id, fields, 0), open_person(payload.user_id))


def updated(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    for record in records:
        into.operations += changes.recorded(record.event.payload, record.version)


def swipes(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Likes received; whom the receiver has answered is left out when the list is read."""
    for record in records:
        payload = record.event.payload
        if isinstance(payload, Swiped | SwipeUndone):
            action = payload.action if isinstance(payload, Swiped) else payload.undone_action
            liked = isinstance(payload, Swiped) and action in LIKES
            entry = LikeEntry(
                liker_id=payload.swiper_id, action=action, liked_at=changes.rfc3339(record.event.occurred_at)
            )
            into.operations.append(put_entry(
                "like", payload.swiped_id, payload.swiper_id, entry, version=record.version,
                at_ms=int(record.event.occurred_at.timestamp() * 1_000) if liked else None,
            ))


def matches(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    for record in records:
        payload = record.event.payload
        if isinstance(payload, Matched):
            into.operations += changes.matched(
                payload.low_id, payload.high_id, matched_at=record.event.occurred_at, generation=payload.generation,
                version=record.version,
            )
        elif isinstance(payload, Unmatched):
            into.operations += changes.ended(
                payload.low_id, payload.high_id, generation=payload.generation, reason=payload.reason,
                version=record.version,
            )


def notifications(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """New ones from their events; a read one is its row with the mark."""
    read: dict[str, int] = {}
    for record in records:
        payload = record.event.payload
        if isinstance(payload, NotificationSent):
            into.operations += changes.notified(payload, record.event.occurred_at, record.version)
        elif isinstance(payload, NotificationRead):
            read[payload.notification_id] = record.version
    if not read:
        return
    users = {record.event.key for record in records}
    rows = conn.execute(
        "SELECT id, user_id, kind, title, body, data, created_at FROM notifications "
        "WHERE user_id = ANY(%s::uuid[]) AND id = ANY(%s::uuid[])",
        (list(users), list(read)),
    )
    for ident, user_id, kind, title, body, data, created_at in rows:
        entry = NotificationEntry(
            notification_id=str(ident), kind=kind, title=title, body=body, data=data,
            created_at=changes.rfc3339(created_at), read=True,
        )
        into.operations.append(put_entry(
            "note", str(user_id), str(ident), entry, version=read[str(ident)], at_ms=int(created_at.timestamp() * 1_000)
        ))


def nothing(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Reports are not in the read model."""


PROJECTIONS: Mapping[str, Project] = {
    topics.AUTH_ACCOUNTS.name: accounts,
    topics.AUTH_SESSIONS.name: sessions,
    topics.USER_CREATED.name: created,
    topics.USER_UPDATED.name: updated,
    topics.USER_REPORTED.name: nothing,
    topics.MATCHING_SWIPE.name: swipes,
    topics.MATCHING_MATCHED.name: matches,
    topics.NOTIFICATION_SEND.name: notifications,
}


def changes_of(conn: psycopg.Connection[Any], stored: Mapping[str, Sequence[Fact]]) -> Changes:
    """Everything that a batch changes in the read model."""
    into = Changes()
    for topic, records in stored.items():
        PROJECTIONS[topic](conn, records, into)
    return into
