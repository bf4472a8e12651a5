"""An identity is one account's until that is erased, and a nonce works once, whatever is lost, repeated and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard

from actors.identities.commands import ClaimIdentity, FindIdentity, Identified, IdentityUnknown, NonceUsed, UseIdentity
from actors.identities.state import IdentityMemory
from configs.contracts.accounts import IdentityRow, identity_after
from configs.contracts.events import Event, IdentityClaimed, ProviderIdentity
from configs.contracts.ids import derived_id, identity_hash, new_id
from configs.contracts.positions import version_of

SUBJECTS = st.sampled_from(["one", "two"])
NONCES = st.sampled_from(["n1", "n2", "n3"])
LIVES = timedelta(minutes=10)


class Identities(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(IdentityMemory, self.rows_of)
        self.owners: dict[str, str] = {}
        """Subject -> the account that the account's shard joins it to."""
        self.told: set[str] = set()
        """Subjects whose owner somebody was told of, or a claim of which is in the log."""
        self.erased: dict[str, list[str]] = {"one": [], "two": []}
        self.strangers: set[str] = set()
        """Whose registration lost: their account never stood."""
        self.muddled: set[str] = set()
        """Subjects of which a claim from elsewhere came after an erasure: it may count in rows and not in memory."""
        self.swept: list[tuple[int, frozenset[str]]] = []
        """(records that were committed by then, people whose rows went)."""
        self.used: dict[tuple[str, str], datetime] = {}
        """(subject, nonce) -> until when it must not work again."""
        self.doubtful: dict[tuple[str, str], datetime] = {}
        """The same of nonces used before an erasure: with the rows of the erased they may be forgotten."""

    def rows_of(self, key: str, committed: Sequence[Logged], now: datetime) -> IdentityRow | None:
        """Rows of the erased go by another topic, so at any place of this one."""
        row: IdentityRow | None = None
        for place in range(len(committed) + 1):
            if row is not None and any(at == place and row.user_id in people for at, people in self.swept):
                row = None
            if place < len(committed) and committed[place][0].payload.identity_hash == key:
                row = identity_after(row, *committed[place])
        return row

    def gone(self) -> set[str]:
        """For whom an account's shard answers AccountGone."""
        return self.strangers.union(*self.erased.values())

    def identity(self, subject: str, nonce: str) -> ProviderIdentity:
        return ProviderIdentity(issuer="i", subject=subject, nonce_hash=nonce, nonce_until=self.shard.now + LIVES)

    def fresh(self, subject: str, nonce: str) -> bool:
        return self.used.get((subject, nonce), self.shard.now) <= self.shard.now

    def named(self, subject: str, nonce: str) -> dict[str, Any]:
        return {"identity_hash": identity_hash("i", subject), "identity": self.identity(subject, nonce)}

    def claim(self, subject: str, nonce: str, **fields: str) -> ClaimIdentity:
        return ClaimIdentity(**self.named(subject, nonce), email_hash="ab" * 16, parent_event_id=new_id(), **fields)

    @rule(subject=SUBJECTS, nonce=NONCES, gives_up=st.booleans(), crash=st.booleans())
    def sign_in(self, subject: str, nonce: str, gives_up: bool, crash: bool) -> None:
        """As the route does it; ``gives_up``: a new person does not say yet what is missing."""
        fresh = self.fresh(subject, nonce)
        found = self.shard.ask(FindIdentity(**self.named(subject, nonce)))
        if isinstance(found, NonceUsed):
            assert not fresh or self.doubtful.get((subject, nonce), self.shard.now) > self.shard.now
            return
        assert fresh or subject in self.muddled
        command: UseIdentity | ClaimIdentity = UseIdentity(**self.named(subject, nonce))
        if isinstance(found, IdentityUnknown) or found.user_id in self.gone():
            if gives_up:
                return
            owner = self.owners.setdefault(subject, new_id())
            erased = found.user_id if isinstance(found, Identified) else ""
            command = self.claim(subject, nonce, user_id=owner, replaces=erased)
        answer: Any = None
        if crash:
            self.shard.ask_and_crash(command)
        else:
            answer = self.shard.ask(command)
            assert answer == Identified(self.owners[subject], "ab" * 16)
        self.told.add(subject)
        self.used[subject, nonce] = self.shard.now + LIVES

    @rule(subject=SUBJECTS, nonce=NONCES, data=st.data())
    def claim_of_somebody_else(self, subject: str, nonce: str, data: st.DataObject) -> None:
        """Whoever lives keeps the identity, also where it replaces somebody who has been replaced."""
        found = self.shard.ask(FindIdentity(**self.named(subject, nonce)))
        if not isinstance(found, Identified) or found.user_id in self.gone():
            return
        replaced = data.draw(st.sampled_from(["", new_id(), *self.erased[subject]]))
        answer = self.shard.ask(self.claim(subject, nonce, user_id=new_id(), replaces=replaced))
        assert answer == Identified(self.owners[subject], "ab" * 16)
        self.used[subject, nonce] = self.shard.now + LIVES

    def logged_elsewhere(self, subject: str, user_id: str, replaces: str = "") -> None:
        hashed = identity_hash("i", subject)
        payload = IdentityClaimed(
            identity_hash=hashed, user_id=user_id, email_hash="ab" * 16, replaces=replaces,
            identity=ProviderIdentity(issuer="i", subject=subject, nonce_hash="derived", nonce_until=self.shard.now),
        )
        if self.erased[subject]:
            self.muddled.add(subject)
        version = version_of(1, len(self.shard.log))
        self.shard.log.append((Event(derived_id(user_id, "identity"), self.shard.now, hashed, payload), version))
        self.shard.memory.apply(*self.shard.log[-1])

    @rule(subject=SUBJECTS)
    def derived_claim(self, subject: str) -> None:
        """``derive`` appends it too; its nonce is already past. It names nobody whom it replaces."""
        self.logged_elsewhere(subject, self.owners.setdefault(subject, new_id()))
        if not self.erased[subject]:
            self.told.add(subject)

    @rule(subject=SUBJECTS, data=st.data())
    def claim_of_a_replaced_shard(self, subject: str, data: st.DataObject) -> None:
        """It is in the log, for somebody else, and changes nothing for whoever lives."""
        if subject in self.told:
            self.strangers.add(stranger := new_id())
            self.logged_elsewhere(subject, stranger, data.draw(st.sampled_from(["", new_id(), *self.erased[subject]])))

    @rule(subject=SUBJECTS)
    def erase(self, subject: str) -> None:
        if subject in self.owners:
            self.erased[subject].append(self.owners.pop(subject))
            self.told.discard(subject)
            before = {named: until for named, until in self.used.items() if named[0] == subject}
            self.used = {named: until for named, until in self.used.items() if named not in before}
            self.doubtful |= before

    @rule()
    def sweep(self) -> None:
        """The rows of the erased go; once more when something came late."""
        self.swept.append((self.shard.committed, frozenset(self.gone())))

    @rule(seconds=st.sampled_from([1, 300, 600]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)

    @invariant()
    def the_rows_agree_on_the_owner(self) -> None:
        for subject in self.told:
            row = self.rows_of(identity_hash("i", subject), self.shard.log, self.shard.now)
            owner = None if row is None else row.user_id
            if subject in self.muddled and owner != self.owners[subject]:
                assert owner is None or owner in self.gone(), "the next sign-in mends it"
            else:
                assert owner == self.owners[subject]


TestIdentities = Identities.TestCase
TestIdentities.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
