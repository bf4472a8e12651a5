"""What an account shard decides where the model-based test cannot look: rival shards, and what is written."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.accounts.answers import (
    AccountChanged,
    AddressTaken,
    NotSignedIn,
    Registered,
    SessionStands,
    SignedIn,
    TokenInvalid,
)
from actors.accounts.commands import (
    AddPasskey,
    Challenge,
    CheckSession,
    EnableTotp,
    EndSessions,
    JoinIdentity,
    Register,
    Rehash,
    RequestToken,
    ResetPassword,
    SetPassword,
    SetStanding,
    SignIn,
    UseCode,
    VerifyAddress,
)
from actors.accounts.registration import registration_id
from actors.accounts.state import AccountMemory, AccountRows
from configs.contracts.events import AccountRegistered, Event, ProviderIdentity, decode, encode
from configs.contracts.ids import email_hash, new_id
from configs.contracts.loading import AccountRow, IdempotencyRow
from configs.contracts.moderation import ERASED_NUMBER
from configs.contracts.positions import version_of
from configs.contracts.topics import AUTH_ACCOUNTS

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ADDRESS = "ada@example.org"
HASH = email_hash(ADDRESS)


def registration(key: str | None = None, digest: str | None = None) -> Register:
    return Register(
        user_id=new_id(), email=ADDRESS, email_hash=HASH, password_hash="h", role="sugar_daddy", display_name="Ada",
        birth_date="1990-01-01", family_id=new_id(), session_expires_at=NOW + timedelta(days=30),
        idempotency_key=key, body_digest=digest,
    )


def empty() -> AccountMemory:
    memory = AccountMemory()
    memory.load(HASH, AccountRows(None, ()))
    return memory


def event_of(memory: AccountMemory, command: Register) -> Event:
    return memory.decide(command, NOW).appends[0].event


def test_a_registration_is_one_event_that_carries_everything() -> None:
    command = registration("key", "digest")
    decision = empty().decide(command, NOW)
    (append,) = decision.appends
    assert (append.topic, append.key) == (AUTH_ACCOUNTS, HASH)
    assert decode(encode(append.event)).payload == AccountRegistered(
        user_id=command.user_id, email=ADDRESS, email_hash=HASH, password_hash="h", role="sugar_daddy",
        display_name="Ada", birth_date="1990-01-01", family_id=command.family_id,
        session_expires_at=NOW + timedelta(days=30), idempotency_key="register key", body_digest="digest",
    )
    assert decision.answer((7,)) == Registered(
        command.user_id, registration_id(command.user_id), 7, command.family_id, replayed=False
    )


def test_deciding_changes_nothing() -> None:
    """Two decisions without an apply in between must both find the address free: the append may fail."""
    memory = empty()
    assert memory.decide(registration(), NOW).appends
    assert memory.decide(registration(), NOW).appends


def test_the_first_of_two_claims_in_the_log_wins_in_any_order() -> None:
    """Otherwise a shard and its rival would tell two people that the address is theirs for good."""
    first, second = registration(), registration()
    events = [(event_of(empty(), first), version_of(1, 5)), (event_of(empty(), second), version_of(1, 6))]
    for order in (events, events[::-1]):
        memory = empty()
        for event, version in order:
            memory.apply(event, version)
        answer = memory.decide(first, NOW).answer(())
        assert isinstance(answer, Registered)
        assert (answer.user_id, answer.version, answer.family_id) == (first.user_id, version_of(1, 5), first.family_id)
        assert memory.decide(second, NOW).answer(()) == AddressTaken()


def test_the_rows_claim_is_the_first() -> None:
    """Rows follow the log's order, so a claim that stands only in the tail came later."""
    late = registration()
    memory = AccountMemory()
    memory.apply(event_of(empty(), late), version_of(1, 9))
    memory.load(HASH, AccountRows(AccountRow(HASH, "owner", "h", version_of(1, 20)), ()))
    assert memory.decide(late, NOW).answer(()) == AddressTaken()
    memory.apply(event_of(empty(), late), version_of(1, 9))
    assert memory.decide(late, NOW).answer(()) == AddressTaken()


