"""The loader: rows for shards that restore or miss a key, and read-model keys that somebody missed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import redis

from cluster.connections.redis import apply, sync_client
from configs.contracts.accounts import IdentityRow
from configs.contracts.albums import Album
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.home import begin_home
from configs.contracts.ids import new_id
from configs.contracts.loading import (
    LOADER_ACTOR,
    AccountRow,
    ConversationRow,
    IdempotencyRow,
    PeopleRows,
    Positions,
    PostRecord,
    SessionRow,
    SubscriptionRequestRow,
    SwipeRows,
)
from configs.contracts.moderation import CaseRow
from configs.contracts.payouts import Funds, Payouts
from configs.contracts.purchases import Payment
from configs.contracts.ranking import RankingConfiguration
from configs.contracts.read_model import Operation
from configs.contracts.subscribers import Subscriber
from configs.contracts.tiers import Offer, Shop
from configs.process import process_space, resident_bytes
from configs.settings import Settings, load_settings
from writers.connections import Connection
from writers.exporting import Exports
from writers.loads import (
    cards,
    content,
    home,
    identity,
    log,
    media,
    messages,
    moderation,
    money,
    payments,
    ranking,
    subscriptions,
    swipes,
    tiers,
)
from writers.loads.read_model import address_operations, people_operations, tier_operations
from writers.loads.reader import RowReader

METHODS: Final = (
    "positions", "claim_epochs", "epochs", "swipes", "accounts", "identities", "sessions", "idempotency", "people", "ranking",
    "warm_people", "warm_addresses", "warm_sessions", "warm_money",
    "conversations", "ordinals", "older_requests", "sent", "warm_conversations", "warm_messages",
    "posts", "warm_posts", "warm_homes", "albums", "warm_media",
    "shops", "offers", "subscribers", "subscription_requests", "payments", "funds", "warm_tiers",
    "cases", "addresses", "warm_moderation", "warm_exports",
)
OPERATIONS_A_TRIP: Final = 2_000
PEOPLE_A_PAGE: Final = 50_000


class Loader:
    """``RowLoader`` over PostgreSQL. Use from one event loop; statements run in the reader's threads."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._clock = clock
        self._reader = RowReader(settings, "loader")
        self._redis = sync_client(settings)
        self._exports = Exports(settings)

    async def positions(self, topics: Sequence[str]) -> Positions:
        return await self._reader.fresh(lambda conn: log.positions(conn, self._settings, topics))

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        return await self._reader.fresh(lambda conn: log.claim_epochs(conn, kind, shards))

    async def epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        return await self._reader.fresh(lambda conn: log.epochs(conn, kind, shards))

    async def swipes(self, user_ids: Sequence[str]) -> Mapping[str, SwipeRows]:
        now = self._clock()
        return await self._reader.rows(lambda conn: swipes.swipes(conn, user_ids, now))

    async def accounts(self, email_hashes: Sequence[str]) -> Mapping[str, AccountRow]:
        return await self._reader.rows(lambda conn: identity.accounts(conn, email_hashes))

    async def sessions(self, family_ids: Sequence[str]) -> Mapping[str, SessionRow]:
        return await self._reader.rows(lambda conn: identity.sessions(conn, family_ids))

    async def identities(self, hashes: Sequence[str]) -> Mapping[str, IdentityRow]:
        return await self._reader.rows(lambda conn: identity.identities(conn, hashes))

    async def albums(self, owner_ids: Sequence[str]) -> Mapping[str, Album]:
        return await self._reader.rows(lambda conn: media.albums(conn, owner_ids))

    async def idempotency(self, owner_ids: Sequence[str]) -> Mapping[str, Sequence[IdempotencyRow]]:
        return await self._reader.rows(lambda conn: identity.requests(conn, owner_ids))

    async def shops(self, creator_ids: Sequence[str]) -> Mapping[str, Shop]:
        return await self._reader.rows(lambda conn: tiers.shops(conn, creator_ids))

    async def offers(self, places: Sequence[str]) -> Mapping[str, Offer]:
        return await self._reader.rows(lambda conn: tiers.offers(conn, places))

    async def warm_tiers(self, tier_ids: Sequence[str]) -> Sequence[str]:
        return await self._warm(*await self._reader.rows(lambda conn: tier_operations(conn, tier_ids)))

    async def subscribers(self, subscriber_ids: Sequence[str]) -> Mapping[str, Subscriber]:
        return await self._reader.rows(lambda conn: subscriptions.subscribers(conn, subscriber_ids))

    async def payments(self, places: Sequence[str]) -> Mapping[str, Payment | tuple[Payment, ...] | Payouts]:
        return await self._reader.rows(lambda conn: payments.payments(conn, places))

    async def funds(self, creator_ids: Sequence[str]) -> Mapping[str, Funds]:
        return await self._reader.fresh(lambda conn: payments.funds(conn, creator_ids))

    async def subscription_requests(self, places: Sequence[str]) -> Mapping[str, SubscriptionRequestRow]:
        return await self._reader.rows(lambda conn: subscriptions.requests(conn, places))

    async def conversations(self, conversation_ids: Sequence[str]) -> Mapping[str, ConversationRow]:
        return await self._reader.rows(lambda conn: messages.conversations(conn, conversation_ids))

    async def ordinals(self, places: Sequence[tuple[str, int, str]]) -> Sequence[tuple[int, int]]:
        return await self._reader.rows(lambda conn: messages.ordinals(conn, places))

    async def posts(self, names: Sequence[str]) -> Mapping[str, PostRecord]:
        return await self._reader.rows(lambda conn: content.posts(conn, names))

    async def older_requests(self, places: Sequence[tuple[str, int]]) -> Sequence[tuple[int, bytes]]:
        return await self._reader.rows(lambda conn: messages.older_requests(conn, places))

    async def sent(self, places: Sequence[tuple[str, str]]) -> Sequence[tuple[int, bytes]]:
        return await self._reader.rows(lambda conn: messages.sent(conn, places))

    async def people(self, page: str | None, limit: int) -> PeopleRows:
        return await self._reader.rows(lambda conn: cards.people(conn, page, min(limit, PEOPLE_A_PAGE)))

    async def ranking(self) -> RankingConfiguration:
        return await self._reader.rows(ranking.present)

    async def cases(self, target_ids: Sequence[str]) -> Mapping[str, CaseRow]:
        return await self._reader.rows(lambda conn: moderation.cases(conn, target_ids))

    async def addresses(self, user_ids: Sequence[str]) -> Mapping[str, str]:
        return await self._reader.rows(lambda conn: moderation.addresses(conn, user_ids))

    async def warm_moderation(self, pages: Sequence[str]) -> Sequence[str]:
        return await self._warm(*await self._reader.fresh(lambda conn: moderation.views(conn, pages)))

    async def warm_exports(self, user_ids: Sequence[str]) -> Sequence[str]:
        return await asyncio.to_thread(self._exports.ask, user_ids)

    async def warm_people(self, user_ids: Sequence[str]) -> Sequence[str]:
        return await self._warm(*await self._reader.rows(lambda conn: people_operations(conn, user_ids)))

    async def warm_addresses(self, email_hashes: Sequence[str]) -> Sequence[str]:
        return await self._warm(*await self._reader.rows(lambda conn: address_operations(conn, email_hashes)))

    async def warm_sessions(self, user_ids: Sequence[str]) -> Sequence[str]:
        return await self._warm(*await self._reader.rows(lambda conn: identity.signed_in(conn, user_ids)))

    async def warm_money(self, pages: Sequence[str]) -> Sequence[str]:
        return await self._warm(*await self._reader.rows(lambda conn: money.money_operations(conn, pages)))

    async def warm_media(self, media_ids: Sequence[str]) -> Sequence[str]:
        def rows(conn: Connection) -> tuple[list[str], list[Operation]]:
            found, records = media.media_operations(conn, media_ids)
            return found, [*content.posts_of_media(conn, found), *records]

        return await self._warm(*await self._reader.rows(rows))

    async def warm_conversations(self, conversation_ids: Sequence[str]) -> Sequence[str]:
        return await self._warm(
            *await self._reader.rows(lambda conn: messages.conversation_operations(conn, conversation_ids))
        )

    async def warm_messages(self, pages: Sequence[str]) -> Sequence[str]:
        return await self._warm(*await self._reader.rows(lambda conn: messages.page_operations(conn, pages)))

    async def warm_posts(self, post_ids: Sequence[str]) -> Sequence[str]:
        return await self._warm(*await self._reader.rows(lambda conn: content.post_operations(conn, post_ids)))

    async def warm_homes(self, user_ids: Sequence[str]) -> Sequence[str]:
        """The tokens go in before rows are read, and the primary is asked, so that no post falls between the two."""
        tokens = [(user_id, new_id()) for user_id in user_ids]
        await asyncio.to_thread(apply_all, self._redis, [begin_home(user_id, token) for user_id, token in tokens])
        filled = await self._reader.fresh(lambda conn: home.home_operations(conn, tokens))
        return await self._warm([user_id for user_id, _ in tokens], filled)

    async def _warm(self, found: list[str], operations: Sequence[Operation]) -> list[str]:
        """Outside the reader's threads: without Redis no connection to PostgreSQL is held."""
        await asyncio.to_thread(apply_all, self._redis, operations)
        return found

    async def ready(self) -> bool:
        """Whether PostgreSQL answers."""
        try:
            return await self._reader.fresh(_answers)
        except DependencyUnavailable:
            return False

    def describe(self) -> dict[str, Any]:
        return {"statements": self._reader.statements, "reconnects": self._reader.reconnects}

    async def close(self) -> None:
        await asyncio.to_thread(self._exports.close)
        await self._reader.close()
        self._redis.close()


