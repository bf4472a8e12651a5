"""The API on real servers with every shard in this process: no Ray, no writers, the same clients and services."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import redis.asyncio

from actors.accounts.shard import AccountService
from actors.cards.shard import CardShard
from actors.hosts import COMMERCE
from actors.identities.shard import IdentityService
from actors.impressions.shard import ImpressionService
from actors.messages.admission import Admission
from actors.messages.attachable import Attachable
from actors.messages.shard import MessageService
from actors.moderation.shard import ModerationService
from actors.sessions.shard import SessionService
from actors.sharding.host import Service, ShardHost
from actors.sharding.service import shards_of
from actors.sharding.wire import RemoteActor
from actors.swipes.peers import RayPeers
from actors.swipes.service import swipe_service
from actors.users.shard import UserService
from cluster.connections.fanout import Publisher
from cluster.connections.kafka import LogAppender, Record
from cluster.connections.reading import Reads
from cluster.connections.redis import apply_async, async_client
from cluster.connections.spans import Spans, spans_of
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Event, UserCreated, encode
from configs.contracts.home import begin_home, fill_home
from configs.contracts.ids import derived_id, email_hash, new_id, partition_of
from configs.contracts.loading import PeopleRows, SwipeRows
from configs.contracts.ranking import INITIAL, RankingConfiguration
from configs.contracts.read_model import GENERATION
from configs.contracts.statements import MoneyPage, Statement, put_page, read_place
from configs.contracts.tokens import mail_token
from configs.contracts.topics import USER_CREATED
from configs.settings import Settings
from serve_apps.application import create_app
from serve_apps.dependencies import Dependencies
from serve_apps.matching.filters import NO_FILTERS, narrowed
from serve_apps.tracing import TracedPool

NO_KEYS = np.zeros(0, np.uint64)
EPOCHS: Counter[str] = Counter()
PATIENCE_S = 4.0
"""Less than a call to a shard may take altogether (``actors.sharding.client.DEADLINE_S``)."""
SHORT_WAITS = (
    "actors.swipes.shard.MATCH_WAIT_S", "actors.swipes.shard.UNDO_WAIT_S", "actors.cards.client.NOTE_DEADLINE_S",
    "actors.cards.early.WAIT_S", "actors.cards.client.DEADLINE_S", "actors.sharding.rows.WAIT_S",
    "serve_apps.messaging.pairs.OPENING_S", "serve_apps.moderation.deciding.AT_ONCE_S", "serve_apps.ops.routes.DEADLINE_S",
)
"""After these an answer is given without what it waited for, or is 503: half a second to two, in which a busy machine may stand still."""


@contextmanager
def patient() -> Iterator[None]:
    """While it lasts, answers wait for shards and rows as long as it takes: what follows when they do not is other tests' business."""
    with pytest.MonkeyPatch.context() as patched:
        for name in SHORT_WAITS:
            patched.setattr(name, PATIENCE_S)
        yield


@contextmanager
def patient_redis(*made_by: str) -> Iterator[None]:
    """Clients of Redis that are made meanwhile, by these names of theirs, wait longer for an answer."""
    with pytest.MonkeyPatch.context() as patched:
        for name in made_by:
            patched.setattr(name, partial(async_client if name.endswith("async_client") else Reads, timeout_s=PATIENCE_S))
        yield


def unhurried(settings: Settings) -> Settings:
    """The settings of shards whose broker may stand still for some seconds."""
    return settings.model_copy(update={"log": settings.log.model_copy(update={"append_deadline_ms": int(PATIENCE_S * 1_000)})})


