"""Everything that the read model says of people, as their rows hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from configs.contracts.changes import rfc3339
from configs.contracts.content import FollowEntry, HeartEntry, PostEntry
from configs.contracts.loading import ACTION_CODES
from configs.contracts.purchases import stands
from configs.contracts.read_model import (
    LISTING_BOUNDS,
    Credential,
    LikeEntry,
    Listing,
    MatchEntry,
    NotificationEntry,
    erased_fields,
)
from configs.contracts.record_scripts import ERASED_VERSION
from configs.contracts.selling import SHOP, held, purchase_field
from configs.contracts.subscribers import entry_of
from configs.contracts.tiers import shown_shop
from writers.connections import Connection
from writers.loads import payments, subscriptions, tiers
from writers.loads.media import photos

RECORDS: Final = """
SELECT id::text, role, display_name, birth_date, created_at, bio, gender, latitude, longitude, cell, last_active_at,
       status, verification_status, preferences, field_versions
FROM users WHERE id = ANY(%s)
"""

RELATIONS: Final = """
SELECT user_id::text, 'b:' || blocked_id, active, version FROM blocks WHERE user_id = ANY(%(ids)s)
UNION ALL
SELECT blocked_id::text, 'by:' || user_id, active, version FROM blocks WHERE blocked_id = ANY(%(ids)s)
UNION ALL
SELECT person_id::text, 'c:' || creator_id, given, version FROM consents WHERE person_id = ANY(%(ids)s)
UNION ALL
SELECT creator_id::text, 'cb:' || person_id, given, version FROM consents WHERE creator_id = ANY(%(ids)s)
"""

MATCHES: Final = """
SELECT person.id::text, match_id::text, other_id::text, status, generation, matched_at, version, last.sent_at
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT * FROM matches WHERE member_id = person.id AND generation > 0
    ORDER BY (status = 'active') DESC, matched_at DESC NULLS LAST LIMIT %s
) AS newest LEFT JOIN LATERAL (
    SELECT sent_at FROM messages WHERE conversation_id = newest.match_id AND newest.status = 'active'
    ORDER BY seq DESC LIMIT 1
) AS last ON true
"""

NOTIFICATIONS: Final = """
SELECT person.id::text, newest.id::text, kind, title, body, data, created_at, read_at IS NOT NULL, version
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT * FROM notifications WHERE user_id = person.id ORDER BY created_at DESC LIMIT %s
) AS newest
"""

LIKES: Final = """
SELECT person.id::text, swiper_id::text, action, created_at, version
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT * FROM swipes WHERE swiped_id = person.id AND action IN (1, 3) ORDER BY created_at DESC LIMIT %s
) AS newest
"""

POSTS: Final = """
SELECT person.id::text, newest.id::text, at, version
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT id, published_at AS at, version FROM posts
    WHERE creator_id = person.id AND state = 'published' AND review = 'approved' AND recipient_id IS NULL
    ORDER BY published_at DESC LIMIT %s
) AS newest
"""

DRAFTS: Final = """
SELECT person.id::text, newest.id::text, at, version
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT id, created_at AS at, version FROM posts
    WHERE creator_id = person.id AND state <> 'removed' AND NOT (state = 'published' AND review = 'approved' AND recipient_id IS NULL)
    ORDER BY created_at DESC LIMIT %s
) AS newest
"""

FOLLOWS: Final = """
SELECT person.id::text, creator_id::text, changed_at, version
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT * FROM follows WHERE user_id = person.id AND active ORDER BY changed_at DESC LIMIT %s
) AS newest
"""

HEARTS: Final = """
SELECT person.id::text, post_id::text, changed_at, version
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT * FROM post_likes WHERE user_id = person.id AND liked ORDER BY changed_at DESC LIMIT %s
) AS newest
"""

_OF_CONTENT: Final[tuple[tuple[Listing, str, Callable[[str], msgspec.Struct]], ...]] = (
    ("post", POSTS, PostEntry), ("draft", DRAFTS, PostEntry), ("follow", FOLLOWS, FollowEntry), ("heart", HEARTS, HeartEntry),
)

CREDENTIALS: Final = """
SELECT email_hash, version, user_id::text, password_hash, status, verified_at IS NOT NULL, security ->> 'home',
       security #>> '{claim,addressHash}'
