"""Token families: pure decisions on start, rotation, reuse and revocation, rebuilt from rows and the log.

Merging is commutative (the highest counter wins, a revocation stays), so late, repeated and foreign events are
harmless. A refresh token is a function of family and counter; the memory needs no token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from actors.entries import Entries
from actors.sessions.commands import (
    FindSession,
    RevocationReason,
    Revoked,
    RevokeSession,
    Rotated,
    RotateSession,
    SessionFound,
    SessionInvalid,
    Started,
    StartSession,
)
from actors.sharding.memory import Append, Decision
from configs.contracts.events import Event, SessionRevoked, SessionRotated, SessionStarted
from configs.contracts.ids import derived_id, new_id
from configs.contracts.loading import SessionRow
from configs.contracts.topics import AUTH_SESSIONS

SessionCommand = StartSession | FindSession | RotateSession | RevokeSession
SessionAnswer = Started | SessionFound | Rotated | SessionInvalid | Revoked

UNSTARTED = -1
LONG_AGO = datetime.min.replace(tzinfo=UTC)
OUTAGE: Final = timedelta(minutes=5)
"""A rotation from so long before the memory was restored may be one that nobody heard of: the shard died before it
answered. A guess: restarts take seconds, a lost node a minute or two."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Family:
    """One token family; ``counter`` is its present refresh token's number, UNSTARTED while none is known."""

    __slots__ = (
        "applied_at", "counter", "email_hash", "expires_at", "loaded", "newest", "revoked", "revoked_at_ms", "rotated_at",
        "sessions_from", "signed_in_at", "user_id",
    )

    def __init__(self) -> None:
        self.loaded = False
        self.user_id: str | None = None
        self.counter = UNSTARTED
        self.rotated_at = LONG_AGO
        self.applied_at = LONG_AGO
        """When this memory learned of the present counter; of one that rows or a replay told it does not know."""
        self.expires_at = LONG_AGO
        self.revoked = False
        self.revoked_at_ms: int | None = None
        self.newest = 0
        self.email_hash: str | None = None
        self.sessions_from = 0
        self.signed_in_at: datetime | None = None

    def began(self, email_hash: str | None, sessions_from: int, signed_in_at: datetime | None) -> None:
        """Takes in how the family began; what is known stays."""
        if self.email_hash is None:
            self.email_hash, self.sessions_from, self.signed_in_at = email_hash, sessions_from, signed_in_at

    def rotation(self, user_id: str, counter: int, expires_at: datetime, version: int) -> Rotated:
        return Rotated(user_id, counter, expires_at, version, self.email_hash, self.sessions_from, self.signed_in_at)

    def advance(self, user_id: str, counter: int, at: datetime, expires_at: datetime, applied_at: datetime) -> None:
        """Takes in that the family reached a counter; of two reports of one counter the earlier time counts."""
        if counter < self.counter:
            return
        if counter > self.counter:
            self.user_id, self.counter, self.rotated_at, self.expires_at = user_id, counter, at, expires_at
            self.applied_at = applied_at
            return
        self.rotated_at, self.expires_at = min(self.rotated_at, at), max(self.expires_at, expires_at)


