"""What follows from events of an address, and from a session that begins: the person and the first session, mails, the end of sessions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import msgspec

from configs.contracts import topics
from configs.contracts.accounts import Security, hash_of
from configs.contracts.events import (
    TOPIC_OF,
    AccountRegistered,
    AddressChanged,
    AddressChangeRequested,
    AddressClaimed,
    AddressTokenRequested,
    Event,
    IdentityClaimed,
    IdentityLinked,
    MailRequested,
    MailTemplate,
    PasskeyAdded,
    PasskeyRemoved,
    PasswordSet,
    Payload,
    PreferencesChanged,
    ProviderIdentity,
    RoleGranted,
    SessionRevoked,
    SessionsEnded,
    SessionStarted,
    StandingSet,
    TotpDisabled,
    TotpEnabled,
    UserCreated,
    UserErased,
)
from configs.contracts.ids import derived_id
from configs.contracts.moderation import STANDINGS, standing_id
from configs.contracts.tokens import refresh_token, token_hash
from configs.contracts.topics import Topic
from writers.connections import Connection
from writers.consumers.derive_addresses import changed, given_up, released
from writers.consumers.derive_erasures import Left, left_by, taken_away
from writers.records import Fact

Reason = Literal["password_changed", "logout", "administrator"]
HOLDERS = """
SELECT email_hash, user_id::text, email, sessions_from, security FROM credentials WHERE email_hash = ANY(%s::uuid[])
"""
FAMILIES = """
SELECT user_id::text, family_id::text, sessions_from FROM sessions
WHERE user_id = ANY(%s::uuid[]) AND revoked_at IS NULL AND (expires_at > now() OR family_id = ANY(%s::uuid[]))
"""
WITH_DEVICES = """
SELECT DISTINCT family_id FROM device_tokens WHERE user_id = ANY(%s::uuid[]) AND removed_at IS NULL AND family_id IS NOT NULL
"""
"""Sessions whose devices go with them, also when they expired: at most ten a person. Apart from FAMILIES: sessions lie by family."""
CREDENTIALS: Final = """
SELECT email_hash, user_id::text, sessions_from, kept_family::text FROM credentials WHERE email_hash = ANY(%s::uuid[])
"""
DECIDED: Final = """
SELECT DISTINCT ON (target_id) target_id::text, decisions.id::text, action, number FROM decisions
WHERE target_id = ANY(%s::uuid[]) AND target_type = 'user' AND action = ANY(%s) AND NOT EXISTS (
    SELECT FROM appeals WHERE appeals.target_id = decisions.target_id AND decision_id = decisions.id AND outcome = 'reversed'
)
ORDER BY target_id, number DESC
"""
"""A decision and the account that it is about stand in two topics: whichever is derived later finds the other in the rows."""


class Holder(NamedTuple):
    """Who holds an address by the rows."""

    user_id: str
    email: str
    sessions_from: int = 0
    security: Security = Security()


@dataclass(frozen=True, slots=True)
class Holders:
    """What the rows say of the addresses and people that a batch names."""

    by_address: dict[str, Holder] = field(default_factory=dict)
    families: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """User -> (family, its sessions_from) of sessions that stand, or whose devices do, of people whose sessions were ended."""
    left: dict[str, Left] = field(default_factory=dict)
    """What people who were erased left behind."""
    standings: dict[str, StandingSet] = field(default_factory=dict)
    """Person who registers -> what was decided about them before their account was in rows."""


def holders_of(conn: Connection, facts: Sequence[Fact]) -> Holders:
    """What ``follows`` needs of the rows for these facts."""
    payloads = [fact.event.payload for fact in facts if TOPIC_OF[type(fact.event.payload)] is topics.AUTH_ACCOUNTS]
    found = Holders()
    if payloads:
        named = [payload.email_hash for payload in payloads]
        for email_hash, user_id, email, sessions_from, security in conn.execute(HOLDERS, (named,)):
            held = Holder(user_id, email, sessions_from, msgspec.convert(security, Security))
            found.by_address[email_hash.hex] = held
    ended = [payload.user_id for payload in payloads if _ends_sessions(payload)]
    ended += [
        payload.displaces for payload in payloads
        if isinstance(payload, AccountRegistered | AddressClaimed) and payload.displaces
    ]
    if ended:
        registered = [family_id for (family_id,) in conn.execute(WITH_DEVICES, (ended,))]
        for user_id, family_id, sessions_from in conn.execute(FAMILIES, (ended, registered)):
            found.families.setdefault(user_id, []).append((family_id, sessions_from))
    erased = [payload.user_id for payload in payloads if isinstance(payload, StandingSet) and payload.status == "deleted"]
    if erased:
        found.left.update(left_by(conn, erased))
    registering = {payload.user_id: payload.email_hash for payload in payloads if isinstance(payload, AccountRegistered)}
    for user_id, decision_id, action, number in conn.execute(DECIDED, (sorted(registering), list(STANDINGS))) if registering else ():
        found.standings[user_id] = StandingSet(
            email_hash=registering[user_id], user_id=user_id, status=STANDINGS[action], number=number, cause_id=decision_id,
        )
    return found


def outlived(conn: Connection, facts: Sequence[Fact]) -> frozenset[str]:
    """The sessions that these facts begin although their account has ended all from before: somebody signed in just before the
    password was changed. The end and the beginning stand in two topics: whichever is derived later finds the other in the rows.
    A session that has expired is left alone.
    """
    now = datetime.now(UTC)
    begun = [
        payload for payload in (fact.event.payload for fact in facts) if isinstance(payload, SessionStarted) and payload.expires_at > now
    ]
    named = sorted({payload.email_hash for payload in begun if payload.email_hash is not None})
    if not named:
        return frozenset()
    accounts = {email_hash.hex: rest for email_hash, *rest in conn.execute(CREDENTIALS, (named,)).fetchall()}
    found = set()
    for payload in begun:
        user_id, sessions_from, kept = accounts.get(payload.email_hash or "", (None, 0, None))
        if user_id == payload.user_id and payload.sessions_from < sessions_from and payload.family_id != kept:
            found.add(payload.family_id)
    return frozenset(found)


def follows_session(event: Event, ended: Collection[str]) -> Iterator[tuple[Topic, Event]]:
    """The end of a session that is ``outlived``, as the event that ended all would have ended it."""
    payload: SessionStarted = event.payload
    if payload.family_id in ended:
        yield _revoked(event, payload.user_id, payload.family_id, "password_changed")


def follows_account(
    event: Event, version: int, holders: Holders, refresh_key: bytes
) -> Iterator[tuple[Topic, Event]]:
    """(topic, event) of what follows from an event of auth.accounts; the same ids on every repetition.

    Nothing follows from an event about an address that somebody else holds, or nobody (a shard that was believed dead
    wrote it, or somebody asked for a mail to an address that is not registered).
    """
    payload = event.payload
    holder = holders.by_address.get(payload.email_hash)
    if isinstance(payload, StandingSet) and payload.status == "deleted":
        # Whoever holds the address by now: it is free again.
        yield from _erased(event, payload, version, holders)
        return
    if isinstance(payload, AddressChanged):
        its_own = holder is not None and payload.user_id == holder.user_id
        yield from given_up(event, payload, holder.security if holder is not None and its_own else None)
    if holder is None or payload.user_id != holder.user_id:
        return
    if isinstance(payload, AccountRegistered):
        yield from _person(event, payload, refresh_key)
        if payload.identity is not None:
            yield _claim(event, payload.identity)
        if payload.displaces is not None:
            yield from _displaced(event, payload.displaces, holders)
        if payload.verification_expires_at is not None:
            yield _mail(event, holder, "verify_address", with_token=True)
        standing = holders.standings.get(payload.user_id)
        if standing is not None:
            name = standing_id(standing.cause_id)
            yield topics.AUTH_ACCOUNTS, Event(name, event.occurred_at, payload.email_hash, standing)
    elif isinstance(payload, AddressClaimed):
        yield from changed(event, payload, holder.security)
        if payload.displaces is not None:
            yield from _displaced(event, payload.displaces, holders)
    elif isinstance(payload, AddressChangeRequested):
        yield _mail(event, holder._replace(email=payload.address), "change_address", with_token=True)
    elif isinstance(payload, IdentityLinked):
        yield _claim(event, payload.identity)
    elif isinstance(payload, AddressTokenRequested) and holder.security.home is None:
        template: MailTemplate = "verify_address"
        if payload.purpose == "reset":
            template = "address_in_use" if payload.cause == "registration" else "reset_password"
        yield _mail(event, holder, template, with_token=True)
    elif isinstance(payload, TotpEnabled | TotpDisabled | PasskeyAdded | PasskeyRemoved):
        yield _mail(event, holder, "sign_in_changed", with_token=False)
    elif _ends_sessions(payload):
        reason = _REASONS.get(type(payload), "administrator")
        kept = payload.move.kept_family_id if isinstance(payload, AddressChanged) else getattr(payload, "kept_family_id", None)
        # What is carried out twice ends sessions once: those that began since stand.
        counts = not isinstance(payload, StandingSet | AddressChanged) or holder.sessions_from == version
        for family_id, sessions_from in holders.families.get(payload.user_id, ()):
            if family_id != kept and sessions_from < version and counts:
                yield _revoked(event, payload.user_id, family_id, reason)
        if isinstance(payload, PasswordSet):
            yield _mail(event, holder, "password_changed", with_token=False)
        elif isinstance(payload, AddressChanged) and holder.security.changed_by == payload.move.token_id:
            yield _mail(event, holder._replace(email=payload.move.former_address), "address_changed", with_token=False)
        elif isinstance(payload, StandingSet):
            yield _mail(event, holder, "account_restricted", with_token=False, token_id=payload.cause_id)


_REASONS: Final[Mapping[type, Reason]] = {
    PasswordSet: "password_changed", SessionsEnded: "logout", AddressChanged: "password_changed",
}


def _ends_sessions(payload: Payload) -> bool:
    """Whether sessions from before the event have ended."""
    if isinstance(payload, StandingSet):
        return payload.status != "active"
    return isinstance(payload, PasswordSet | SessionsEnded | RoleGranted | AddressChanged)


def _erased(event: Event, payload: StandingSet, version: int, holders: Holders) -> Iterator[tuple[Topic, Event]]:
    for family_id, sessions_from in holders.families.get(payload.user_id, ()):
        if sessions_from < version:
            yield _revoked(event, payload.user_id, family_id, "administrator")
    if payload.claim is not None:
        yield released(event, payload.user_id, payload.claim)
    if payload.user_id in holders.left:
        yield from taken_away(event, payload.user_id, holders.left[payload.user_id])
    yield topics.USER_UPDATED, Event(
        derived_id(event.event_id, "erased"), event.occurred_at, payload.user_id,
        UserErased(user_id=payload.user_id, email_hash=payload.email_hash),
    )


def _claim(event: Event, identity: ProviderIdentity) -> tuple[Topic, Event]:
    """The claim, in case nobody came back to make it; the nonce is the sign-in's to use up."""
    hashed, unused = hash_of(identity), msgspec.structs.replace(identity, nonce_until=event.occurred_at)
    return topics.AUTH_IDENTITIES, Event(
        derived_id(event.event_id, "identity"), event.occurred_at, hashed,
        IdentityClaimed(
            identity_hash=hashed, user_id=event.payload.user_id, email_hash=event.payload.email_hash, identity=unused
        ),
    )