def apply_all(client: redis.Redis, operations: Sequence[Operation]) -> None:
    """Applies the operations in order, a bounded number in each round trip. Raises DependencyUnavailable."""
    for start in range(0, len(operations), OPERATIONS_A_TRIP):
        apply(client, operations[start:start + OPERATIONS_A_TRIP])


def _answers(conn: Connection) -> bool:
    return conn.execute("SELECT 1").fetchone() is not None


PROBE_EVERY_S: Final = 2.0


class LoaderActor:
    """The loader as an actor without constructor arguments; ready once PostgreSQL has answered."""

    def __init__(self) -> None:
        self._loader = Loader(load_settings())
        self._calls = 0
        self._ready = False
        self._probing: asyncio.Task[None] | None = None

    async def call(self, method: str, *args: Any) -> Any:
        """The answer of one of ``METHODS``."""
        if method not in METHODS:
            raise PlatformError("no such method", method=method)
        self._calls += 1
        return await getattr(self._loader, method)(*args)

    async def ping(self) -> dict[str, Any]:
        """Liveness and figures for the keeper and status. Never waits for a server."""
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe(), name="loader-probe")
        return {
            "actor": LOADER_ACTOR, "pid": os.getpid(), "space": process_space(), "memory_bytes": resident_bytes(),
            "ready": self._ready, "calls": self._calls,
            **self._loader.describe(),
        }

    async def _probe(self) -> None:
        while True:
            self._ready = await self._loader.ready()
            await asyncio.sleep(PROBE_EVERY_S)


def remote_loader() -> Any:
    """The Ray actor class; launch gives it name, lifetime and resources."""
    import ray

    return ray.remote(max_restarts=-1, max_task_retries=0, max_concurrency=1_000)(LoaderActor)
