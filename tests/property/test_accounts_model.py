"""An address belongs to one person for good, and a token works once, whatever is retried, lost, replayed, evicted and loaded again."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard

from actors.accounts.answers import (
    AccountChanged,
    AddressTaken,
    AwaitsConfirmation,
    NotSignedIn,
    Registered,
    Rehashed,
    SessionStands,
    SignedIn,
    TokenInvalid,
)
from actors.accounts.commands import (
    CheckSession,
    EndSessions,
    Register,
    Rehash,
    RequestToken,
    ResetPassword,
    SetPassword,
    SignIn,
    VerifyAddress,
)
from actors.accounts.state import AccountMemory, AccountRows
from actors.idempotency import IdempotencyConflict
from configs.contracts.accounts import after
from configs.contracts.events import AccountRegistered
from configs.contracts.ids import email_hash, new_id
from configs.contracts.loading import AccountRow, IdempotencyRow

DAY = timedelta(hours=24)
ADDRESSES = st.sampled_from(["ada@example.org", "bob@example.org"])
KEYS = st.sampled_from([None, "k1", "k2"])
MOSTLY = st.sampled_from([True, True, True, False])
DIGESTS = st.sampled_from(["d1", "d2"])


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> AccountRows:
    """What the sinks would have written: the fold of the address's events, remembered requests of a day."""
    row: AccountRow | None = None
    requests: dict[str, IdempotencyRow] = {}
    for event, version in committed:
        payload = event.payload
        if payload.email_hash != key:
            continue
        row = after(row, event, version)
        if isinstance(payload, AccountRegistered) and payload.idempotency_key is not None and now - event.occurred_at < DAY:
            requests[payload.idempotency_key] = IdempotencyRow(
                payload.idempotency_key, payload.body_digest or "", event.event_id, event.occurred_at
            )
    return AccountRows(row, tuple(requests.values())[-64:])


@dataclass
class Claim:
    user_id: str
    at: datetime
    key: str | None
    digest: str
    answers: list[Registered] = field(default_factory=list)


def registration(address: str, key: str | None, digest: str) -> Register:
    return Register(
        user_id=new_id(),
        email=address,
        email_hash=email_hash(address),
        password_hash="hash",
        role="sugar_baby",
        display_name="Ada",
        birth_date="1990-01-01",
        family_id=new_id(),
        idempotency_key=key,
        body_digest=digest,
    )


@dataclass
class Held:
    """One account as it should be; sessions are (family, sessions_from)."""

    user_id: str
    password: str = "hash"
    verified: bool = False
    verified_by: str | None = None
    contested: bool = False
    pending: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    sessions: list[tuple[str, int]] = field(default_factory=list)
    gone: list[tuple[str, int]] = field(default_factory=list)
    as_registered: bool = True
    """No password was set, and sessions were never ended: only so long may a repeated registration sign in."""

    def ended(self, kept: str | None) -> None:
        self.as_registered = False
        self.gone += [session for session in self.sessions if session[0] != kept]
        self.sessions = [session for session in self.sessions if session[0] == kept]


