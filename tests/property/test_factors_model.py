"""Codes, recovery codes, ceremonies and passkey counters work once, whatever is lost, repeated, replayed and evicted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard

from actors.accounts.answers import Factors, NotSignedIn, SignedIn
from actors.accounts.commands import (
    AddPasskey,
    Challenge,
    DisableTotp,
    EnableTotp,
    EndSessions,
    Register,
    RemovePasskey,
    UseCode,
    UsePasskey,
)
from actors.accounts.state import AccountMemory, AccountRows
from configs.contracts.accounts import AccountRow, after
from configs.contracts.ids import email_hash, new_id

ADDRESS = "ada@example.org"
HASH = email_hash(ADDRESS)
OWNER = "01a00000-0000-7000-8000-000000000001"
CEREMONIES = st.integers(0, 3)
LIVES = timedelta(minutes=5)
MOSTLY = st.sampled_from([True, True, True, False])


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> AccountRows:
    row: AccountRow | None = None
    for event, version in committed:
        row = after(row, event, version)
    return AccountRows(row, ())


class SecondFactors(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(AccountMemory, rows_of)
        self.challenges: list[Challenge] = []
        self.spent: set[str] = set()
        self.step: int | None = None
        """Of the last code used; None while no codes are asked for."""
        self.recovery: set[str] = set()
        self.passkeys: dict[str, int] = {}

    @initialize()
    def register(self) -> None:
        self.shard.ask(Register(
            user_id=OWNER, email=ADDRESS, email_hash=HASH, password_hash="h", role="sugar_baby", display_name="Ada",
            birth_date="1990-01-01",
        ))
        ended = self.shard.ask(EndSessions(email_hash=HASH, user_id=OWNER, family_id=new_id(), sessions_from=0))
        self.sessions_from: int = ended.version

    def session(self, stands: bool) -> dict[str, Any]:
        """Who asks: a session of the account that still is one, or that has ended."""
        sessions_from = self.sessions_from if stands else 0
        return {"email_hash": HASH, "user_id": OWNER, "family_id": new_id(), "sessions_from": sessions_from}

    def challenge(self, index: int) -> Challenge:
        """One of the last few ceremonies, or a new one."""
        if index == 0 or index > len(self.challenges):
            self.challenges.append(Challenge(new_id(), self.shard.now + LIVES))
            return self.challenges[-1]
        return self.challenges[-index]

    def open(self, challenge: Challenge) -> bool:
        return challenge.challenge_id not in self.spent and self.shard.now < challenge.until

    def ask(self, command: Any, taken: bool, expected: type, crash: bool = False) -> None:
        before = len(self.shard.log)
        if crash:
            self.shard.ask_and_crash(command)
        else:
            assert isinstance(self.shard.ask(command), expected if taken else NotSignedIn)
        assert len(self.shard.log) - before == int(taken)
        if taken and hasattr(command, "challenge"):
            self.spent.add(command.challenge.challenge_id)

    @rule(step=st.integers(1, 4), stands=MOSTLY)
    def enable(self, step: int, stands: bool) -> None:
        codes, taken = (new_id(), new_id()), stands and self.step is None
        self.ask(EnableTotp(
            **self.session(stands), sealed_secret="s", step=step, recovery_hashes=codes
        ), taken, Factors)
        if taken:
            self.step, self.recovery = step, set(codes)

    @rule(stands=MOSTLY)
    def disable(self, stands: bool) -> None:
        self.ask(DisableTotp(**self.session(stands)), stands and self.step is not None, Factors)
        if stands:
            self.step, self.recovery = None, set()

    @rule(step=st.integers(1, 8), which=CEREMONIES, crash=st.booleans(), mine=st.booleans())
    def use_code(self, step: int, which: int, crash: bool, mine: bool) -> None:
        challenge = self.challenge(which)
        taken = mine and self.step is not None and step > self.step and self.open(challenge)
        self.ask(UseCode(
            email_hash=HASH, user_id=OWNER if mine else new_id(), challenge=challenge,
            sessions_from=self.sessions_from, step=step,
        ), taken, SignedIn, crash)
        if taken:
            self.step = step

    @rule(which=CEREMONIES, known=st.booleans(), crash=st.booleans())
    def use_recovery_code(self, which: int, known: bool, crash: bool) -> None:
        challenge = self.challenge(which)
        code = min(self.recovery) if known and self.recovery else "used before"
        taken = code in self.recovery and self.open(challenge)
        self.ask(UseCode(
            email_hash=HASH, user_id=OWNER, challenge=challenge, sessions_from=self.sessions_from, recovery_hash=code
        ), taken, SignedIn, crash)
        if taken:
            self.recovery.discard(code)

    @rule(name=st.sampled_from(["a", "b"]), which=CEREMONIES, count=st.integers(0, 2), stands=MOSTLY)
    def add_passkey(self, name: str, which: int, count: int, stands: bool) -> None:
        challenge = self.challenge(which)
        taken = stands and name not in self.passkeys and self.open(challenge)
        self.ask(AddPasskey(
            **self.session(stands), challenge=challenge, credential_id=name, public_key="k", sign_count=count, name="n"
        ), taken, Factors)
        if taken:
            self.passkeys[name] = count

    @rule(name=st.sampled_from(["a", "b", "c"]), which=CEREMONIES, count=st.integers(0, 5), crash=st.booleans())
    def use_passkey(self, name: str, which: int, count: int, crash: bool) -> None:
        challenge, held = self.challenge(which), self.passkeys.get(name)
        taken = held is not None and self.open(challenge) and (count > held or count == held == 0)
        self.ask(UsePasskey(
            email_hash=HASH, user_id=OWNER, challenge=challenge, credential_id=name, sign_count=count
        ), taken, SignedIn, crash)
        if taken:
            self.passkeys[name] = count

    @rule(name=st.sampled_from(["a", "b"]), stands=MOSTLY)
    def remove_passkey(self, name: str, stands: bool) -> None:
        taken = stands and name in self.passkeys
        self.ask(RemovePasskey(**self.session(stands), credential_id=name), taken, Factors)
        if taken:
            del self.passkeys[name]

    @rule(seconds=st.sampled_from([1, 120, 300]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)


TestSecondFactors = SecondFactors.TestCase
TestSecondFactors.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