class NoRows:
    """The loader of a database in which no writer has committed anything: shards live by the log alone."""

    def __init__(self) -> None:
        self.answers = True
        self.warmed: list[str] = []
        self.redis: redis.asyncio.Redis | None = None
        """Of the newest world that was started."""

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
        return {}

    albums = accounts = identities = sessions = idempotency = conversations = posts = cases = addresses = _none
    shops = offers = subscribers = subscription_requests = payments = funds = _none

    async def swipes(self, user_ids: Sequence[str]) -> Mapping[str, SwipeRows]:
        return {user_id: SwipeRows(NO_KEYS, NO_KEYS, NO_KEYS, NO_KEYS, NO_KEYS, NO_KEYS) for user_id in user_ids}

    async def people(self, page: str | None, limit: int) -> PeopleRows:
        kinds = {
            "latitudes": np.float64, "longitudes": np.float64, "cells": np.uint64, "birth_days": np.int32,
            "roles": np.uint8, "genders": np.uint8, "age_min": np.uint8, "age_max": np.uint8,
            "max_distance_km": np.uint16, "role_masks": np.uint8, "gender_masks": np.uint8, "discoverable": np.bool_,
            "verified": np.bool_, "last_active_s": np.int64, "versions": np.uint64, "match_versions": np.uint64,
        }
        return PeopleRows(user_ids=[], **{name: np.zeros(0, kind) for name, kind in kinds.items()})  # type: ignore[arg-type]

    async def warm_people(self, user_ids: Sequence[str]) -> Sequence[str]:
        return self._warm(user_ids)

    async def warm_addresses(self, email_hashes: Sequence[str]) -> Sequence[str]:
        return self._warm(email_hashes)

    async def warm_tiers(self, tier_ids: Sequence[str]) -> Sequence[str]:
        return self._warm(tier_ids)

    async def warm_money(self, pages: Sequence[str]) -> Sequence[str]:
        """Empty pages: nobody has money in these rows."""
        if self.redis is not None:
            await apply_async(self.redis, [
                put_page(read_place(page), MoneyPage(statement=Statement((), (), ()))) for page in pages
            ])
        return pages

    async def warm_sessions(self, user_ids: Sequence[str]) -> Sequence[str]:
        return self._warm(user_ids)

    async def ordinals(self, places: Sequence[tuple[str, int, str]]) -> Sequence[tuple[int, int]]:
        return [(0, -1)] * len(places)

    async def warm_conversations(self, conversation_ids: Sequence[str]) -> Sequence[str]:
        return self._warm(conversation_ids)

    async def warm_media(self, media_ids: Sequence[str]) -> Sequence[str]:
        return self._warm(media_ids)

    async def warm_messages(self, pages: Sequence[str]) -> Sequence[str]:
        return self._warm(pages)

    async def warm_posts(self, post_ids: Sequence[str]) -> Sequence[str]:
        return self._warm(post_ids)

    async def warm_exports(self, user_ids: Sequence[str]) -> Sequence[str]:
        return self._warm(user_ids)

    async def warm_moderation(self, pages: Sequence[str]) -> Sequence[str]:
        return self._warm(pages)

    async def warm_homes(self, user_ids: Sequence[str]) -> Sequence[str]:
        """Empty feeds: nobody follows anybody in these rows."""
        if self.redis is not None:
            await apply_async(self.redis, [
                step for user_id in user_ids for step in (begin_home(user_id, "t"), fill_home(user_id, "t", ()))
            ])
        return user_ids

    def _warm(self, keys: Sequence[str]) -> Sequence[str]:
        if not self.answers:
            raise DependencyUnavailable("PostgreSQL does not answer")
        self.warmed += keys
        return []


class Handle:
    """Stands for the Ray handle of a host in this process."""

    def __init__(self, host: ShardHost) -> None:
        self.carry = self
        self._host = host

    def remote(self, request: bytes) -> Awaitable[bytes]:
        return self._host.carry(request)


class Shards:
    """Every shard actor of a platform in this process."""

    def __init__(self, settings: Settings, loader: NoRows) -> None:
        self.settings = settings
        self.loader = loader
        self.died: list[str] = []
        self.hosts: dict[str, ShardHost] = {}
        self._appenders: dict[str, LogAppender] = {}
        self._spans: list[Spans] = []
        self.publisher = Publisher(settings)
        with patient_redis("actors.messages.admission.Reads", "actors.messages.attachable.Reads"):
            self.admission = Admission(settings)
            self.attachable = Attachable(settings, loader)  # type: ignore[arg-type]  # as shards use it
        plan = settings.plan
        for kind, slots in (("identity", plan.identity_actors), ("swipes", plan.swipe_actors), ("cards", plan.card_actors)):
            for slot in range(slots):
                self._host(kind, slot)
        # The consumer's that derives; one for all tests, since a producer's first append takes a second.
        self.derived = self._appenders["test-derive"] = LogAppender(settings, "test-derive")

    def _host(self, kind: str, slot: int) -> None:
        name = f"{kind}-{slot}"
        spans = spans_of(self.settings, name)
        appender = self._appenders[name] = LogAppender(self.settings, name, spans)
        self.hosts[name] = ShardHost(name, self._services(kind, slot, appender), spans=spans)
        if spans is not None:
            self._spans.append(spans)

    def _services(self, kind: str, slot: int, appender: LogAppender) -> Mapping[str, Service]:
        common: dict[str, Any] = {"appender": appender, "loader": self.loader, "die": self.died.append}
        if kind == "swipes":
            return {"swipes": swipe_service(self.settings, slot, peers=RayPeers(deadline_s=PATIENCE_S, resolve=self.handle), **common)}
        if kind == "cards":
            return {"cards": CardShard(settings=self.settings, slot=slot, **common)}
        shards = shards_of(self.settings.log.partitions, self.settings.plan.identity_actors, slot)
        kinds: tuple[tuple[str, Any], ...] = (
            ("accounts", AccountService), ("identities", IdentityService), ("sessions", SessionService), ("users", UserService),
            ("moderation", ModerationService),
        )
        kinds += tuple(COMMERCE.items())
        impressions = ImpressionService(settings=self.settings, appender=appender, die=self.died.append)
        messages = MessageService(settings=self.settings, shards=shards, tell=self.publisher.publish, admit=self.admission.admit, unknown=self.attachable.unknown, **common)
        return {"impressions": impressions, "messages": messages} | {service: make(settings=self.settings, shards=shards, **common) for service, make in kinds}

    def handle(self, name: str) -> RemoteActor:
        return RemoteActor(Handle(self.hosts[name]))

    async def ready(self) -> None:
        """Returns when every host has restored its services."""
        while not all([(await host.ping())["ready"] for host in self.hosts.values()]):
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        await asyncio.gather(*(host.close() for host in self.hosts.values()))
        await self.publisher.close()
        await self.admission.close()
        for appender in self._appenders.values():
            appender.close()
        for spans in self._spans:
            await asyncio.to_thread(spans.close)


