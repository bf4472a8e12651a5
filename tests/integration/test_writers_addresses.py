"""What follows from a change of address, by the real consumers: whatever stopped halfway ends, and nobody goes untold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from log_writing import eventually
from test_writers_mail import append, mailed

from cluster.connections.redis import sync_client
from configs.contracts import events, topics
from configs.contracts.accounts import address_claimed_id
from configs.contracts.events import AddressClaim, AddressMove, Event
from configs.contracts.ids import email_hash, new_id
from configs.contracts.moderation import ERASED_NUMBER
from configs.contracts.read_model import REVOKED, credential_key, read_ended
from configs.contracts.tokens import parse_mail_token
from configs.settings import Settings
from writers.connections import open_rows
from writers.exporting import SECTIONS
from writers.loads.identity import accounts
from writers.loads.moderation import addresses
from writers.loads.people import load_people
from writers.worker import Writer

pytestmark = pytest.mark.servers


class Somebody:
    """A confirmed account in the log, and what happens to its address."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.user, self.now = settings, new_id(), datetime.now(UTC)
        self.email = f"{self.user}@example.com"
        self.home = email_hash(self.email)
        self.kept, self.gone = new_id(), new_id()

    async def say(self, payload: Any, event_id: str | None = None, *, key: str | None = None) -> Event:
        topic = topics.AUTH_SESSIONS if isinstance(payload, events.SessionStarted) else topics.AUTH_ACCOUNTS
        event = Event(event_id or new_id(), self.now, key or payload.email_hash, payload)
        await append(self.settings, (topic, event.key, event))
        return event

    async def register(self) -> None:
        await self.say(events.AccountRegistered(
            user_id=self.user, email=self.email, email_hash=self.home, password_hash="h", role="sugar_baby", display_name="A",
            birth_date="1990-01-01", address_verified=True,
        ))
        for family in (self.kept, self.gone):
            await self.say(events.SessionStarted(
                family_id=family, user_id=self.user, token_hash="00" * 32, expires_at=self.now + timedelta(days=1),
                email_hash=self.home, signed_in_at=self.now,
            ), key=family)

    async def ask(self, address: str) -> str:
        """The id of the token."""
        return (await self.say(events.AddressChangeRequested(
            user_id=self.user, email_hash=self.home, address=address, address_hash=email_hash(address),
            expires_at=self.now + timedelta(hours=1),
        ))).event_id

    def move(self, token_id: str, address: str, former: str, claim: AddressClaim | None = None) -> AddressMove:
        return AddressMove(
            token_id=token_id, address=address, address_hash=email_hash(address), former_address=former, former_claim=claim,
            kept_family_id=self.kept,
        )

    async def claim(self, move: AddressMove) -> None:
        await self.say(
            events.AddressClaimed(user_id=self.user, email_hash=move.address_hash, home=self.home, move=move),
            address_claimed_id(move.token_id),
        )


@pytest.fixture
def query(servers: Settings) -> Iterator[Callable[..., list[Any]]]:
    with open_rows(servers, "test") as conn:
        yield lambda statement, *values: conn.execute(statement, values).fetchall()


