"""The read model in Redis: key names, record shapes and the only ways to change them.

A change is an ``Operation`` (a Lua script with keys and arguments), the same from the API's write-through and from the
writers' projections. Every stored fact carries its version (16 hex digits); an older one never overwrites a newer.
All keys of one person share the hash tag ``{user id}``, so that each operation is one slot of Redis Cluster.

keys: ``rec:{u}`` JSON ``UserRecord`` · ``fld:{u}`` its fields with versions · ``rel:{u}`` blocks in both directions ·
``match|conv|note|like|post|draft|follow|heart|sub|fan:h:{u}`` entries by id and ``…:z:{u}`` their order · ``note:u:{u}`` unread notifications · ``cred:{address hash}`` ·
``conv:head|msg|page:{c}``, ``feed:{u}`` (``conversations``) · ``post:{p}`` … (``content``) · ``home:{u}``, ``large`` (``home``) ·
``media:{m}`` (``albums``), ``media:p:{m}`` (``content``) · ``com:{u}`` shop and what subscriptions are worth (``selling``) ·
``revoked`` recently revoked token families and ends of all of a person's · ``sess:{u}`` (cache) where they are signed in ·
``deck:{u}:filters`` (cache, 300 s) · ``generation`` (present: complete).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from configs.contracts.errors import ReadModelUnknown
from configs.contracts.events import Gender, MatchEnd, Role, Standing, Verification
from configs.contracts.home_scripts import HOME_SCRIPTS
from configs.contracts.message_scripts import MESSAGE_SCRIPTS
from configs.contracts.positions import version_text
from configs.contracts.ranking import INITIAL, RankingConfiguration
from configs.contracts.record_scripts import RECORD_SCRIPTS

GENERATION: Final = "generation"
"""Set, last, by a completed rebuild; absent: answer 503."""
REVOKED: Final = "revoked"
ENDED: Final = "all:"
"""Begins a member of ``revoked`` that is not one family but a person's."""
RANKING: Final = "ranking"
"""The ranking configuration in force (versioned by its number); absent: the first one, ``ranking.INITIAL``."""
DECK_TTL_S: Final = 300
MARKER: Final = "*"
"""Hash field that says: this set is known completely (up to its bound)."""

Listing = Literal["match", "conv", "note", "like", "post", "draft", "follow", "heart", "sub", "fan"]
LISTING_BOUNDS: Final[Mapping[Listing, int]] = {
    "match": 5_000, "conv": 5_000, "note": 500, "like": 2_000, "post": 5_000, "draft": 1_000, "follow": 5_000, "heart": 2_000,
    "sub": 1_000, "fan": 10_000,
}
"""Newest entries kept in Redis; older ones stay in the rows."""
LASTING_LISTINGS: Final[tuple[Listing, ...]] = ("match", "conv")
"""Listings that keep every entry that was taken out: a match that has ended can be reported still, and nothing that is heard late
puts its conversation back. One a match, so by the limits of likes some 200 a day at most."""
MARKED_LISTINGS: Final[tuple[Listing, ...]] = ("match", "conv", "note", "like")
"""Listings with a marker of their own. The others, which few people have, are known when the person's relations are: one
step opens them all."""


class UserRecord(msgspec.Struct, frozen=True, rename="camel"):
    """One person as the API sees them: own fields, preferences and snapped position. Never sent out whole."""

    user_id: str
    role: Role | None = None
    display_name: str = ""
    birth_date: str = ""
    bio: str = ""
    gender: Gender | None = None
    status: Standing = "active"
    verified: bool = False
    """What others see of ``verification``."""
    verification: Verification = "unverified"
    latitude: float | None = None
    longitude: float | None = None
    cell: str | None = None
    age_min: int = 18
    age_max: int = 99
    max_distance_km: int = 50
    roles: tuple[Role, ...] | None = None
    """None: the opposite role."""
    genders: tuple[Gender, ...] = ()
    """Empty: any."""
    hide_distance: bool = False
    discoverable: bool = True
    last_active_at: str | None = None
    created_at: str | None = None
    photos: tuple[str, ...] = ()
    """Media ids of the approved photos, in order; the first is the avatar."""
    match_version: str = ""
    """Version of the newest change to what candidate generation uses."""

    @property
    def exists(self) -> bool:
        """Whether the person's creation has been seen (updates may come first)."""
        return self.role is not None and self.status == "active"