FROM credentials WHERE
"""

_ACTIONS: Final = {code: name for name, code in ACTION_CODES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a listing; ``at_ms`` None: it is out of the list and must stay out."""

    content: msgspec.Struct
    version: int
    at_ms: int | None


@dataclass(slots=True)
class Person:
    """What Redis has to hold of one person, each fact with its version."""

    fields: dict[str, tuple[object, int]] = field(default_factory=dict)
    """``UserRecord`` field in camelCase -> (value, version); 0: from user_created. Unset fields are missing."""
    relations: dict[str, tuple[bool, int]] = field(default_factory=dict)
    """``b:{id}`` (blocks), ``by:{id}`` (is blocked by), ``c:{id}`` and ``cb:{id}`` (consents) -> (present, version)."""
    listings: dict[Listing, dict[str, Entry]] = field(default_factory=lambda: {name: {} for name in LISTING_BOUNDS})
    commerce: dict[str, tuple[object, int]] = field(default_factory=dict)
    """``shop``, ``post:{id}`` of a purchase, or the id of a creator whose subscriber the person is or was -> (value, version)."""
    credentials: dict[str, tuple[Credential, int]] = field(default_factory=dict)
    """Address hash in hex -> (credential, version)."""


    @property
    def erased(self) -> bool:
        return self.fields.get("status", ("", 0))[0] == "deleted"

    @property
    def known(self) -> bool:
        """Whether a ``users`` row exists (the person's creation may still be missing)."""
        return bool(self.fields)


@dataclass(frozen=True, slots=True)
class Field:
    """Where a record field is stored, the name of its version, and the read model's form of it."""

    column: str
    version_of: str
    shown: Callable[[Any], object] = lambda value: value


def _day(value: date) -> str:
    return value.isoformat()


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


FIELDS: Final[Mapping[str, Field]] = {
    "role": Field("role", "role"),
    "displayName": Field("display_name", "display_name"),
    "birthDate": Field("birth_date", "birth_date", _day),
    "createdAt": Field("created_at", "created_at", rfc3339),
    "bio": Field("bio", "bio"),
    "gender": Field("gender", "gender"),
    "latitude": Field("latitude", "place"),
    "longitude": Field("longitude", "place"),
    "cell": Field("cell", "place", lambda value: f"{value:x}"),
    "lastActiveAt": Field("last_active_at", "last_active_at", _utc),
}
_COLUMNS: Final = (
    "role", "display_name", "birth_date", "created_at", "bio", "gender", "latitude", "longitude", "cell",
    "last_active_at",
)


def load_people(conn: Connection, user_ids: Sequence[str]) -> dict[str, Person]:
    """One entry for every id asked for, by id in canonical text; ``fields`` is empty without a ``users`` row."""
    ids = [UUID(user_id) for user_id in user_ids]
    people = {str(user_id): Person() for user_id in ids}
    for user_id, *row in conn.execute(RECORDS, (ids,)).fetchall():
        people[user_id].fields = _fields(dict(zip(_COLUMNS, row, strict=False)), *row[len(_COLUMNS):])
    for user_id, name, active, version in conn.execute(RELATIONS, {"ids": ids}).fetchall():
        people[user_id].relations[name] = (active, version)
    for user_id, (shown, version) in photos(conn, ids).items():
        if people[user_id].known and not people[user_id].erased:
            people[user_id].fields["photos"] = (shown, version)
    _load_matches(conn, ids, people)
    _load_notifications(conn, ids, people)
    _load_likes(conn, ids, people)
    _load_content(conn, ids, people)
    _load_commerce(conn, user_ids, people)
    for user_id, person in people.items():
        if person.erased:
            people[user_id] = Person(fields=person.fields)
    rows = conn.execute(CREDENTIALS + "user_id = ANY(%s)", (ids,)).fetchall()
    for email_hash, version, *facts in rows:
        credential = Credential(*facts)
        people[credential.user_id].credentials[email_hash.hex] = (credential, version)
    return people


def load_credentials(conn: Connection, email_hashes: Sequence[str]) -> dict[str, tuple[Credential, int]]:
    """Address hash in hex -> (credential, version); only claimed addresses."""
    rows = conn.execute(CREDENTIALS + "email_hash = ANY(%s)", ([UUID(text) for text in email_hashes],)).fetchall()
    return {email_hash.hex: (Credential(*facts), version) for email_hash, version, *facts in rows}


