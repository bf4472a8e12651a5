"""Account, session and user services on a real broker: one claim an address, and nothing forgotten over a restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.accounts.answers import AddressTaken, Registered
from actors.accounts.client import AccountsClient
from actors.accounts.commands import Register
from actors.accounts.shard import AccountService
from actors.idempotency import IdempotencyConflict
from actors.sessions.client import SessionsClient
from actors.sessions.commands import Revoked, RevokeSession, Rotated, RotateSession, SessionInvalid, StartSession
from actors.sessions.shard import SessionService
from actors.sharding.client import ActorPool
from actors.sharding.host import ShardHost
from actors.sharding.service import shards_of
from actors.sharding.wire import RemoteActor
from actors.users.client import UsersClient
from actors.users.commands import Recorded
from actors.users.shard import UserService
from cluster.connections.kafka import LogAppender
from cluster.connections.topics import ensure_topics
from cluster.launch.servers import EmbeddedServers
from configs.contracts.errors import DependencyUnavailable, ShardUnavailable
from configs.contracts.events import NotificationSent, ProfileChanged, UserReported
from configs.contracts.ids import email_hash, new_id
from configs.contracts.ranking import INITIAL, RankingConfiguration
from configs.contracts.topics import TOPICS
from configs.settings import Settings

pytestmark = pytest.mark.servers

EPOCHS: Counter[str] = Counter()


class NothingCommitted:
    """The loader of a database in which no writer has committed anything yet: shards live by the log alone."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers

    async def positions(self, topics: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        return {topic: {} for topic in topics}

    async def ranking(self) -> RankingConfiguration:
        return INITIAL

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        EPOCHS[kind] += 1
        return dict.fromkeys(shards, EPOCHS[kind])

    async def epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        return {}  # nobody replaces a shard of this process

    async def _none(self, keys: Sequence[str]) -> Mapping[str, Any]:
        if not self.answers:
            raise DependencyUnavailable("PostgreSQL does not answer")
        return {}

    accounts = sessions = idempotency = _none


class Handle:
    """Stands for a Ray actor handle of a host in this process."""

    def __init__(self, host: ShardHost) -> None:
        self.carry = self
        self._host = host

    def remote(self, request: bytes) -> Awaitable[bytes]:
        return self._host.carry(request)


class Identity:
    """All identity actors of a platform in this process, and a client of each kind."""

    def __init__(self, settings: Settings, loader: NothingCommitted) -> None:
        self.died: list[str] = []
        self._appenders: list[LogAppender] = []
        self.hosts: dict[str, ShardHost] = {}
        slots = settings.plan.identity_actors
        for slot in range(slots):
            appender = LogAppender(settings, f"identity-{slot}")
            self._appenders.append(appender)
            services = {
                kind: make(
                    settings=settings, shards=shards_of(settings.log.partitions, slots, slot), appender=appender,
                    loader=loader, die=self.died.append,  # type: ignore[arg-type]
                )
                for kind, make in (("accounts", AccountService), ("sessions", SessionService), ("users", UserService))
            }
            self.hosts[f"identity-{slot}"] = ShardHost(f"identity-{slot}", services)
        pool = ActorPool(settings, resolve=lambda name: RemoteActor(Handle(self.hosts[name])))
        self.accounts, self.sessions, self.users = AccountsClient(pool), SessionsClient(pool), UsersClient(pool)

    async def ready(self) -> None:
        """Returns when every host has restored its services."""
        while not all([(await host.ping())["ready"] for host in self.hosts.values()]):
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        await asyncio.gather(*(host.close() for host in self.hosts.values()))
        for appender in self._appenders:
            appender.close()


Start = Callable[..., Any]


@pytest.fixture(scope="module")
def settings(running_servers: EmbeddedServers) -> Settings:
    found = running_servers.settings()
    ensure_topics(found, TOPICS)
    return found


@pytest.fixture
def start(settings: Settings) -> Start:
    @asynccontextmanager
    async def started(loader: NothingCommitted | None = None) -> AsyncIterator[Identity]:
        identity = Identity(settings, loader or NothingCommitted())
        try:
            await identity.ready()
            yield identity
        finally:
            await identity.close()
        assert identity.died == []

    return started


def registration(address: str, key: str | None = None, digest: str = "d") -> Register:
    return Register(
        user_id=new_id(), email=address, email_hash=email_hash(address), password_hash="h", role="sugar_baby",
        display_name="Ada", birth_date="1990-01-01", family_id=new_id(),
        session_expires_at=datetime.now(UTC) + timedelta(days=30), idempotency_key=key, body_digest=digest,
    )


def sign_in() -> StartSession:
    return StartSession(
        family_id=new_id(), user_id=new_id(), token_hash="t0", email_hash="ab" * 16, signed_in_at=datetime.now(UTC), expires_at=datetime.now(UTC) + timedelta(days=30)
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what happens sooner or later; the test's own limit ends it otherwise."""
    while not await condition():
        await asyncio.sleep(0.05)


async def test_fifty_racing_registrations_of_one_address_make_one_account(start: Start) -> None:
    async with start() as identity:
        address = f"{new_id()}@example.org"
        answers = await asyncio.gather(*(identity.accounts.register(registration(address)) for _ in range(50)))
        winners = [answer for answer in answers if isinstance(answer, Registered)]
        assert len(winners) == 1
        assert answers.count(AddressTaken()) == 49


async def test_a_claim_outlives_its_shard(start: Start) -> None:
    address = f"{new_id()}@example.org"
    command = registration(address, "key", "digest")
    async with start() as identity:
        first = await identity.accounts.register(command)
        assert isinstance(first, Registered)
        assert not first.replayed
    async with start() as identity:
        again = await identity.accounts.register(registration(address, "key", "digest"))
        assert again == Registered(first.user_id, first.event_id, first.version, first.family_id, replayed=True)
        assert await identity.accounts.register(registration(address, "key", "other")) == IdempotencyConflict()
        assert await identity.accounts.register(registration(address)) == AddressTaken()
        assert await identity.accounts.register(command) == again, "the very same command is a retry even without a key"


async def test_a_password_is_renewed_only_for_the_owner_of_the_address(start: Start) -> None:
    async with start() as identity:
        command = registration(f"{new_id()}@example.org")
        await identity.accounts.register(command)
        before = await appended(identity, "accounts")
        await identity.accounts.rehash(command.email_hash, new_id(), "hash", "stolen")
        assert await appended(identity, "accounts") == before
        await identity.accounts.rehash(command.email_hash, command.user_id, command.password_hash or "", "renewed")
        assert await appended(identity, "accounts") == before + 1


async def appended(identity: Identity, kind: str) -> int:
    figures = [await host.ping() for host in identity.hosts.values()]
    return sum(figure["services"][kind]["appended"] for figure in figures)


async def test_a_family_rotates_on_over_a_restart_and_reuse_revokes_it(start: Start) -> None:
    command = sign_in()
    async with start() as identity:
        await identity.sessions.start(command)
        first = await identity.sessions.rotate(
            RotateSession(family_id=command.family_id, counter=0, next_token_hash="t1")
        )
        assert isinstance(first, Rotated)
    async with start() as identity:
        retried = await identity.sessions.rotate(
            RotateSession(family_id=command.family_id, counter=0, next_token_hash="t1")
        )
        assert retried == first, "a lost answer may be retried, also with a restart between"
        for counter in (1, 2):
            rotated = await identity.sessions.rotate(
                RotateSession(family_id=command.family_id, counter=counter, next_token_hash="t")
            )
            assert isinstance(rotated, Rotated)
        reused = await identity.sessions.rotate(RotateSession(family_id=command.family_id, counter=0, next_token_hash="t"))
        assert reused == SessionInvalid("reused", command.user_id, revoked_now=True)
    async with start() as identity:
        refused = await identity.sessions.rotate(
            RotateSession(family_id=command.family_id, counter=3, next_token_hash="t")
        )
        assert refused == SessionInvalid("revoked", command.user_id)


async def test_what_a_replaced_shard_still_wrote_reaches_its_replacement(start: Start) -> None:
    """Its client was told that the session is over, so it must be."""
    command = sign_in()
    async with start() as old:
        await old.sessions.start(command)
        async with start() as new:
            rotate = RotateSession(family_id=command.family_id, counter=0, next_token_hash="t")
            assert isinstance(await new.sessions.rotate(rotate), Rotated)
            revoked = await old.sessions.revoke(
                RevokeSession(family_id=command.family_id, user_id=command.user_id, reason="logout")
            )
            assert isinstance(revoked, Revoked)

            async def refused() -> bool:
                answer = await new.sessions.rotate(rotate)
                return answer == SessionInvalid("revoked", command.user_id)

            await until(refused)


@pytest.mark.parametrize("kind", ["profile", "report", "notification"])
async def test_a_request_of_a_person_is_recorded_once_over_a_restart(start: Start, kind: str) -> None:
    """A report stands in the partition of the reported person, and is remembered for the reporter all the same."""
    user_id = new_id()
    payload: Any = {
        "profile": ProfileChanged(user_id=user_id, bio="hello"),
        "report": UserReported(
            report_id="", reporter_id=user_id, target_type="user", target_id=new_id(), category="spam"
        ),
        "notification": NotificationSent(notification_id="", user_id=user_id, kind="system", title="hi"),
    }[kind]

    async def record(identity: Identity, digest: str = "d") -> object:
        return await identity.users.record(
            user_id, payload, scope=kind, idempotency_key="key", body_digest=digest
        )

    async with start() as identity:
        first = await record(identity)
        assert isinstance(first, Recorded)
        assert not first.replayed
    async with start() as identity:
        assert await record(identity) == Recorded(first.event_id, 0, replayed=True, payload=None)
        assert await record(identity, "other") == IdempotencyConflict()


async def test_without_rows_a_registration_waits_and_a_sign_in_does_not(start: Start) -> None:
    """Uniqueness needs the rows; a new token family needs none, so people sign in while PostgreSQL is away."""
    async with start(NothingCommitted(answers=False)) as identity:
        with pytest.raises(ShardUnavailable):
            await identity.accounts.register(registration(f"{new_id()}@example.org"))
        command = sign_in()
        await identity.sessions.start(command)
        rotated = await identity.sessions.rotate(
            RotateSession(family_id=command.family_id, counter=0, next_token_hash="t1")
        )
        assert isinstance(rotated, Rotated)