def test_a_key_whose_claim_lost_never_answers_with_the_winner() -> None:
    """Otherwise the loser's retry would be signed in as the person who got the address."""
    winner, loser = registration("w", "digest"), registration("l", "digest")
    winning, losing = event_of(empty(), winner), event_of(empty(), loser)
    memory = empty()
    memory.apply(winning, version_of(1, 1))
    memory.apply(losing, version_of(1, 2))
    assert memory.decide(registration("l", "digest"), NOW).answer(()) == AddressTaken()
    reloaded = AccountMemory()
    requests = tuple(
        IdempotencyRow(f"register {key}", "digest", event.event_id, NOW)
        for key, event in (("w", winning), ("l", losing))
    )
    reloaded.load(HASH, AccountRows(AccountRow(HASH, winner.user_id, "h", version_of(1, 1)), requests))
    assert reloaded.decide(registration("l", "digest"), NOW).answer(()) == AddressTaken()
    replay = reloaded.decide(registration("w", "digest"), NOW).answer(())
    assert replay == Registered(winner.user_id, winning.event_id, version_of(1, 1), None, replayed=True)


def test_commands_and_answers_travel_between_processes() -> None:
    for value in (
        registration("k", "d"), Rehash(email_hash=HASH, user_id="u", stored="o", password_hash="h"),
        Registered("u", "e", 1, None, replayed=True), AddressTaken(), AccountRows(None, ()),
    ):
        assert pickle.loads(pickle.dumps(value)) == value


def holder(*, confirmed: bool) -> tuple[AccountMemory, Register]:
    memory, command = empty(), registration()
    carry_out(memory, command)
    if confirmed:
        carry_out(memory, RequestToken(email_hash=HASH, purpose="verify", expires_at=NOW + HOUR))
        carry_out(memory, VerifyAddress(email_hash=HASH, token_id=LOG[-1].event_id))
    return memory, command


LOG: list[Event] = []
HOUR = timedelta(hours=1)


def carry_out(memory: AccountMemory, command: Any, now: datetime = NOW) -> Any:
    """A turn: the answer, with the event appended and applied."""
    decision = memory.decide(command, now)
    versions = []
    for append in decision.appends:
        LOG.append(append.event)
        versions.append(version_of(1, len(LOG)))
        memory.apply(append.event, versions[-1])
    return decision.answer(tuple(versions))


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_token_that_sets_a_password_works_once_and_until_it_expires(confirmed: bool) -> None:
    memory, _ = holder(confirmed=confirmed)
    carry_out(memory, RequestToken(email_hash=HASH, purpose="reset", expires_at=NOW + HOUR))
    command = ResetPassword(email_hash=HASH, token_id=LOG[-1].event_id, password_hash="new")
    assert memory.decide(command, NOW + HOUR).answer(()) == TokenInvalid()
    assert isinstance(carry_out(memory, command, NOW + HOUR - timedelta(seconds=1)), AccountChanged)
    assert carry_out(memory, command) == TokenInvalid()


def test_a_session_that_a_reset_ended_keeps_itself_by_nothing_and_throws_nobody_out() -> None:
    """A thief's, on a replica that has not heard of the reset yet: the account knows."""
    memory, command = holder(confirmed=True)
    stolen = {"email_hash": HASH, "user_id": command.user_id, "family_id": str(command.family_id), "sessions_from": 0}
    carry_out(memory, RequestToken(email_hash=HASH, purpose="reset", expires_at=NOW + HOUR))
    carry_out(memory, ResetPassword(email_hash=HASH, token_id=LOG[-1].event_id, password_hash="new"))
    owner = carry_out(memory, SignIn(email_hash=HASH, user_id=command.user_id, stored="new"))
    challenge, before = Challenge(new_id(), NOW + HOUR), len(LOG)
    tried: list[Any] = [
        EndSessions(**stolen), SetPassword(**stolen, stored="new", password_hash="theirs"),
        AddPasskey(**stolen, challenge=challenge, credential_id="c", public_key="k", sign_count=0, name="n"),
        EnableTotp(**stolen, sealed_secret="s", step=7, recovery_hashes=()),
        SetStanding(**stolen, status="deleted", number=ERASED_NUMBER, cause_id="c", event_id="e"),
    ]
    assert [carry_out(memory, one) for one in tried] == [NotSignedIn()] * len(tried)
    assert len(LOG) == before
    assert carry_out(memory, CheckSession(**stolen)) == SessionStands(False)
    mine = stolen | {"family_id": new_id(), "sessions_from": owner.sessions_from}
    assert carry_out(memory, CheckSession(**mine)) == SessionStands(True)


def test_an_erasure_may_be_asked_for_again_by_the_session_that_it_ended() -> None:
    """Its answer may have been lost."""
    memory, command = holder(confirmed=True)
    erasure = SetStanding(
        email_hash=HASH, user_id=command.user_id, family_id=command.family_id, status="deleted", number=ERASED_NUMBER,
        cause_id="c", event_id="e",
    )
    first = carry_out(memory, erasure)
    assert isinstance(first, AccountChanged)
    again = carry_out(memory, erasure)
    assert isinstance(again, AccountChanged)
    assert again.version == first.version