def _displaced(event: Event, user_id: str, holders: Holders) -> Iterator[tuple[Topic, Event]]:
    """Somebody whose account gave way can never sign in again: no session is left, and nobody is shown their card."""
    for family_id, _ in holders.families.get(user_id, ()):
        yield _revoked(event, user_id, family_id, "administrator")
    yield topics.USER_UPDATED, Event(
        derived_id(event.event_id, "displaced"), event.occurred_at, user_id,
        PreferencesChanged(user_id=user_id, discoverable=False),
    )


def _revoked(event: Event, user_id: str, family_id: str, reason: Reason) -> tuple[Topic, Event]:
    return topics.AUTH_SESSIONS, Event(
        derived_id(family_id, "revoked"), event.occurred_at, family_id,
        SessionRevoked(family_id=family_id, user_id=user_id, reason=reason),
    )


def _person(event: Event, payload: AccountRegistered, refresh_key: bytes) -> Iterator[tuple[Topic, Event]]:
    yield topics.USER_CREATED, Event(
        derived_id(event.event_id, "user"), event.occurred_at, payload.user_id,
        UserCreated(
            user_id=payload.user_id, role=payload.role, display_name=payload.display_name, birth_date=payload.birth_date,
        ),
    )
    if payload.family_id is not None and payload.session_expires_at is not None:
        yield topics.AUTH_SESSIONS, Event(
            derived_id(event.event_id, "session"), event.occurred_at, payload.family_id,
            SessionStarted(
                family_id=payload.family_id, user_id=payload.user_id, expires_at=payload.session_expires_at,
                token_hash=token_hash(refresh_token(refresh_key, payload.family_id, 0)), email_hash=payload.email_hash,
                signed_in_at=event.occurred_at,
            ),
        )


def _mail(
    event: Event, holder: Holder, template: MailTemplate, *, with_token: bool, token_id: str | None = None
) -> tuple[Topic, Event]:
    payload, mail_id = event.payload, derived_id(event.event_id, "mail")
    expires_at = payload.verification_expires_at if isinstance(payload, AccountRegistered) else getattr(payload, "expires_at", None)
    return topics.NOTIFICATION_MAIL, Event(
        mail_id, event.occurred_at, payload.email_hash,
        MailRequested(
            mail_id=mail_id, user_id=holder.user_id, email_hash=payload.email_hash, address=holder.email,
            template=template, token_id=event.event_id if with_token else token_id,
            expires_at=expires_at if with_token else None,
        ),
    )
