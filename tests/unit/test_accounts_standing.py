"""Roles and standings of an account: who signs in, what stays of the erased, and which of two standings counts."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from actors.accounts.answers import (
    AccountChanged,
    AccountGone,
    AddressTaken,
    NotSignedIn,
    Registered,
    SessionStands,
    SignedIn,
)
from actors.accounts.commands import CheckSession, GrantRole, JoinIdentity, Register, RequestToken, SetStanding, SignIn
from actors.accounts.state import AccountMemory, AccountRows
from configs.contracts.accounts import after
from configs.contracts.events import AddressTokenRequested, Event, ProviderIdentity, StandingSet
from configs.contracts.ids import email_hash, identity_hash, new_id
from configs.contracts.moderation import ERASED_NUMBER
from configs.contracts.positions import version_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ADDRESS = "ada@example.org"
HASH = email_hash(ADDRESS)


class Shard:
    """One address: commands are decided, appended and applied."""

    def __init__(self) -> None:
        self.memory, self.offset = AccountMemory(), 0
        self.memory.load(HASH, AccountRows(None, ()))
        self.events: list[Event] = []
        self.user = self.register().user_id

    def ask(self, command: Any) -> Any:
        decision = self.memory.decide(command, NOW)
        versions = []
        for append in decision.appends:
            self.offset += 1
            versions.append(version_of(1, self.offset))
            self.memory.apply(append.event, versions[-1])
            self.events.append(append.event)
        return decision.answer(tuple(versions))

    def register(self) -> Any:
        return self.ask(Register(
            user_id=new_id(), email=ADDRESS, email_hash=HASH, password_hash="h", role="sugar_daddy", display_name="Ada Lovelace",
            birth_date="1990-01-01", family_id=new_id(), session_expires_at=NOW + timedelta(days=30),
        ))

    def stand(self, status: Any, number: int, user: str | None = None) -> Any:
        return self.ask(SetStanding(
            email_hash=HASH, user_id=user or self.user, status=status, number=number, cause_id=new_id(), event_id=new_id()
        ))

    def sign_in(self) -> Any:
        return self.ask(SignIn(email_hash=HASH, user_id=self.user, stored="h"))

    def stands(self, sessions_from: int) -> SessionStands:
        found: SessionStands = self.ask(
            CheckSession(email_hash=HASH, user_id=self.user, family_id=new_id(), sessions_from=sessions_from)
        )
        return found


def test_a_role_travels_with_the_next_sign_in_and_ends_the_sessions_before() -> None:
    shard = Shard()
    assert shard.sign_in().permission_role == "user"
    granted = shard.ask(GrantRole(email_hash=HASH, role="moderator", granted_by="service:test"))
    assert isinstance(granted, AccountChanged)
    assert not shard.stands(0).stands
    admitted = shard.sign_in()
    assert (admitted.permission_role, admitted.sessions_from) == ("moderator", granted.version)
    assert shard.stands(admitted.sessions_from) == SessionStands(True, "moderator")
    assert shard.ask(GrantRole(email_hash=HASH, role="moderator", granted_by="service:test")).version == 0
    unknown = GrantRole(email_hash=email_hash("nobody@example.org"), role="admin", granted_by="service:test")
    shard.memory.load(unknown.email_hash, AccountRows(None, ()))
    assert shard.ask(unknown) == NotSignedIn()


@pytest.mark.parametrize("status", ["suspended", "banned"])
def test_nobody_signs_in_to_an_account_that_is_not_active_and_an_appeal_opens_it_again(status: str) -> None:
    shard = Shard()
    shard.stand(status, 1)
    assert shard.sign_in() == NotSignedIn()
    assert not shard.stands(10**18).stands
    assert shard.register() == AddressTaken(), "the address of a closed account stays taken"
    assert shard.ask(GrantRole(email_hash=HASH, role="admin", granted_by="x")) == NotSignedIn()
    shard.stand("active", 2)
    assert isinstance(shard.sign_in(), SignedIn)
    assert not shard.stands(0).stands, "sessions from before the decision stay ended"


def test_of_standings_the_highest_number_counts_in_whatever_order_they_come() -> None:
    facts = [("suspended", 1), ("active", 2), ("banned", 3)]
    for order in permutations(facts):
        shard = Shard()
        row = shard.memory._accounts.use(HASH).row
        for place, (status, number) in enumerate(order):
            payload = StandingSet(user_id=shard.user, email_hash=HASH, status=status, number=number, cause_id=new_id())  # type: ignore[arg-type]
            row = after(row, Event(new_id(), NOW, HASH, payload), version_of(1, 10 + place))
        assert row is not None
        assert (row.status, row.standing_number) == ("banned", 3)


def test_of_an_erased_account_nothing_is_remembered_and_the_address_is_free() -> None:
    shard = Shard()
    first = shard.user
    shard.stand("deleted", ERASED_NUMBER)
    assert shard.sign_in() == NotSignedIn()
    memory = pickle.dumps([(entry.row, entry.base, entry.events) for entry in shard.memory._accounts._by_key.values()])
    assert ADDRESS.encode() not in memory
    assert b"Lovelace" not in memory
    shard.ask(RequestToken(email_hash=HASH, purpose="reset", expires_at=NOW))
    asked = shard.events[-1].payload
    assert isinstance(asked, AddressTokenRequested)
    assert asked.user_id is None, "nobody gets a mail"
    again = shard.register()
    assert isinstance(again, Registered)
    assert again.user_id != first
    shard.stand("banned", ERASED_NUMBER + 1, first)
    shard.user = again.user_id
    assert isinstance(shard.sign_in(), SignedIn), "what concerned the erased person does not concern the new one"


def test_an_identity_is_told_that_its_account_is_gone_only_after_an_erasure() -> None:
    """Only then may it join another account; a password is told no more than that it does not sign in."""
    shard, identity = Shard(), ProviderIdentity(issuer="i", subject="s", nonce_hash="n", nonce_until=NOW)
    joined = shard.ask(JoinIdentity(
        email=ADDRESS, email_hash=HASH, identity=identity, user_id=new_id(), role="sugar_baby", display_name="A",
        birth_date="1990-01-01",
    ))
    mine = SignIn(email_hash=HASH, user_id=joined.user_id, identity_hash=identity_hash("i", "s"))
    assert isinstance(shard.ask(mine), SignedIn)
    for number, status in enumerate(("suspended", "banned"), 1):
        shard.stand(status, number, joined.user_id)
        assert shard.ask(mine) == NotSignedIn()
    shard.stand("deleted", ERASED_NUMBER, joined.user_id)
    shard.user = joined.user_id
    assert (shard.ask(mine), shard.sign_in()) == (AccountGone(), NotSignedIn())
    shard.register()
    assert (shard.ask(mine), shard.sign_in()) == (AccountGone(), NotSignedIn()), "somebody else has the address"