def test_a_token_for_one_use_is_of_none_for_another() -> None:
    memory, _ = holder(confirmed=False)
    carry_out(memory, RequestToken(email_hash=HASH, purpose="verify", expires_at=NOW + HOUR))
    token_id = LOG[-1].event_id
    assert carry_out(memory, ResetPassword(email_hash=HASH, token_id=token_id, password_hash="new")) == TokenInvalid()


def test_no_mail_confirms_the_password_of_whoever_registered_an_address_before_its_owner() -> None:
    """Neither the mail of the first registration nor one that is asked for afterwards; the owner's sets another password."""
    memory, first = empty(), replace(registration(), family_id=None, verification_expires_at=NOW + HOUR)
    carry_out(memory, first)
    theirs = LOG[-1].event_id
    carry_out(memory, replace(registration(), family_id=None, verification_expires_at=NOW + HOUR, password_hash="owner's"))
    assert carry_out(memory, VerifyAddress(email_hash=HASH, token_id=theirs)) == TokenInvalid()
    carry_out(memory, RequestToken(email_hash=HASH, purpose="verify", expires_at=NOW + HOUR))
    asked = LOG[-1]
    assert (asked.payload.purpose, asked.payload.cause) == ("reset", "registration")
    assert carry_out(memory, VerifyAddress(email_hash=HASH, token_id=asked.event_id)) == TokenInvalid()
    reset = ResetPassword(email_hash=HASH, token_id=asked.event_id, password_hash="new")
    assert isinstance(carry_out(memory, reset), AccountChanged)
    sign_in = SignIn(email_hash=HASH, user_id=first.user_id, stored="new", confirmed=True)
    assert isinstance(carry_out(memory, sign_in), SignedIn)


def test_a_confirmed_address_is_registered_again_by_nobody_and_asks_for_tokens_as_before() -> None:
    memory, command = holder(confirmed=True)
    carry_out(memory, replace(registration(), family_id=None, verification_expires_at=NOW + HOUR))
    carry_out(memory, RequestToken(email_hash=HASH, purpose="verify", expires_at=NOW + HOUR))
    token_id = LOG[-1].event_id
    assert LOG[-1].payload.purpose == "verify"
    assert isinstance(carry_out(memory, VerifyAddress(email_hash=HASH, token_id=token_id)), AccountChanged)
    assert isinstance(carry_out(memory, SignIn(email_hash=HASH, user_id=command.user_id, stored="h", confirmed=True)), SignedIn)


def test_the_code_of_a_step_works_once_whatever_the_challenge() -> None:
    memory, command = holder(confirmed=True)
    mine: dict[str, Any] = {"email_hash": HASH, "user_id": command.user_id}
    session = {"family_id": command.family_id, "sessions_from": 0}
    carry_out(memory, EnableTotp(**mine, **session, sealed_secret="s", step=7, recovery_hashes=("r",)))
    for step, expected in ((7, NotSignedIn), (8, SignedIn), (8, NotSignedIn), (7, NotSignedIn), (9, SignedIn)):
        challenge = Challenge(new_id(), NOW + HOUR)
        assert isinstance(carry_out(memory, UseCode(**mine, challenge=challenge, sessions_from=0, step=step)), expected)


def test_an_account_that_nobody_confirmed_gives_way_and_a_confirmed_one_is_joined() -> None:
    identity = ProviderIdentity(issuer="i", subject="s", nonce_hash="n", nonce_until=NOW + HOUR)
    join = JoinIdentity(
        email=ADDRESS, email_hash=HASH, identity=identity, user_id=new_id(), role="sugar_baby", display_name="A",
        birth_date="1990-01-01",
    )
    memory, squatter = holder(confirmed=False)
    joined = carry_out(memory, join)
    assert (joined.user_id, joined.displaced, joined.registered) == (join.user_id, squatter.user_id, True)
    again = carry_out(memory, join)
    assert (again.user_id, again.event_id, again.registered) == (join.user_id, joined.event_id, False)
    gone = CheckSession(email_hash=HASH, user_id=squatter.user_id, family_id=new_id(), sessions_from=0)
    assert carry_out(memory, gone) == SessionStands(False)
    memory, owner = holder(confirmed=True)
    joined = carry_out(memory, join)
    assert (joined.user_id, joined.displaced) == (owner.user_id, None)
