"""A provider's identity belongs to one account for good, and a nonce works once, whatever is lost, repeated and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard

from actors.identities.commands import ClaimIdentity, Identified, IdentityUnknown, NonceUsed, UseIdentity
from actors.identities.state import IdentityMemory
from configs.contracts.accounts import IdentityRow, identity_after
from configs.contracts.events import Event, IdentityClaimed, ProviderIdentity
from configs.contracts.ids import derived_id, identity_hash, new_id
from configs.contracts.positions import version_of

SUBJECTS = st.sampled_from(["one", "two"])
NONCES = st.sampled_from(["n1", "n2", "n3"])
LIVES = timedelta(minutes=10)


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> IdentityRow | None:
    row: IdentityRow | None = None
    for event, version in committed:
        if event.payload.identity_hash == key:
            row = identity_after(row, event, version)
    return row


class Identities(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(IdentityMemory, rows_of)
        self.owners: dict[str, str] = {}
        self.used: dict[tuple[str, str], datetime] = {}
        """(subject, nonce) -> until when it must not work again."""

    def identity(self, subject: str, nonce: str) -> ProviderIdentity:
        return ProviderIdentity(issuer="i", subject=subject, nonce_hash=nonce, nonce_until=self.shard.now + LIVES)

    def fresh(self, subject: str, nonce: str) -> bool:
        return self.used.get((subject, nonce), self.shard.now) <= self.shard.now

    def expect(self, subject: str, nonce: str, command: Any, crash: bool) -> None:
        fresh, known = self.fresh(subject, nonce), subject in self.owners
        answer = None if crash else self.shard.ask(command)
        if crash:
            self.shard.ask_and_crash(command)
        if not known and isinstance(command, UseIdentity):
            assert crash or answer == IdentityUnknown()
            return
        if known and not fresh:
            assert crash or answer == NonceUsed()
            return
        self.owners.setdefault(subject, getattr(command, "user_id", ""))
        self.used[subject, nonce] = self.shard.now + LIVES
        if not crash:
            assert isinstance(answer, Identified)
            assert answer.user_id == self.owners[subject]

    @rule(subject=SUBJECTS, nonce=NONCES, crash=st.booleans())
    def use(self, subject: str, nonce: str, crash: bool) -> None:
        command = UseIdentity(identity_hash=identity_hash("i", subject), identity=self.identity(subject, nonce))
        self.expect(subject, nonce, command, crash)

    @rule(subject=SUBJECTS, nonce=NONCES, crash=st.booleans())
    def claim(self, subject: str, nonce: str, crash: bool) -> None:
        self.expect(subject, nonce, ClaimIdentity(
            identity_hash=identity_hash("i", subject), identity=self.identity(subject, nonce), user_id=new_id(),
            email_hash="ab" * 16, parent_event_id=new_id(),
        ), crash)

    @rule(subject=SUBJECTS)
    def derived_claim_comes_from_elsewhere(self, subject: str) -> None:
        """``derive`` appends it too; its nonce is already past."""
        hashed, user_id = identity_hash("i", subject), new_id()
        payload = IdentityClaimed(
            identity_hash=hashed, user_id=user_id, email_hash="ab" * 16,
            identity=ProviderIdentity(issuer="i", subject=subject, nonce_hash="derived", nonce_until=self.shard.now),
        )
        self.shard.log.append((Event(derived_id(user_id, "identity"), self.shard.now, hashed, payload), 0))
        version = version_of(1, len(self.shard.log) - 1)
        self.shard.log[-1] = (self.shard.log[-1][0], version)
        self.shard.memory.apply(*self.shard.log[-1])
        self.owners.setdefault(subject, user_id)

    @rule(seconds=st.sampled_from([1, 300, 600]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)

    @invariant()
    def the_rows_agree_on_the_owner(self) -> None:
        for subject, owner in self.owners.items():
            row = rows_of(identity_hash("i", subject), self.shard.log, self.shard.now)
            assert row is not None
            assert row.user_id == owner


TestIdentities = Identities.TestCase
TestIdentities.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