def erased_fields() -> dict[str, object]:
    """What ``put_record`` writes of an erased person, at ``ERASED_VERSION``: every field of a record, empty."""
    fields: dict[str, object] = msgspec.to_builtins(UserRecord("", status="deleted", discoverable=False))
    for name in ("userId", "matchVersion"):
        del fields[name]
    return fields


class MatchEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One match in a person's list (``match`` and ``conv`` listings)."""

    match_id: str
    other_id: str
    matched_at: str
    generation: int
    status: Literal["active"] | MatchEnd = "active"


class NotificationEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One notification in a person's list."""

    notification_id: str
    kind: str
    title: str
    body: str | None
    data: dict[str, str]
    created_at: str
    read: bool = False


class LikeEntry(msgspec.Struct, frozen=True, rename="camel"):
    """Someone who likes the person."""

    liker_id: str
    action: str
    liked_at: str


class Credential(msgspec.Struct, frozen=True, rename="camel"):
    """What signing in with a password needs."""

    user_id: str
    password_hash: str | None
    status: str = "active"
    verified: bool = False
    """Whether the address was confirmed."""
    home: str | None = None
    """Set: the address is only a claim of the account whose credential this hash names."""
    address_hash: str | None = None
    """The address that signs in to the account; None: the one it was registered with."""


class SessionEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One session that stands, in a person's list of them."""

    family_id: str
    signed_in_at: datetime | None
    last_used_at: datetime | None
    expires_at: datetime | None
    client: str | None
    sessions_from: int


SESSIONS_SHOWN: Final = 100
SESSIONS_TTL_S: Final = 60
"""The list is written anew for each request; this only lets it go afterwards."""

SCRIPTS: Final[Mapping[str, str]] = {**RECORD_SCRIPTS, **MESSAGE_SCRIPTS, **HOME_SCRIPTS}


@dataclass(frozen=True, slots=True)
class Operation:
    """One versioned change: a script of ``SCRIPTS``, its keys (one slot) and its arguments."""

    script: str
    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...]


def record_key(user_id: str) -> str:
    return f"rec:{{{user_id}}}"


def relation_key(user_id: str) -> str:
    return f"rel:{{{user_id}}}"


def listing_keys(listing: Listing, user_id: str) -> tuple[str, str]:
    """(order, entries): a sorted set of ids by time and a hash of id -> versioned JSON."""
    return f"{listing}:z:{{{user_id}}}", f"{listing}:h:{{{user_id}}}"


def commerce_key(user_id: str) -> str:
    """What a person sells, and what their subscriptions are worth (``selling``)."""
    return f"com:{{{user_id}}}"


def unread_key(user_id: str) -> str:
    """The set of ids of unread notifications among those kept."""
    return f"note:u:{{{user_id}}}"


def newest_likes(user_id: str, count: int) -> tuple[str, str, int, int]:
    """The Redis command for the ids of the ``count`` who liked the person last, newest first; none where not known."""
    return "ZREVRANGE", listing_keys("like", user_id)[0], 0, count - 1


def credential_key(email_hash: str) -> str:
    return f"cred:{{{email_hash}}}"


def sessions_key(user_id: str) -> str:
    return f"sess:{{{user_id}}}"


def put_sessions(user_id: str, entries: Sequence[SessionEntry]) -> Operation:
    """Caches where a person is signed in."""
    return Operation("cache", (sessions_key(user_id),), (msgspec.json.encode(entries), SESSIONS_TTL_S))


def deck_key(user_id: str, filters: str) -> str:
    return f"deck:{{{user_id}}}:{filters}"


def ended_member(user_id: str, sessions_from: int, kept_family_id: str | None) -> str:
    """Member of ``revoked`` that ends all of a person's sessions from before ``sessions_from`` but one."""
    return f"{ENDED}{user_id}:{version_text(sessions_from)}:{kept_family_id or ''}"


def read_ended(member: str) -> tuple[str, int, str]:
    """(user id, sessions_from, kept family or empty) of an ``ended_member``."""
    user_id, sessions_from, kept = member.removeprefix(ENDED).split(":")
    return user_id, int(sessions_from, 16), kept


def put_record(user_id: str, fields: Mapping[str, object], version: int) -> Operation:
    """Sets record fields (camelCase, see UserRecord) that are older than ``version``.

    The fields of user_created use version 0: another topic's positions are not comparable, and any later update wins.
    """
    args: list[str | bytes] = [user_id, version_text(version)]
    for name, value in fields.items():
        args += [name, msgspec.json.encode(value)]
    return Operation("record", (f"fld:{{{user_id}}}", record_key(user_id)), tuple(args))


