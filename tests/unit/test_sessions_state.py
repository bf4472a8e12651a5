"""What a session shard decides at the edges: grace, expiry, the derived start, revocation before the start."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from actors.sessions.commands import (
    FindSession,
    Revoked,
    RevokeSession,
    Rotated,
    RotateSession,
    SessionFound,
    SessionInvalid,
    Started,
    StartSession,
)
from actors.sessions.state import OUTAGE, SessionAnswer, SessionCommand, SessionMemory
from configs.contracts.events import Event, SessionRevoked, SessionRotated, SessionStarted
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


def memory(clock: Callable[[], datetime] = lambda: NOW) -> SessionMemory:
    return SessionMemory(refresh_ttl_s=TTL_S, grace_s=GRACE_S, clock=clock)


def start(parent: str | None = None) -> StartSession:
    return StartSession(
        family_id=FAMILY, user_id=USER, token_hash="t0", email_hash="ab" * 16, signed_in_at=NOW, expires_at=after(TTL_S), parent_event_id=parent
    )


def rotate(counter: int) -> RotateSession:
    return RotateSession(family_id=FAMILY, counter=counter, next_token_hash="next")


def test_a_sign_in_needs_no_rows() -> None:
    """Otherwise signing in would wait for PostgreSQL."""
    sessions = memory()
    assert sessions.needs(start()) == ()
    assert sessions.needs(start(PARENT)) == (FAMILY,)


@pytest.mark.parametrize("parent", [None, PARENT], ids=["a sign-in", "a registration"])
def test_a_start_that_the_log_repeats_still_needs_the_rows(parent: str | None) -> None:
    """They may hold a revocation that is committed and evicted: the log's echo would undo it otherwise."""
    sessions = memory()
    sessions.load(FAMILY, None)
    event = sessions.decide(start(parent), NOW).appends[0].event
    sessions.apply(event, version_of(1, 3))
    ask(sessions, RevokeSession(family_id=FAMILY, user_id=USER, reason="logout"), offset=4)
    assert sessions.evict(0, lambda key: version_of(1, 5)) == 1
    sessions.apply(event, version_of(1, 3))
    assert not sessions.known(FAMILY)
    sessions.load(FAMILY, SessionRow(FAMILY, USER, 0, "t0", NOW, after(TTL_S), True, version_of(1, 2)))
    assert ask(sessions, rotate(0)) == SessionInvalid("revoked", USER)


def test_a_new_family_needs_rows_only_if_a_registration_implies_it() -> None:
    """A sign-in's family can be refreshed and ended while PostgreSQL is away."""
    sessions = memory()
    ask(sessions, start())
    assert sessions.known(FAMILY)
    assert sessions.evict(0, lambda key: version_of(1, 1)) == 1
    ask(sessions, start(PARENT), offset=1)
    assert not sessions.known(FAMILY)


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


def test_a_rotation_that_was_appended_late_leaves_its_client_the_whole_grace_time() -> None:
    """It was told 503, so nobody holds the successor; presenting the token again is no reuse."""
    clock = [NOW]
    sessions = memory(lambda: clock[0])
    sessions.load(FAMILY, None)
    ask(sessions, start())
    decision = sessions.decide(rotate(0), NOW)
    clock[0] = after(60)
    sessions.apply(decision.appends[0].event, version_of(1, 1))
    assert ask(sessions, rotate(0), after(60 + GRACE_S)) == Rotated(USER, 1, after(TTL_S), version_of(1, 1), "ab" * 16, 0, NOW)
    late = ask(sessions, rotate(0), after(60 + GRACE_S + 0.001), offset=2)
    assert late == SessionInvalid("reused", USER, revoked_now=True)


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize(("down_s", "known"), [(60, True), (OUTAGE.total_seconds(), True), (OUTAGE.total_seconds() + 1, False)])
def test_a_rotation_that_a_shard_took_with_it_is_answered_by_the_next_life_unless_it_is_old(
    committed: bool, down_s: float, known: bool
) -> None:
    """Old ones were answered: their predecessors must betray a thief whenever a shard restarts."""
    payload = SessionStarted(family_id=FAMILY, user_id=USER, token_hash="t0", expires_at=after(TTL_S))
    rotation = SessionRotated(family_id=FAMILY, user_id=USER, counter=1, token_hash="t", expires_at=after(TTL_S))
    events = [Event(new_id(), NOW, FAMILY, payload), Event(new_id(), NOW, FAMILY, rotation)]
    sessions = memory(lambda: after(down_s))
    if committed:
        sessions.load(FAMILY, SessionRow(FAMILY, USER, 1, "t", NOW, after(TTL_S), False, version_of(1, 1)))
    else:
        for offset, event in enumerate(events):
            sessions.apply(event, version_of(1, offset))
        sessions.load(FAMILY, None)
    sessions.restored()
    answer = ask(sessions, rotate(0), after(down_s + GRACE_S), offset=2)
    assert isinstance(answer, Rotated) == known
    assert isinstance(ask(sessions, rotate(0), after(down_s + GRACE_S + 1), offset=2), SessionInvalid)


def test_asking_whose_a_family_is_changes_nothing() -> None:
    sessions = memory()
    find = FindSession(family_id=FAMILY)
    assert sessions.needs(find) == (FAMILY,)
    assert ask(sessions, find) == SessionInvalid("unknown")
    ask(sessions, start())
    assert sessions.decide(find, NOW).appends == ()
    assert ask(sessions, find) == SessionFound(USER, "ab" * 16, 0)
    assert ask(sessions, find, after(TTL_S)) == SessionInvalid("expired", USER)
    ask(sessions, RevokeSession(family_id=FAMILY, user_id=USER, reason="logout"), offset=1)
    assert ask(sessions, find) == SessionInvalid("revoked", USER)


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
    assert ask(sessions, start(PARENT)) == Started(version_of(1, 4), revoked=True)
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
