"""An address signs in to one account at most, whatever changes of addresses meet, stop halfway, are derived twice or erased."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard

from actors.accounts.answers import (
    AccountChanged,
    AddressTaken,
    Changing,
    Claimed,
    NotSignedIn,
    Registered,
    SignedIn,
    TokenInvalid,
)
from actors.accounts.commands import (
    ChangeAddress,
    ClaimAddress,
    EndSessions,
    FindChange,
    FindHome,
    Register,
    RequestAddressChange,
    RequestToken,
    SetStanding,
    SignIn,
    VerifyAddress,
)
from actors.accounts.state import AccountMemory, AccountRows
from configs.contracts import topics
from configs.contracts.accounts import AccountRow, after
from configs.contracts.events import MailRequested
from configs.contracts.ids import email_hash, new_id
from configs.contracts.moderation import ERASED_NUMBER
from configs.contracts.positions import version_of
from writers.consumers.derive_accounts import Holder, Holders, follows_account

NAMES = ["ada@example.org", "bob@example.org", "new@example.org", "other@example.org"]
ADDRESSES = st.sampled_from(NAMES)
PERSONS = st.integers(0, 3)
LIVES = timedelta(hours=1)


def folded(key: str, records: Sequence[Logged]) -> AccountRow | None:
    row: AccountRow | None = None
    for event, version in records:
        if event.key == key:
            row = after(row, event, version)
    return row


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> AccountRows:
    return AccountRows(folded(key, committed), ())


class Addresses(ShardMachine):
    """One shard stands for all; ``derive`` is the real consumer's decisions over rows that may be ahead of it."""

    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(AccountMemory, rows_of)
        self.derived = 0
        self.people: list[tuple[str, str]] = []
        """(person, key of the account)."""
        self.now_at: dict[str, set[str]] = {}
        """Person -> addresses of which one is theirs: two while a change has stopped halfway."""
        self.mails: dict[str, MailRequested] = {}
        self.moved: list[tuple[str, str]] = []
        """(former address, token) of changes that somebody was told are made."""

    @initialize()
    def begin(self) -> None:
        for name in NAMES[:2]:
            self.register(name, confirmed=True)

    def row(self, key: str) -> AccountRow | None:
        return folded(key, self.shard.log)

    def session(self, person: int) -> tuple[dict[str, Any], AccountRow] | None:
        """One that stands, of somebody who was not erased."""
        user_id, key = self.people[person % len(self.people)]
        row = self.row(key)
        if row is None or row.user_id != user_id or row.vacant:
            return None
        named = {"email_hash": key, "user_id": user_id, "family_id": new_id(), "sessions_from": row.sessions_from}
        return named, row

    def held(self, address: str) -> bool:
        row = self.row(email_hash(address))
        return row is not None and not row.vacant

    @rule(address=ADDRESSES, confirmed=st.booleans())
    def register(self, address: str, confirmed: bool) -> None:
        held, user_id, key = self.held(address), new_id(), email_hash(address)
        home = self.shard.ask(FindHome(email_hash=key)).email_hash
        answer = self.shard.ask(Register(
            user_id=user_id, email=address, email_hash=home, address_hash=key, password_hash=user_id, role="sugar_baby",
            display_name="Ada", birth_date="1990-01-01",
        ))
        assert isinstance(answer, AddressTaken if held else Registered)
        if held:
            return
        self.people.append((user_id, key))
        self.now_at[user_id] = {address}
        if confirmed:
            self.shard.ask(RequestToken(email_hash=key, purpose="verify", expires_at=self.shard.now + LIVES))
            self.shard.ask(VerifyAddress(email_hash=key, token_id=self.shard.log[-1][0].event_id))

    @rule(person=PERSONS, address=ADDRESSES)
    def ask_for_a_change(self, person: int, address: str) -> None:
        """One event, whoever holds the address; none where it is theirs already."""
        if (found := self.session(person)) is None:
            return
        session, row = found
        before = len(self.shard.log)
        self.shard.ask(RequestAddressChange(
            **session, address=address, new_hash=email_hash(address), expires_at=self.shard.now + LIVES
        ))
        assert len(self.shard.log) - before == int(row.email != address)

    @rule(person=PERSONS, index=st.integers(0, 3), stop=st.sampled_from(["", "", "claimed", "killed"]))
    def present_a_token(self, person: int, index: int, stop: str) -> None:
        """As the route does; it may stop, or the shard be killed, once the claim stands."""
        tokens = [mail for mail in self.mails.values() if mail.template == "change_address"]
        if not tokens or (found := self.session(person)) is None:
            return
        mail, (session, row) = tokens[-1 - index % len(tokens)], found
        token_id = str(mail.token_id)
        changing = self.shard.ask(FindChange(**session, token_id=token_id))
        change = row.security.change
        usable = change is not None and change.token_id == token_id and self.shard.now < change.expires_at
        assert isinstance(changing, Changing if usable or row.security.changed_by == token_id else TokenInvalid)
        if not isinstance(changing, Changing) or changing.move is None:
            return
        move, user_id, key = changing.move, str(session["user_id"]), str(session["email_hash"])
        if move.address_hash != key:
            claim = ClaimAddress(email_hash=move.address_hash, user_id=user_id, home=key, move=move)
            holder = self.row(move.address_hash)
            taken = holder is not None and not holder.vacant and holder.verified_at is not None and (
                holder.security.home != key or holder.user_id != user_id
            )
            answer = self.shard.ask(claim)
            assert isinstance(answer, AddressTaken if taken else Claimed)
            if taken:
                return
            assert isinstance(self.shard.ask(claim), Claimed), "it may be claimed again"
            self.now_at.setdefault(user_id, set()).add(move.address)
            if stop == "killed":
                self.shard.restart()
            if stop:
                return
        answer = self.shard.ask(ChangeAddress(email_hash=key, user_id=user_id, move=move))
        assert isinstance(answer, AccountChanged)
        self.now_at[user_id] = {move.address}
        self.moved.append((move.former_address, token_id))

    @rule(person=PERSONS, address=ADDRESSES, stop=st.sampled_from(["", "", "", "claimed", "killed"]))
    def change(self, person: int, address: str, stop: str) -> None:
        """All the way: asked for, mailed, presented."""
        self.ask_for_a_change(person, address)
        self.derive(len(self.shard.log), 0)
        self.present_a_token(person, 0, stop)

    @rule(person=PERSONS)
    def end_sessions(self, person: int) -> None:
        """With them ends what one of them asked for."""
        if (found := self.session(person)) is not None:
            assert isinstance(self.shard.ask(EndSessions(**found[0])), AccountChanged)
            row = self.row(found[0]["email_hash"])
            assert row is not None
            assert row.security.change is None

    @rule(person=PERSONS)
    def erase(self, person: int) -> None:
        if (found := self.session(person)) is None:
            return
        user_id = found[0]["user_id"]
        self.shard.ask(SetStanding(**found[0], status="deleted", number=ERASED_NUMBER, cause_id=user_id, event_id=new_id()))

    @rule(records=st.integers(1, 6), ahead=st.integers(0, 6))
    def derive(self, records: int, ahead: int) -> None:
        self.shard.commit(max(0, self.derived + records + ahead - self.shard.committed))
        upto = min(self.derived + records, self.shard.committed)
        rows = self.shard.log[: self.shard.committed]
        for event, version in self.shard.log[self.derived : upto]:
            row = folded(event.key, rows)
            holders = Holders({} if row is None else {event.key: Holder(row.user_id, row.email, row.sessions_from, row.security)})
            for topic, follows in follows_account(event, version, holders, b"k" * 32):
                if topic is topics.AUTH_ACCOUNTS:
                    self.shard.log.append((follows, version_of(1, len(self.shard.log))))
                    self.shard.memory.apply(*self.shard.log[-1])
                elif isinstance(follows.payload, MailRequested):
                    self.mails.setdefault(follows.payload.mail_id, follows.payload)
        self.derived = upto

    @rule(records=st.integers(1, 8))
    def lose_the_position(self, records: int) -> None:
        """As when the consumer was killed between appending and committing."""
        self.derived = max(0, self.derived - records)

    @rule(seconds=st.sampled_from([1, 3_600]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)

    @rule()
    def settle(self) -> None:
        """Once everything is derived each claim counts, and an address that no account signs in with by now is free again."""
        while self.derived < len(self.shard.log):
            self.derive(len(self.shard.log), 0)
        rows = {name: self.row(email_hash(name)) for name in NAMES}
        living = {row.email_hash: row for row in rows.values() if row is not None and not row.vacant}
        for key, row in living.items():
            if row.security.home is not None:
                home = living.get(row.security.home)
                assert home is not None
                assert (home.user_id, home.security.claim) == (row.user_id, row.security.claim)
                continue
            assert email_hash(row.email) == row.address_hash
            assert row.email in self.now_at[row.user_id]
            self.now_at[row.user_id] = {row.email}
            if row.security.claim is not None:
                claim = living[row.address_hash]
                assert (claim.security.home, claim.user_id) == (key, row.user_id)
        notices = [(mail.address, mail.mail_id) for mail in self.mails.values() if mail.template == "address_changed"]
        assert {former for former, _ in self.moved} <= {address for address, _ in notices} | self.of_the_erased()

    def teardown(self) -> None:
        self.settle()

    def of_the_erased(self) -> set[str]:
        """Their rows may be gone before the notice is derived."""
        standing = {row.user_id for row in map(self.row, map(email_hash, NAMES)) if row is not None and not row.vacant}
        if all(user_id in standing for user_id, _ in self.people):
            return set()
        return set(NAMES)

    @invariant()
    def an_address_signs_in_to_whoever_has_it_and_to_nobody_else(self) -> None:
        for user_id, key in self.people:
            row = self.row(key)
            for name in NAMES:
                answer = self.shard.ask(SignIn(email_hash=key, user_id=user_id, stored=user_id, address_hash=email_hash(name)))
                its_own = row is not None and row.user_id == user_id and not row.vacant and row.email == name
                assert isinstance(answer, SignedIn if its_own else NotSignedIn)

    @invariant()
    def no_address_is_two_accounts(self) -> None:
        rows = [row for row in map(self.row, map(email_hash, NAMES)) if row is not None and not row.vacant]
        signing_in = [row.address_hash for row in rows if row.security.home is None]
        assert len(signing_in) == len(set(signing_in))


TestAddresses = Addresses.TestCase
TestAddresses.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