async def test_a_claim_alone_is_followed_by_the_change_its_notice_and_the_end_of_the_former_claim(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    """As when the replica that made the claim was killed before it did anything else."""
    somebody = Somebody(servers)
    second, third = f"second-{somebody.email}", f"third-{somebody.email}"
    await somebody.register()
    await eventually(lambda: len(query("SELECT 1 FROM sessions WHERE user_id = %s", somebody.user)) == 2)
    token = await somebody.ask(second)
    (asked,) = await eventually(lambda: mailed(servers, second))
    key = bytes.fromhex(servers.auth.account_key.get_secret_value())
    found = [named for word in asked.get_content().split() if (named := parse_mail_token(key, "change", word))]
    assert found == [(somebody.home, token)]
    await somebody.claim(somebody.move(token, second, somebody.email))
    (told,) = await eventually(lambda: mailed(servers, somebody.email))
    assert told["Subject"] == "The address of your account was changed"
    account = "SELECT email, sessions_from FROM credentials WHERE email_hash = %s::uuid"
    await eventually(lambda: query(account, somebody.home)[0][0] == second)
    ended = "SELECT family_id::text FROM sessions WHERE user_id = %s AND revoked_at IS NOT NULL"
    await eventually(lambda: query(ended, somebody.user) == [(somebody.gone,)])
    mails = "SELECT template FROM mails WHERE user_id = %s AND email_hash = %s::uuid ORDER BY template"
    await eventually(lambda: query(mails, somebody.user, somebody.home) == [("address_changed",), ("change_address",)])
    with sync_client(servers) as client:
        def revoked() -> list[tuple[str, int, str]]:
            members = [member.decode() for member in client.zrange(REVOKED, 0, -1) if somebody.user in member.decode()]
            return [read_ended(member) for member in members]

        version = query(account, somebody.home)[0][1]
        await eventually(lambda: revoked() == [(somebody.user, version, somebody.kept)])
        await eventually(lambda: email_hash(second).encode() in (client.get(credential_key(somebody.home)) or b""))
        await eventually(lambda: somebody.home.encode() in (client.get(credential_key(email_hash(second))) or b""))
    newer = await somebody.ask(third)
    former = AddressClaim(address_hash=email_hash(second), token_id=token)
    await somebody.claim(somebody.move(newer, third, second, former))
    await eventually(lambda: query(account, somebody.home)[0][0] == third)
    status = "SELECT status FROM credentials WHERE email_hash = %s::uuid"
    await eventually(lambda: query(status, email_hash(second)) == [("deleted",)])
    assert query(status, email_hash(third)) == [("active",)]
    with open_rows(servers, "test") as conn:
        assert addresses(conn, [somebody.user]) == {somebody.user: somebody.home}
        exported = conn.execute(SECTIONS["account"], {"user": somebody.user}).fetchall()
        assert [row[0] for row in exported] == [third]
        rebuilt = load_people(conn, [somebody.user])[somebody.user].credentials
        assert {name: (found.status, found.home, found.address_hash) for name, (found, _) in rebuilt.items()} == {
            somebody.home: ("active", None, email_hash(third)),
            email_hash(second): ("deleted", None, None),
            email_hash(third): ("active", somebody.home, email_hash(third)),
        }
        row = accounts(conn, [somebody.home])[somebody.home]
        assert row.address_hash == email_hash(third)


async def test_a_claim_whose_change_was_taken_back_is_given_up_and_nobody_is_signed_out_or_told(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    somebody, address = Somebody(servers), f"new-{new_id()}@example.com"
    await somebody.register()
    token = await somebody.ask(address)
    await somebody.ask(f"newer-{address}")
    await somebody.claim(somebody.move(token, address, somebody.email))
    status = "SELECT status FROM credentials WHERE email_hash = %s::uuid"
    await eventually(lambda: query(status, email_hash(address)) == [("deleted",)])
    assert query("SELECT email FROM credentials WHERE email_hash = %s::uuid", somebody.home) == [(somebody.email,)]
    assert query("SELECT 1 FROM sessions WHERE user_id = %s AND revoked_at IS NOT NULL", somebody.user) == []
    assert query("SELECT 1 FROM mails WHERE user_id = %s AND template = 'address_changed'", somebody.user) == []
    later = Somebody(servers)
    await later.register()
    await later.claim(later.move(await later.ask(address), address, later.email))
    await eventually(lambda: query("SELECT user_id::text FROM credentials WHERE email_hash = %s::uuid", email_hash(address))
                     == [(later.user,)])


async def test_an_erasure_frees_both_addresses(servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]) -> None:
    somebody, address = Somebody(servers), f"new-{new_id()}@example.com"
    await somebody.register()
    token = await somebody.ask(address)
    await somebody.claim(somebody.move(token, address, somebody.email))
    account = "SELECT email FROM credentials WHERE email_hash = %s::uuid"
    await eventually(lambda: query(account, somebody.home) == [(address,)])
    await somebody.say(events.StandingSet(
        user_id=somebody.user, email_hash=somebody.home, status="deleted", number=ERASED_NUMBER, cause_id=new_id(),
        claim=AddressClaim(address_hash=email_hash(address), token_id=token),
    ))
    status = "SELECT status, email FROM credentials WHERE email_hash = ANY(%s::uuid[])"
    await eventually(lambda: query(status, [somebody.home, email_hash(address)]) == [("deleted", "")] * 2)