def put_relation(user_id: str, other_id: str, *, by_other: bool, blocked: bool, version: int) -> Operation:
    """Records in ``user_id``'s relations that they block ``other_id``, or (``by_other``) are blocked by them."""
    field = ("by:" if by_other else "b:") + other_id
    return Operation("field", (relation_key(user_id),), (field, version_text(version), "1" if blocked else "0"))


def put_consent(user_id: str, other_id: str, *, by_other: bool, given: bool, version: int) -> Operation:
    """Records in ``user_id``'s relations that they may be pictured by ``other_id``, or (``by_other``) may picture them."""
    field = ("cb:" if by_other else "c:") + other_id
    return Operation("field", (relation_key(user_id),), (field, version_text(version), "1" if given else "0"))


def forget_person(user_id: str) -> Operation:
    """Takes away every key of a person's, and everything that was cached of them under a name that can be made again."""
    return Operation("forget", (
        f"fld:{{{user_id}}}", record_key(user_id), relation_key(user_id), sessions_key(user_id), unread_key(user_id),
        commerce_key(user_id),
        *(key for listing in LISTING_BOUNDS for key in listing_keys(listing, user_id)),
    ), ())


def put_entry(listing: Listing, user_id: str, entry_id: str, entry: msgspec.Struct, *, version: int,
              at_ms: int | None) -> Operation:
    """Puts one entry into a person's listing at a time, or (``at_ms`` None) takes it out and remembers that, in all but
    ``LASTING_LISTINGS`` for as long as few others were taken out since.

    A conversation stays at the time of its newest message (``put_heard``). Notifications: ``put_notification``.
    """
    score: int | str = "" if at_ms is None else at_ms
    return Operation(
        "listing" if listing in LASTING_LISTINGS else "bounded", listing_keys(listing, user_id),
        (
            entry_id, version_text(version), msgspec.json.encode(entry), score, LISTING_BOUNDS[listing],
            *(("GT",) if listing == "conv" else ()),
        ),
    )


def put_notification(user_id: str, entry: NotificationEntry, *, version: int, at_ms: int) -> Operation:
    """Puts a notification into a person's list, and among the unread ones or out of them."""
    return Operation(
        "notice", (*listing_keys("note", user_id), unread_key(user_id)),
        (
            entry.notification_id, version_text(version), msgspec.json.encode(entry), at_ms, LISTING_BOUNDS["note"],
            "1" if entry.read else "0",
        ),
    )


def put_credential(email_hash: str, credential: Credential, version: int) -> Operation:
    return Operation("string", (credential_key(email_hash),), (version_text(version), msgspec.json.encode(credential)))


def put_ranking(configuration: RankingConfiguration) -> Operation:
    """Puts a ranking configuration in force unless one with a higher number is."""
    return Operation(
        "string", (RANKING,), (version_text(configuration.number), msgspec.json.encode(configuration))
    )


def open_person(user_id: str) -> Operation:
    """Marks all of a person's sets as known completely; for a new person, or after warming everything."""
    return Operation(
        "open",
        (relation_key(user_id), *(listing_keys(listing, user_id)[1] for listing in MARKED_LISTINGS)),
        (MARKER,),
    )


_RECORDS = msgspec.json.Decoder(UserRecord)


def read_record(value: bytes) -> UserRecord:
    return _RECORDS.decode(value)


_MATCHES = msgspec.json.Decoder(MatchEntry)


def read_match(value: bytes | None) -> MatchEntry | None:
    """The entry of a match that stands or has ended; None where there never was one.

    Entries of generation 0 were written once for blocks of people who had never matched; they count for nothing.
    """
    entry = None if value is None else _MATCHES.decode(read_versioned(value)[1])
    return entry if entry is not None and entry.generation else None


_CONFIGURATIONS = msgspec.json.Decoder(RankingConfiguration)


def read_ranking(value: bytes | None) -> RankingConfiguration:
    """The configuration that ``put_ranking`` wrote."""
    return INITIAL if value is None else _CONFIGURATIONS.decode(value[16:])


def read_versioned(value: bytes) -> tuple[int, bytes]:
    """(version, rest) of a value written by ``field``, ``string`` or ``listing``."""
    return int(value[:16], 16), value[16:]


def read_blocked(marker: bytes | None, *fields: bytes | None) -> bool:
    """Whether any of the relation fields says blocked.

    Raises ReadModelUnknown: no marker, so absence means nothing.
    """
    if marker is None:
        raise ReadModelUnknown("relations are not warm")
    return any(field is not None and field[16:] == b"1" for field in fields)
