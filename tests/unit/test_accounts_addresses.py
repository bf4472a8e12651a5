"""What account shards decide about a change of address where the model-based test does not look."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.accounts.answers import (
    AccountChanged,
    AddressTaken,
    AwaitsConfirmation,
    Changing,
    Claimed,
    Home,
    NotSignedIn,
    TokenInvalid,
)
from actors.accounts.commands import (
    ChangeAddress,
    CheckSession,
    ClaimAddress,
    FindChange,
    FindHome,
    GetFactors,
    GrantRole,
    JoinIdentity,
    Register,
    RequestAddressChange,
    RequestToken,
    ResetPassword,
    SetStanding,
    SignIn,
    VerifyAddress,
)
from actors.accounts.state import AccountMemory
from configs.contracts.events import AddressMove, Event, ProviderIdentity
from configs.contracts.ids import email_hash, new_id
from configs.contracts.positions import version_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD, NEW = "old@example.org", "new@example.org"
HOME, CLAIM = email_hash(OLD), email_hash(NEW)


class Shard:
    """One memory for all addresses, and its log."""

    def __init__(self) -> None:
        self.memory = AccountMemory()
        self.log: list[Event] = []
        self.user = new_id()
        self.ask(self.registration(OLD, self.user))
        self.ask(RequestToken(email_hash=HOME, purpose="verify", expires_at=NOW + HOUR))
        self.ask(VerifyAddress(email_hash=HOME, token_id=self.log[-1].event_id))
        self.session: dict[str, Any] = {"email_hash": HOME, "user_id": self.user, "family_id": new_id(), "sessions_from": 0}

    def registration(self, address: str, user: str, **more: Any) -> Register:
        return Register(
            user_id=user, email=address, email_hash=more.pop("key", email_hash(address)), password_hash="h",
            role="sugar_baby", display_name="A", birth_date="1990-01-01", **more,
        )

    def ask(self, command: Any, now: datetime = NOW) -> Any:
        for key in self.memory.needs(command):
            if not self.memory.known(key):
                self.memory.load(key, None)
        decision = self.memory.decide(pickle.loads(pickle.dumps(command)), now)
        versions = []
        for append in decision.appends:
            self.log.append(append.event)
            versions.append(version_of(1, len(self.log)))
            self.memory.apply(append.event, versions[-1])
        answer = decision.answer(tuple(versions))
        assert pickle.loads(pickle.dumps(answer)) == answer
        return answer

    def asked(self) -> str:
        self.ask(RequestAddressChange(**self.session, address=NEW, new_hash=CLAIM, expires_at=NOW + HOUR))
        return self.log[-1].event_id

    def move(self, token_id: str) -> AddressMove:
        found = self.ask(FindChange(**self.session, token_id=token_id))
        assert isinstance(found, Changing)
        assert found.move is not None
        return found.move

    def moved(self) -> AddressMove:
        move = self.move(self.asked())
        assert isinstance(self.ask(ClaimAddress(email_hash=CLAIM, user_id=self.user, home=HOME, move=move)), Claimed)
        assert isinstance(self.ask(ChangeAddress(email_hash=HOME, user_id=self.user, move=move)), AccountChanged)
        return move


def test_a_token_works_until_it_expires_and_what_was_claimed_in_time_is_carried_out_afterwards() -> None:
    shard = Shard()
    token = shard.asked()
    assert shard.ask(FindChange(**shard.session, token_id=token), NOW + HOUR) == TokenInvalid()
    move = shard.move(token)
    assert (move.address, move.former_address, move.former_claim) == (NEW, OLD, None)
    assert move.kept_family_id == shard.session["family_id"]
    shard.ask(ClaimAddress(email_hash=CLAIM, user_id=shard.user, home=HOME, move=move))
    changed = shard.ask(ChangeAddress(email_hash=HOME, user_id=shard.user, move=move), NOW + 2 * HOUR)
    assert (changed.verified, changed.address_hash) == (True, CLAIM)
    again = shard.ask(ChangeAddress(email_hash=HOME, user_id=shard.user, move=move))
    assert (again.version, again.address_hash) == (0, CLAIM)
    assert shard.ask(FindChange(**shard.session, token_id=token)) == Changing(None)


def test_a_claim_is_no_account() -> None:
    """Whatever names it by its hash gets nothing of it, whoever they are."""
    shard = Shard()
    token = shard.moved().token_id
    named = {"email_hash": CLAIM, "user_id": shard.user}
    assert shard.ask(FindHome(email_hash=CLAIM)) == Home(HOME)
    identity = ProviderIdentity(issuer="i", subject="s", nonce_hash="n", nonce_until=NOW + HOUR)
    for command in (
        SignIn(**named, stored=""), GetFactors(email_hash=CLAIM), VerifyAddress(email_hash=CLAIM, token_id=token),
        ResetPassword(email_hash=CLAIM, token_id=token, password_hash="n"),
        GrantRole(email_hash=CLAIM, role="admin", granted_by="service:test"),
        SetStanding(**named, status="banned", number=1, cause_id="c", event_id="e"),
        JoinIdentity(
            email=NEW, email_hash=CLAIM, identity=identity, user_id=new_id(), role="sugar_baby", display_name="A",
            birth_date="1990-01-01",
        ),
    ):
        before = len(shard.log)
        assert shard.ask(command) in (NotSignedIn(), TokenInvalid())
        assert len(shard.log) == before
    stands = shard.ask(CheckSession(**named, family_id=new_id(), sessions_from=version_of(9, 9)))
    assert not stands.stands
    assert shard.ask(shard.registration(NEW, new_id())) == AddressTaken()


def test_a_provider_that_vouches_for_the_new_address_links_the_account_and_for_the_former_nobody() -> None:
    shard = Shard()
    shard.moved()
    identity = ProviderIdentity(issuer="i", subject="s", nonce_hash="n", nonce_until=NOW + HOUR)

    def join(address: str) -> Any:
        return shard.ask(JoinIdentity(
            email=address, email_hash=HOME, address_hash=email_hash(address), identity=identity, user_id=new_id(),
            role="sugar_baby", display_name="A", birth_date="1990-01-01",
        ))

    assert join(OLD) == NotSignedIn()
    joined = join(NEW)
    assert (joined.user_id, joined.email_hash) == (shard.user, HOME)


@pytest.mark.parametrize(("address", "told"), [(NEW, True), (OLD, False)])
def test_where_addresses_are_confirmed_registering_either_is_one_event_and_only_the_present_one_is_told(
    address: str, told: bool
) -> None:
    shard = Shard()
    shard.moved()
    before = len(shard.log)
    again = shard.registration(
        address, new_id(), key=HOME, address_hash=email_hash(address), verification_expires_at=NOW + HOUR
    )
    assert shard.ask(again) == AwaitsConfirmation()
    assert len(shard.log) == before + 1
    assert shard.log[-1].payload.user_id == (shard.user if told else None)


def test_a_ban_between_claim_and_change_lets_nothing_change() -> None:
    shard = Shard()
    move = shard.move(shard.asked())
    shard.ask(ClaimAddress(email_hash=CLAIM, user_id=shard.user, home=HOME, move=move))
    shard.ask(SetStanding(
        email_hash=HOME, user_id=shard.user, status="banned", number=1, cause_id="c", event_id=new_id()
    ))
    assert shard.ask(ChangeAddress(email_hash=HOME, user_id=shard.user, move=move)) == TokenInvalid()


def test_an_erasure_names_the_claim_that_becomes_free_and_nobody_registers_it_under_their_key_meanwhile() -> None:
    shard = Shard()
    move = shard.moved()
    shard.ask(SetStanding(
        email_hash=HOME, user_id=shard.user, status="deleted", number=9, cause_id="c", event_id=new_id()
    ))
    claim = shard.log[-1].payload.claim
    assert (claim.address_hash, claim.token_id) == (CLAIM, move.token_id)
    assert shard.ask(shard.registration(NEW, new_id(), key=HOME, address_hash=CLAIM)) == AddressTaken()
    confirming = shard.registration(NEW, new_id(), key=HOME, address_hash=CLAIM, verification_expires_at=NOW + HOUR)
    assert shard.ask(confirming) == AwaitsConfirmation()
    assert shard.log[-1].payload.user_id is None
    identity = ProviderIdentity(issuer="i", subject="s", nonce_hash="n", nonce_until=NOW + HOUR)
    assert shard.ask(JoinIdentity(
        email=NEW, email_hash=HOME, address_hash=CLAIM, identity=identity, user_id=new_id(), role="sugar_baby",
        display_name="A", birth_date="1990-01-01",
    )) == NotSignedIn()