def _fields(
    values: Mapping[str, Any], status: str, verification: str, preferences: Mapping[str, object],
    versions: Mapping[str, int],
) -> dict[str, tuple[object, int]]:
    fields: dict[str, tuple[object, int]] = {
        name: (where.shown(values[where.column]), versions.get(where.version_of, 0))
        for name, where in FIELDS.items()
        if values[where.column] is not None
    }
    fields |= {name: (value, versions.get(name, 0)) for name, value in preferences.items()}
    if status == "deleted":
        return {name: (value, ERASED_VERSION) for name, value in erased_fields().items()}
    if status != "active" or "status" in versions:
        fields["status"] = (status, versions.get("status", 0))
    if verification != "unverified":
        fields["verification"] = (verification, versions.get("verification", 0))
        fields["verified"] = (verification == "verified", versions.get("verification", 0))
    return fields


def _load_matches(conn: Connection, ids: Sequence[UUID], people: Mapping[str, Person]) -> None:
    rows = conn.execute(MATCHES, (ids, LISTING_BOUNDS["match"])).fetchall()
    for user_id, match_id, other_id, status, generation, matched_at, version, sent_at in rows:
        active = status == "active" and matched_at is not None
        content = MatchEntry(
            match_id=match_id, other_id=other_id, matched_at=rfc3339(matched_at) if active else "",
            generation=generation, status=status,
        )
        heard_at = matched_at if sent_at is None else max(matched_at, sent_at)
        people[user_id].listings["match"][match_id] = Entry(content, version, _ms(matched_at) if active else None)
        people[user_id].listings["conv"][match_id] = Entry(content, version, _ms(heard_at) if active else None)


def _load_notifications(conn: Connection, ids: Sequence[UUID], people: Mapping[str, Person]) -> None:
    rows = conn.execute(NOTIFICATIONS, (ids, LISTING_BOUNDS["note"])).fetchall()
    for user_id, notification_id, kind, title, body, data, created_at, read, version in rows:
        content = NotificationEntry(
            notification_id=notification_id, kind=kind, title=title, body=body, data=data,
            created_at=rfc3339(created_at), read=read,
        )
        people[user_id].listings["note"][notification_id] = Entry(content, version, _ms(created_at))


def _load_likes(conn: Connection, ids: Sequence[UUID], people: Mapping[str, Person]) -> None:
    """Likes that stand, answered or not: an answer may be undone, and readers leave the answered ones out."""
    rows = conn.execute(LIKES, (ids, LISTING_BOUNDS["like"])).fetchall()
    for user_id, liker_id, action, liked_at, version in rows:
        content = LikeEntry(liker_id=liker_id, action=_ACTIONS[action], liked_at=rfc3339(liked_at))
        people[user_id].listings["like"][liker_id] = Entry(content, version, _ms(liked_at))


def _load_content(conn: Connection, ids: Sequence[UUID], people: Mapping[str, Person]) -> None:
    """What people have published and drafted, whom they follow and which posts they like."""
    for listing, query, content in _OF_CONTENT:
        for user_id, name, at, version in conn.execute(query, (ids, LISTING_BOUNDS[listing])).fetchall():
            people[user_id].listings[listing][name] = Entry(content(name), version, _ms(at))
def _load_commerce(conn: Connection, user_ids: Sequence[str], people: Mapping[str, Person]) -> None:
    """Shops, own subscriptions with what they are worth, and subscribers."""
    for user_id, shop in tiers.shops(conn, user_ids).items():
        people[user_id].commerce[SHOP] = (shown_shop(shop), shop.version)
    for user_id, subscriber in subscriptions.subscribers(conn, user_ids).items():
        for name, item in subscriber.subscriptions.items():
            people[user_id].listings["sub"][name] = Entry(entry_of(item), item.version, _ms(item.requested_at))
            people[user_id].commerce[item.creator_id] = held(subscriber, item.creator_id)
    for (buyer_id, post_id), held_payments in payments.purchases(conn, user_ids).items():
        people[buyer_id].commerce[purchase_field(post_id)] = (
            stands(held_payments), max(payment.version for payment in held_payments)
        )
    for user_id, found in subscriptions.of_creators(conn, user_ids, LISTING_BOUNDS["fan"]).items():
        for item in found:
            people[user_id].listings["fan"][item.subscription_id] = Entry(
                entry_of(item), item.version, _ms(item.requested_at)
            )


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)
