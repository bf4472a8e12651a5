"""What a session shard decides at the edges: grace, expiry, the derived start, revocation before the start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from actors.sessions.commands import (
    Revoked,
    RevokeSession,
    Rotated,
    RotateSession,
    SessionInvalid,
    Started,
    StartSession,
)
from actors.sessions.state import SessionAnswer, SessionCommand, SessionMemory
from configs.contracts.events import Event, SessionRevoked, SessionStarted
from configs.contracts.ids import derived_id, new_id
from configs.contracts.loading import SessionRow
from configs.contracts.positions import version_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TTL_S, GRACE_S = 1_000.0, 10.0
FAMILY, USER, PARENT = new_id(), new_id(), new_id()


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def ask(memory: SessionMemory, command: SessionCommand, now: datetime = NOW, offset: int = 0) -> SessionAnswer:
    decision = memory.decide(command, now)
    versions = tuple(version_of(1, offset) for _ in decision.appends)
    for append, version in zip(decision.appends, versions, strict=True):
        memory.apply(append.event, version)
    return decision.answer(versions)


def memory() -> SessionMemory:
    return SessionMemory(refresh_ttl_s=TTL_S, grace_s=GRACE_S)


def start(parent: str | None = None) -> StartSession:
    return StartSession(
        family_id=FAMILY, user_id=USER, token_hash="t0", email_hash="ab" * 16, signed_in_at=NOW, expires_at=after(TTL_S), parent_event_id=parent
    )


def rotate(counter: int) -> RotateSession:
    return RotateSession(family_id=FAMILY, counter=counter, next_token_hash="next")


def test_a_sign_in_needs_no_rows_and_its_family_is_known_at_once() -> None:
    """Otherwise signing in would wait for PostgreSQL."""
    sessions = memory()
    assert sessions.needs(start()) == ()
    assert sessions.needs(start(PARENT)) == (FAMILY,)
    ask(sessions, start())
    assert sessions.known(FAMILY)


def test_a_replayed_start_after_a_registration_still_needs_the_rows() -> None:
    """The rows may hold a revocation from before the start in the tail."""
    sessions = memory()
    payload = SessionStarted(family_id=FAMILY, user_id=USER, token_hash="t0", expires_at=after(TTL_S))
    sessions.apply(Event(derived_id(PARENT, "session"), NOW, FAMILY, payload), version_of(1, 3))
    assert not sessions.known(FAMILY)
    sessions.load(FAMILY, SessionRow(FAMILY, USER, 0, "t0", NOW, after(TTL_S), True, version_of(1, 2)))
    assert ask(sessions, rotate(0)) == SessionInvalid("revoked", USER)


def test_the_start_is_named_after_its_registration() -> None:
    """The consumer that derives it uses the same name, so the rows see one event."""
    sessions = memory()
    sessions.load(FAMILY, None)
    assert sessions.decide(start(PARENT), NOW).appends[0].event.event_id == derived_id(PARENT, "session")


def test_a_derived_start_that_comes_late_does_not_rewind_the_counter() -> None:
    sessions = memory()
    sessions.load(FAMILY, None)
    ask(sessions, start(PARENT))
    ask(sessions, rotate(0), offset=1)
    payload = SessionStarted(family_id=FAMILY, user_id=USER, token_hash="t0", expires_at=after(9 * TTL_S))
    sessions.apply(Event(derived_id(PARENT, "session"), after(5), FAMILY, payload), version_of(1, 2))
    assert ask(sessions, rotate(1), after(6), offset=3) == Rotated(USER, 2, after(6 + TTL_S), version_of(1, 3), "ab" * 16, 0, NOW)


def test_the_predecessor_works_to_the_end_of_the_grace_time_and_not_longer() -> None:
    """A lost answer may be retried; a stolen token betrays itself."""
    sessions = memory()
    ask(sessions, start())
    rotated = ask(sessions, rotate(0), offset=1)
    assert ask(sessions, rotate(0), after(GRACE_S)) == rotated
    late = ask(sessions, rotate(0), after(GRACE_S + 0.001), offset=2)
    assert late == SessionInvalid("reused", USER, revoked_now=True)
    assert ask(sessions, rotate(1), after(11)) == SessionInvalid("revoked", USER)
    assert ask(sessions, rotate(0), after(11)) == SessionInvalid("revoked", USER)


def test_a_grandparent_revokes_even_within_the_grace_time() -> None:
    sessions = memory()
    ask(sessions, start())
    ask(sessions, rotate(0), offset=1)
    ask(sessions, rotate(1), offset=2)
    assert ask(sessions, rotate(0), offset=3) == SessionInvalid("reused", USER, revoked_now=True)


def test_a_family_expires_without_use_and_lives_on_with_it() -> None:
    sessions = memory()
    ask(sessions, start())
    assert isinstance(ask(sessions, rotate(0), after(TTL_S - 1), offset=1), Rotated)
    assert isinstance(ask(sessions, rotate(1), after(TTL_S + 1), offset=2), Rotated)
    assert ask(sessions, rotate(2), after(2 * TTL_S + 1)) == SessionInvalid("expired", USER)


def test_a_token_from_a_lost_log_is_refused_without_revoking() -> None:
    sessions = memory()
    ask(sessions, start())
    assert ask(sessions, rotate(4)) == SessionInvalid("unknown", USER)
    assert isinstance(ask(sessions, rotate(0), offset=1), Rotated)


def test_a_family_revoked_before_its_start_is_known_never_starts() -> None:
    """Otherwise signing out right after registering would leave a working refresh token."""
    sessions = memory()
    sessions.load(FAMILY, None)
    command = RevokeSession(family_id=FAMILY, user_id=USER, reason="logout")
    assert ask(sessions, command, offset=4) == Revoked(USER, int(NOW.timestamp() * 1_000), version_of(1, 4))
    assert sessions.decide(start(PARENT), NOW).appends == ()
    assert ask(sessions, start(PARENT)) == Started(version_of(1, 4))
    assert ask(sessions, rotate(0)) == SessionInvalid("revoked", USER)


def test_revoking_again_says_when_it_was_revoked_first() -> None:
    sessions = memory()
    ask(sessions, start())
    command = RevokeSession(family_id=FAMILY, user_id=USER, reason="logout")
    first = ask(sessions, command, after(1), offset=1)
    assert ask(sessions, command, after(60)) == first
    reloaded = memory()
    reloaded.load(FAMILY, SessionRow(FAMILY, USER, 0, "t0", NOW, after(TTL_S), True, version_of(1, 1)))
    assert ask(reloaded, command, after(60)) == Revoked(USER, int(after(60).timestamp() * 1_000), version_of(1, 1))


def test_rival_shards_revoke_with_one_event() -> None:
    sessions = memory()
    ask(sessions, start())
    command = RevokeSession(family_id=FAMILY, user_id=USER, reason="logout")
    one, two = (sessions.decide(command, after(wait)).appends[0].event for wait in (1, 2))
    assert one.event_id == two.event_id
    assert isinstance(one.payload, SessionRevoked)