class SessionMemory:
    """Families in memory. ``refresh_ttl_s``: life without use; ``grace_s``: how long a predecessor is answered.

    The grace begins when the successor can be handed out: a client that got none presents its token again.
    """

    def __init__(self, *, refresh_ttl_s: float, grace_s: float, clock: Callable[[], datetime] = utc_now) -> None:
        self._families: Entries[Family] = Entries(Family)
        self._ttl = timedelta(seconds=refresh_ttl_s)
        self._grace = timedelta(seconds=grace_s)
        self._clock = clock
        self._restored_at = LONG_AGO

    def restored(self) -> None:
        """Says that the replay is over and commands follow."""
        self._restored_at = self._clock()

    def needs(self, command: SessionCommand) -> Sequence[str]:
        """None for a sign-in: its family is new, and its event id tells a repeated command."""
        if isinstance(command, StartSession) and command.parent_event_id is None:
            return ()
        return (command.family_id,)

    def known(self, key: str) -> bool:
        family = self._families.get(key)
        return family is not None and family.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges a ``SessionRow``; None: no row knows the family."""
        family = self._families.use(key)
        family.loaded = True
        if not isinstance(row, SessionRow):
            return
        family.newest = max(family.newest, row.version)
        family.user_id = family.user_id or row.user_id
        family.revoked = family.revoked or row.revoked
        family.began(row.email_hash, row.sessions_from, row.signed_in_at)
        family.advance(row.user_id, row.counter, row.rotated_at, row.expires_at, LONG_AGO)

    def conflict_key(self, command: SessionCommand) -> str:
        return command.family_id

    def decide(self, command: SessionCommand, now: datetime) -> Decision[SessionAnswer]:
        family = self._families.get(command.family_id) or Family()
        if isinstance(command, StartSession):
            return self._start(command, family, now)
        if isinstance(command, FindSession):
            return _answer(_found(family, now))
        if isinstance(command, RotateSession):
            return self._rotate(command, family, now)
        return self._revoke(command, family, now)

    def _start(self, command: StartSession, family: Family, now: datetime) -> Decision[SessionAnswer]:
        if family.counter > UNSTARTED or family.revoked:
            return _answer(Started(family.newest, family.revoked))
        parent = command.parent_event_id
        event_id = derived_id(command.family_id, "started") if parent is None else derived_id(parent, "session")
        payload = SessionStarted(
            family_id=command.family_id,
            user_id=command.user_id,
            token_hash=command.token_hash,
            expires_at=command.expires_at,
            email_hash=command.email_hash,
            sessions_from=command.sessions_from,
            signed_in_at=command.signed_in_at,
            client=command.client,
        )
        return _decision(
            Event(event_id, now, command.family_id, payload),
            Started if parent is not None else lambda version: self._signed_in(command.family_id, version),
        )

    def _signed_in(self, family_id: str, version: int) -> Started:
        """A new family's start is all there is to know of it, so that it can be refreshed while PostgreSQL is away."""
        family = self._families.get(family_id)
        if family is not None and family.newest == version:
            family.loaded = True
        return Started(version)

    def _rotate(self, command: RotateSession, family: Family, now: datetime) -> Decision[SessionAnswer]:
        found = _found(family, now)
        if isinstance(found, SessionInvalid):
            return _answer(found)
        user_id = found.user_id
        if command.counter > family.counter:
            # A rotation that a memory-only broker lost with its log; not the holder's fault, so nothing is revoked.
            return _answer(SessionInvalid("unknown", user_id))
        if command.counter == family.counter:
            counter, expires_at = family.counter + 1, now + self._ttl
            payload = SessionRotated(
                family_id=command.family_id,
                user_id=user_id,
                counter=counter,
                token_hash=command.next_token_hash,
                expires_at=expires_at,
            )
            return _decision(
                Event(new_id(), now, command.family_id, payload),
                lambda version: family.rotation(user_id, counter, expires_at, version),
            )
        if command.counter == family.counter - 1 and now - self._handed_out_at(family) <= self._grace:
            return _answer(family.rotation(user_id, family.counter, family.expires_at, family.newest))
        return _decision(
            _revocation(command.family_id, user_id, "reuse", now),
            lambda version: SessionInvalid("reused", user_id, revoked_now=True),
        )

    def _handed_out_at(self, family: Family) -> datetime:
        """When somebody can have got the present token at the earliest: a late append, or a restart, comes between."""
        lately = self._restored_at - family.rotated_at <= OUTAGE
        return max(family.rotated_at, family.applied_at, self._restored_at if lately else LONG_AGO)

    def _revoke(self, command: RevokeSession, family: Family, now: datetime) -> Decision[SessionAnswer]:
        if command.only_own and family.user_id != command.user_id:
            return _answer(SessionInvalid("unknown"))
        user_id = family.user_id or command.user_id
        at_ms = _milliseconds(now)
        if family.revoked:
            held = family.revoked_at_ms
            return _answer(Revoked(user_id, at_ms if held is None else held, family.newest))
        return _decision(
            _revocation(command.family_id, user_id, command.reason, now),
            lambda version: Revoked(user_id, at_ms, version),
        )

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if not isinstance(payload, SessionStarted | SessionRotated | SessionRevoked):
            return
        family = self._families.use(payload.family_id)
        applied_at = self._clock() if family.loaded else LONG_AGO
        family.newest = max(family.newest, version)
        if isinstance(payload, SessionRevoked):
            at_ms = _milliseconds(event.occurred_at)
            family.revoked = True
            family.revoked_at_ms = at_ms if family.revoked_at_ms is None else min(family.revoked_at_ms, at_ms)
            family.user_id = family.user_id or payload.user_id
        elif isinstance(payload, SessionRotated):
            family.advance(payload.user_id, payload.counter, event.occurred_at, payload.expires_at, applied_at)
        else:
            family.began(payload.email_hash, payload.sessions_from, payload.signed_in_at)
            family.advance(payload.user_id, 0, event.occurred_at, payload.expires_at, applied_at)
            # Not loaded by that: the log's echo of a start may come after its family was revoked, committed and evicted.
            # Only this memory's own sign-in is, when it is answered.

    def revoked(self, family_id: str) -> bool:
        """Whether the memory holds that the family is revoked; False also when it holds nothing of it."""
        family = self._families.get(family_id)
        return family is not None and family.revoked

    def entries(self) -> int:
        return len(self._families)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._families.evict(limit, lambda key, family: family.newest < committed(key))


def _found(family: Family, now: datetime) -> SessionFound | SessionInvalid:
    if family.user_id is None or (family.counter == UNSTARTED and not family.revoked):
        return SessionInvalid("unknown")
    if family.revoked:
        return SessionInvalid("revoked", family.user_id)
    if now >= family.expires_at:
        return SessionInvalid("expired", family.user_id)
    return SessionFound(family.user_id, family.email_hash, family.sessions_from)


def _revocation(family_id: str, user_id: str, reason: RevocationReason, now: datetime) -> Event:
    # The id is derived so that two shards that believe to own the family revoke it with one event.
    payload = SessionRevoked(family_id=family_id, user_id=user_id, reason=reason)
    return Event(derived_id(family_id, "revoked"), now, family_id, payload)


def _answer(answer: SessionAnswer) -> Decision[SessionAnswer]:
    return Decision((), lambda versions: answer)


def _decision(event: Event, answer: Callable[[int], SessionAnswer]) -> Decision[SessionAnswer]:
    return Decision((Append(AUTH_SESSIONS, event.key, event),), lambda versions: answer(versions[0]))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000)