def forged(text: str) -> str:
    """A sealed text with another character near its end, but not so near that base64 would ignore its bits."""
    return text[:-8] + ("0" if text[-8] != "0" else "1") + text[-7:]


@dataclass
class Person:
    """Somebody who registered through the API."""

    user_id: str
    email: str
    password: str
    access_token: str
    refresh_token: str
    world: World = field(repr=False)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request with this person's token; ``key`` is its Idempotency-Key."""
        headers = {"Authorization": f"Bearer {self.access_token}", **options.pop("headers", {})}
        if (key := options.pop("key", None)) is not None:
            headers["Idempotency-Key"] = key
        return await self.world.client.request(method, f"/api/v1{path}", headers=headers, **options)

    async def ok(self, method: str, path: str, **options: Any) -> Any:
        """The answer's body; the test fails unless it is a success."""
        answer = await self.ask(method, path, **options)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def swipe(self, other: Person, action: str = "like", **options: Any) -> Any:
        return await self.ok("POST", "/matching/swipe", json={"targetUserId": other.user_id, "action": action}, **options)


class World:
    """One replica of the API over shards and servers."""

    NUMBERS = itertools.count()
    PASSWORD = "correct horse battery"

    def __init__(self, settings: Settings, shards: Shards) -> None:
        self.settings = settings
        self.shards = shards
        with patient_redis("serve_apps.dependencies.Reads", "serve_apps.dependencies.async_client"):
            self.dependencies = Dependencies.build(settings, TracedPool(settings, resolve=shards.handle), shards.loader)
        self.app = create_app(settings, self.dependencies)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://api")

    async def start(self) -> None:
        await self.dependencies.redis.set(GENERATION, "test")
        self.shards.loader.redis = self.dependencies.redis
        await self.dependencies.start()

    async def close(self) -> None:
        await self.client.aclose()
        await self.dependencies.close()

    async def document(self) -> dict[str, Any]:
        """The OpenAPI document as it is served. It takes seconds to make, in which shards on this loop would stand still."""
        await asyncio.to_thread(self.app.openapi)
        found: dict[str, Any] = (await self.client.get("/openapi.json")).json()
        return found

    def mailed_token(self, email: str, purpose: str) -> str:
        """The token that the consumer ``mail`` would send for the account that was registered with ``email`` now."""
        address = email_hash(email)
        for host in self.shards.hosts.values():
            accounts = host._services.get("accounts")
            account = None if accounts is None else accounts.group.memory._accounts.get(address)  # type: ignore[attr-defined]
            if account is not None and account.row is not None:
                security = account.row.security
                pending = {"verify": security.verification, "reset": security.reset, "change": security.change}[purpose]
                assert pending is not None, "no token waits"
                return mail_token(self.dependencies.account_key, purpose, address, pending.token_id)
        raise AssertionError("no such account")

    def body(self, role: str = "sugar_baby", **fields: Any) -> dict[str, Any]:
        """A valid registration with an address of its own."""
        number = next(self.NUMBERS)
        return {
            "email": f"{new_id()}-{number}@example.com", "password": self.PASSWORD, "role": role,
            "displayName": f"Person {number}", "birthDate": "1994-05-17", **fields,
        }

    async def register(self, role: str = "sugar_baby", *, at: tuple[float, float] | None = None, **fields: Any) -> Person:
        """Somebody new, with a location when ``at`` is given; user_created follows as the derive consumer makes it."""
        body = self.body(role, **fields)
        answer = await self.client.post("/api/v1/auth/register", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        person = Person(
            made["userId"], body["email"], body["password"], made["accessToken"], made["refreshToken"], self
        )
        created = UserCreated(
            user_id=person.user_id, role=body["role"], display_name=body["displayName"], birth_date=body["birthDate"]
        )
        event = Event(derived_id(email_hash(person.email), "user"), datetime.now(UTC), person.user_id, created)
        partition = partition_of(person.user_id, self.settings.log.partitions)
        await self.shards.derived.append([Record(USER_CREATED.name, partition, person.user_id, encode(event))])
        if at is not None:
            await person.ok("PUT", "/users/me/location", json={"latitude": at[0], "longitude": at[1]})
        return person

    async def until_near(self, viewer: Person, *others: Person) -> None:
        """Returns once the card shards would show all these people to the viewer."""
        record = await self.dependencies.people.own_record(viewer.user_id)
        wish = narrowed(record, NO_FILTERS)
        assert wish is not None
        async with asyncio.timeout(20):
            while True:
                deck = await self.dependencies.cards.deck(msgspec.structs.replace(wish, size=200))
                if {other.user_id for other in others} <= {entry.user_id for entry in deck.entries}:
                    return
                await asyncio.sleep(0.02)