class Accounts(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(AccountMemory, rows_of)
        self.claims: dict[str, Claim] = {}
        self.sent: list[Register] = []
        self.accounts: dict[str, Held] = {}
        self.tokens: list[tuple[str, str, str]] = []

    @initialize(key=KEYS)
    def begin(self, key: str | None) -> None:
        """So that most runs are about an account, not about its absence."""
        self.register("ada@example.org", key, "d1")

    def expect(self, command: Register, answer: object) -> None:
        claim = self.claims.get(command.email_hash)
        if claim is None:
            assert isinstance(answer, Registered)
            assert not answer.replayed
            self.claims[command.email_hash] = Claim(
                command.user_id, self.shard.now, command.idempotency_key, command.body_digest or "", [answer]
            )
            return
        if command.user_id != claim.user_id:
            remembered = claim.key is not None and claim.key == command.idempotency_key
            if not remembered or self.shard.now - claim.at >= DAY:
                assert answer == AddressTaken()
                return
            if command.body_digest != claim.digest:
                assert answer == IdempotencyConflict()
                return
        held = self.accounts.get(command.email_hash)
        if held is not None and not held.as_registered:
            assert answer == AddressTaken()
            return
        assert isinstance(answer, Registered)
        assert answer.replayed
        assert answer.user_id == claim.user_id
        assert all(answer.event_id == earlier.event_id for earlier in claim.answers)
        assert answer.family_id in {None, *(earlier.family_id for earlier in claim.answers)} or not claim.answers
        claim.answers.append(answer)

    @rule(address=ADDRESSES, key=KEYS, digest=DIGESTS)
    def register(self, address: str, key: str | None, digest: str) -> None:
        command = registration(address, key, digest)
        self.sent.append(command)
        self.expect(command, self.shard.ask(command))

    @rule(address=ADDRESSES, key=KEYS, digest=DIGESTS)
    def register_with_lost_answer(self, address: str, key: str | None, digest: str) -> None:
        command = registration(address, key, digest)
        self.sent.append(command)
        self.shard.ask_and_crash(command)
        self.claims.setdefault(command.email_hash, Claim(command.user_id, self.shard.now, key, digest))

    @rule(index=st.integers(0, 1_000))
    def resend(self, index: int) -> None:
        if self.sent:
            command = self.sent[index % len(self.sent)]
            self.expect(command, self.shard.ask(command))

    def held(self, address: str) -> Held | None:
        """The account as it should be, made when its claim is first looked at."""
        claim = self.claims.get(email_hash(address))
        return None if claim is None else self.accounts.setdefault(email_hash(address), Held(claim.user_id))

    def ask(self, command: Any, *, crash: bool = False) -> Any:
        if crash:
            self.shard.ask_and_crash(command)
            return None
        return self.shard.ask(command)

    @rule(address=ADDRESSES, mine=st.booleans(), current=st.booleans())
    def rehash(self, address: str, mine: bool, current: bool) -> None:
        held = self.held(address)
        user_id = held.user_id if held is not None and mine else new_id()
        stored = held.password if held is not None and current else "another"
        before, fresh = len(self.shard.log), new_id()
        answer = self.shard.ask(Rehash(email_hash=email_hash(address), user_id=user_id, stored=stored, password_hash=fresh))
        recorded = held is not None and mine and current
        assert isinstance(answer, Rehashed)
        assert (answer.version > 0) == recorded
        assert len(self.shard.log) - before == int(recorded)
        if recorded and held is not None:
            held.password = fresh

    @rule(address=ADDRESSES, purpose=st.sampled_from(["reset", "verify"]), crash=st.booleans())
    def request_token(self, address: str, purpose: Any, crash: bool) -> None:
        """One event, whoever holds the address: nobody can tell from time or traffic."""
        before = len(self.shard.log)
        expires_at = self.shard.now + timedelta(hours=1)
        self.ask(RequestToken(email_hash=email_hash(address), purpose=purpose, expires_at=expires_at), crash=crash)
        assert len(self.shard.log) == before + 1
        held, token_id = self.held(address), self.shard.log[-1][0].event_id
        if held is not None and held.contested:
            purpose = "reset"
        self.tokens.append((address, purpose, token_id))
        if held is not None:
            held.pending[purpose] = (token_id, expires_at)

    @rule(address=ADDRESSES, crash=st.booleans())
    def register_where_addresses_are_confirmed(self, address: str, crash: bool) -> None:
        """A held address's mail gets a token; while nobody has confirmed it, none confirms the first one's password."""
        held = self.held(address)
        if held is None:
            return
        before, expires_at = len(self.shard.log), self.shard.now + timedelta(hours=1)
        command = replace(registration(address, None, "d1"), verification_expires_at=expires_at)
        answer = self.ask(command, crash=crash)
        assert crash or answer == AwaitsConfirmation()
        assert len(self.shard.log) == before + 1
        token_id = self.shard.log[-1][0].event_id
        self.tokens.append((address, "reset", token_id))
        held.pending["reset"] = (token_id, expires_at)
        if not held.verified:
            held.pending.pop("verify", None)
            held.contested = True

    @rule(index=st.integers(0, 3), crash=st.booleans())
    def present_token(self, index: int, crash: bool) -> None:
        """One of the last tokens that were made, used or not, at any time."""
        if not self.tokens:
            return
        address, purpose, token_id = self.tokens[-1 - index % len(self.tokens)]
        held, before, fresh = self.held(address), len(self.shard.log), new_id()
        command: Any = VerifyAddress(email_hash=email_hash(address), token_id=token_id)
        if purpose == "reset":
            command = ResetPassword(email_hash=email_hash(address), token_id=token_id, password_hash=fresh)
        answer = self.ask(command, crash=crash)
        pending = None if held is None else held.pending.get(purpose)
        usable = pending is not None and pending[0] == token_id and self.shard.now < pending[1]
        again = held is not None and purpose == "verify" and held.verified_by == token_id
        assert len(self.shard.log) - before == int(usable and not again)
        if not crash:
            assert isinstance(answer, AccountChanged if usable or again else TokenInvalid)
        if held is None or not usable or again:
            return
        del held.pending[purpose]
        if purpose == "verify":
            held.verified, held.verified_by = True, token_id
        else:
            if not held.verified:
                held.pending, held.verified_by, held.contested = {}, None, False
            held.verified, held.password = True, fresh
            held.ended(None)

    def asking(self, held: Held, stands: bool) -> tuple[str, int] | None:
        """A session of the account that still is one, or that has ended."""
        sessions = held.sessions if stands else held.gone
        return sessions[-1] if sessions else None

    @rule(address=ADDRESSES, known=MOSTLY, stands=MOSTLY)
    def change_password(self, address: str, known: bool, stands: bool) -> None:
        held = self.held(address)
        if held is None or (session := self.asking(held, stands)) is None:
            return
        before, fresh, taken = len(self.shard.log), new_id(), known and stands
        answer = self.shard.ask(SetPassword(
            email_hash=email_hash(address), user_id=held.user_id, family_id=session[0], sessions_from=session[1],
            stored=held.password if known else "guessed", password_hash=fresh,
        ))
        assert isinstance(answer, AccountChanged if taken else NotSignedIn)
        assert len(self.shard.log) - before == int(taken)
        if taken:
            held.password = fresh
            held.pending.pop("reset", None)
            held.ended(session[0])

    @rule(address=ADDRESSES, stands=MOSTLY)
    def end_sessions(self, address: str, stands: bool) -> None:
        """A session that has ended keeps neither itself nor throws anybody out."""
        held = self.held(address)
        if held is None or (session := self.asking(held, stands)) is None:
            return
        before = len(self.shard.log)
        answer = self.shard.ask(EndSessions(
            email_hash=email_hash(address), user_id=held.user_id, family_id=session[0], sessions_from=session[1]
        ))
        assert isinstance(answer, AccountChanged if stands else NotSignedIn)
        assert len(self.shard.log) - before == int(stands)
        if stands:
            held.ended(session[0])

    @rule(address=ADDRESSES, known=MOSTLY, confirmed=MOSTLY.map(operator.not_))
    def sign_in(self, address: str, known: bool, confirmed: bool) -> None:
        held = self.held(address)
        answer = self.shard.ask(SignIn(
            email_hash=email_hash(address), user_id=held.user_id if held else new_id(),
            stored=held.password if held and known else "an older one", confirmed=confirmed,
        ))
        if held is None or not known or (confirmed and not held.verified):
            assert answer == NotSignedIn()
            return
        assert isinstance(answer, SignedIn)
        held.sessions.append((new_id(), answer.sessions_from))

    @invariant()
    def sessions_stand_until_all_are_ended(self) -> None:
        for address, held in self.accounts.items():
            for stands, sessions in ((True, held.sessions), (False, held.gone)):
                for family_id, sessions_from in sessions:
                    answer = self.shard.ask(CheckSession(
                        email_hash=address, user_id=held.user_id, family_id=family_id, sessions_from=sessions_from
                    ))
                    assert answer == SessionStands(stands)

    @rule(seconds=st.sampled_from([1, 3_600, 86_399, 86_400]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)

    @invariant()
    def each_address_is_claimed_once_in_the_log(self) -> None:
        claimed = [event.key for event, _ in self.shard.log if isinstance(event.payload, AccountRegistered)]
        assert len(claimed) == len(set(claimed))


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
