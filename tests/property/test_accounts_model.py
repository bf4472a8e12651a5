"""An address belongs to one person for good, whatever is retried, lost, replayed, evicted and loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from simulated_shard import Logged, SimulatedShard

from actors.accounts.commands import AddressTaken, IdempotencyConflict, Register, Registered, Rehash, Rehashed
from actors.accounts.state import AccountMemory, AccountRows
from configs.contracts.events import AccountRegistered, PasswordRehashed
from configs.contracts.ids import email_hash, new_id
from configs.contracts.loading import AccountRow, IdempotencyRow

DAY = timedelta(hours=24)
ADDRESSES = st.sampled_from(["ada@example.org", "bob@example.org", "cyd@example.org"])
KEYS = st.sampled_from([None, "k1", "k2"])
DIGESTS = st.sampled_from(["d1", "d2"])


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> AccountRows:
    """What the sinks would have written: the first claim, the newest hash, remembered requests of a day."""
    row: AccountRow | None = None
    requests: dict[str, IdempotencyRow] = {}
    for event, version in committed:
        payload = event.payload
        if payload.email_hash != key:
            continue
        if isinstance(payload, AccountRegistered):
            row = row or AccountRow(key, payload.user_id, payload.password_hash, version)
            if payload.idempotency_key is not None and now - event.occurred_at < DAY:
                requests[payload.idempotency_key] = IdempotencyRow(
                    payload.idempotency_key, payload.body_digest or "", event.event_id, event.occurred_at
                )
        elif isinstance(payload, PasswordRehashed) and row is not None:
            row = AccountRow(key, row.user_id, payload.password_hash, version)
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


class Accounts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(AccountMemory, rows_of)
        self.claims: dict[str, Claim] = {}
        self.sent: list[Register] = []

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

    @rule(address=ADDRESSES, mine=st.booleans())
    def rehash(self, address: str, mine: bool) -> None:
        claim = self.claims.get(email_hash(address))
        user_id = claim.user_id if claim is not None and mine else new_id()
        before = len(self.shard.log)
        answer = self.shard.ask(Rehash(email_hash=email_hash(address), user_id=user_id, password_hash="new"))
        recorded = claim is not None and mine
        assert isinstance(answer, Rehashed)
        assert (answer.version > 0) == recorded
        assert len(self.shard.log) - before == int(recorded)

    @rule(seconds=st.sampled_from([1, 3_600, 86_399, 86_400]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)

    @rule(records=st.integers(1, 5))
    def commit(self, records: int) -> None:
        self.shard.commit(records)

    @rule()
    def restart(self) -> None:
        self.shard.restart()

    @rule()
    def evict(self) -> None:
        self.shard.evict()

    @rule(index=st.integers(0, 1_000))
    def repeat(self, index: int) -> None:
        self.shard.repeat(index)

    @invariant()
    def each_address_is_claimed_once_in_the_log(self) -> None:
        claimed = [event.key for event, _ in self.shard.log if isinstance(event.payload, AccountRegistered)]
        assert len(claimed) == len(set(claimed))


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
