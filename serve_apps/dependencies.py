"""What one API replica holds: settings, connections, clients of the shards, limits, figures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Protocol

import redis.asyncio

from actors.accounts.client import AccountsClient
from actors.cards.client import CardsClient
from actors.identities.client import IdentitiesClient
from actors.impressions.client import ImpressionsClient
from actors.media.client import MediaClient
from actors.messages.client import ConversationsClient
from actors.moderation.client import ModerationClient
from actors.payments.client import PaymentsClient
from actors.posts.client import PostsClient
from actors.sessions.client import SessionsClient
from actors.sessions.revocations import Revocations
from actors.subscriptions.client import SubscriptionsClient
from actors.swipes.client import SwipesClient
from actors.tiers.client import TiersClient
from actors.users.client import UsersClient
from actors.webhooks.client import WebhooksClient
from cluster.connections.assurance import AgeAssurance, assurance
from cluster.connections.media.store import MediaStore, media_store
from cluster.connections.payments import Providers
from cluster.connections.reading import Reads, Warming
from cluster.connections.redis import async_client
from cluster.connections.spans import Spans, spans_of
from configs.contracts import changes
from configs.contracts.access_tokens import AccessTokens
from configs.process import give_back_memory, quieten_collector
from configs.settings import Settings
from serve_apps.activity import Activity
from serve_apps.auth.id_tokens import IdTokens
from serve_apps.auth.rehashing import Rehashing
from serve_apps.auth.sealing import AccountSeals
from serve_apps.client_address import ClientAddresses
from serve_apps.content.reading import Contents
from serve_apps.content.rendering import Rendering
from serve_apps.exporting import Exporting
from serve_apps.hashing import Passwords
from serve_apps.limits import PersonLimit, SharedLimits
from serve_apps.matching.decks import Decks
from serve_apps.matching.faces import Faces
from serve_apps.matching.served import ServedCards
from serve_apps.media.marking import Marking
from serve_apps.media.records import MediaRecords
from serve_apps.media.urls import MediaUrls
from serve_apps.messaging.reading import Conversations
from serve_apps.metrics import ReplicaMetrics
from serve_apps.pages import Listings, Seals
from serve_apps.people import People
from serve_apps.subscriptions.shops import Shops
from serve_apps.tracing import TracedPool
from serve_apps.write_through import WriteThrough


class Loader(Protocol):
    """What a replica needs of the writers' loader (``actors.sharding.loader.LoaderClient``)."""

    def warm_people(self, user_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_addresses(self, email_hashes: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_money(self, pages: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_sessions(self, user_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_conversations(self, conversation_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_tiers(self, tier_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_messages(self, pages: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_media(self, media_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...
    def warm_moderation(self, pages: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_exports(self, user_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def addresses(self, user_ids: Sequence[str]) -> Awaitable[Mapping[str, str]]: ...

    def warm_posts(self, post_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...

    def warm_homes(self, user_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...


@dataclass(slots=True)
class Dependencies:
    """Everything that routes use. ``start`` before the first request, ``close`` after the last."""

    settings: Settings
    redis: redis.asyncio.Redis
    reads: Reads
    write_through: WriteThrough
    people: People
    warm_people: Warming
    warm_addresses: Warming
    warm_sessions: Warming
    warm_money: Warming
    warm_conversations: Warming
    warm_messages: Warming
    warm_tiers: Warming
    tiers: TiersClient
    subscriptions: SubscriptionsClient
    payments: PaymentsClient
    shops: Shops
    warm_media: Warming
    warm_moderation: Warming
    loader: Loader
    warm_posts: Warming
    warm_homes: Warming
    pool: TracedPool
    accounts: AccountsClient
    identities: IdentitiesClient
    google: IdTokens
    apple: IdTokens
    sessions: SessionsClient
    users: UsersClient
    swipes: SwipesClient
    cards: CardsClient
    conversations: ConversationsClient
    moderation: ModerationClient
    assurance: AgeAssurance | None
    posts: PostsClient
    contents: Contents
    rendering: Rendering
    reading: Conversations
    media: MediaClient
    media_records: MediaRecords
    media_store: MediaStore
    media_urls: MediaUrls
    marking: Marking
    tokens: AccessTokens
    revocations: Revocations
    passwords: Passwords
    limits: SharedLimits
    person_limit: PersonLimit
    addresses: ClientAddresses
    activity: Activity
    rehashing: Rehashing
    seals: Seals
    listings: Listings
    decks: Decks
    faces: Faces
    impressions: ImpressionsClient
    served: ServedCards
    refresh_key: bytes
    account_key: bytes
    account_keys: tuple[bytes, ...]
    """That one, and those whose mailed tokens and seals still count."""
    account_seals: AccountSeals
    webhooks: WebhooksClient
    providers: Providers
    metrics: ReplicaMetrics
    exporting: Exporting | None = None
    spans: Spans | None = None

    @classmethod
    def build(cls, settings: Settings, pool: TracedPool, loader: Loader, name: str = "api") -> Dependencies:
        """The dependencies over a pool of shards and a loader; ``name``: this replica's. Opens nothing yet.

        Raises ConfigurationError: a key is missing.
        """
        client = async_client(settings)
        account_keys = tuple(
            bytes.fromhex(key.get_secret_value()) for key in (settings.auth.account_key, *settings.auth.previous_account_keys)
        )
        reads = Reads(settings)
        write_through = WriteThrough(client)
        warm_people, warm_addresses = Warming(loader.warm_people), Warming(loader.warm_addresses)
        warm_conversations, warm_messages = Warming(loader.warm_conversations), Warming(loader.warm_messages)
        warm_media, media_urls, store = Warming(loader.warm_media), MediaUrls(settings), media_store(settings)
        warm_posts = Warming(loader.warm_posts)
        warm_tiers = Warming(loader.warm_tiers)
        accounts, users = AccountsClient(pool), UsersClient(pool)
        swipes, cards = SwipesClient(pool), CardsClient(pool)
        people = People(reads, warm_people, warm_addresses)
        passwords = Passwords(settings.auth)
        impressions = ImpressionsClient(pool)
        seals = Seals(settings.auth)
        made = cls(
            settings=settings,
            redis=client,
            reads=reads,
            write_through=write_through,
            people=people,
            warm_people=warm_people,
            warm_addresses=warm_addresses,
            warm_sessions=Warming(loader.warm_sessions),
            warm_money=Warming(loader.warm_money),
            warm_conversations=warm_conversations,
            warm_messages=warm_messages,
            warm_tiers=warm_tiers,
            tiers=TiersClient(pool),
            subscriptions=SubscriptionsClient(pool),
            payments=PaymentsClient(pool),
            shops=Shops(reads, people, warm_tiers),
            warm_media=warm_media,
            warm_moderation=Warming(loader.warm_moderation),
            loader=loader,
            warm_posts=warm_posts,
            warm_homes=Warming(loader.warm_homes),
            pool=pool,
            accounts=accounts,
            identities=IdentitiesClient(pool),
            google=IdTokens(settings.oidc.google, settings.oidc),
            apple=IdTokens(settings.oidc.apple, settings.oidc),
            sessions=SessionsClient(pool),
            users=users,
            swipes=swipes,
            cards=cards,
            conversations=ConversationsClient(pool),
            moderation=ModerationClient(pool),
            assurance=assurance(settings),
            posts=PostsClient(pool),
            contents=Contents(reads, people, warm_posts, warm_media),
            rendering=Rendering(media_urls),
            reading=Conversations(reads, people, warm_conversations, warm_messages),
            media=MediaClient(pool),
            media_records=MediaRecords(reads, warm_media),
            media_store=store,
            media_urls=media_urls,
            marking=Marking(store),
            tokens=AccessTokens(settings.auth),
            revocations=Revocations(reads, settings.auth.access_ttl_s),
            passwords=passwords,
            limits=SharedLimits(client),
            person_limit=PersonLimit(settings.limits.requests_per_user_a_second),
            addresses=ClientAddresses(settings.trusted_proxies),
            activity=Activity(users, write_through, changes.recorded),
            rehashing=Rehashing(passwords, accounts),
            seals=seals,
            listings=Listings(reads, people, seals),
            decks=Decks(reads, swipes, cards, settings.ranking.feature_sample_ratio),
            faces=Faces(media_urls),
            impressions=impressions,
            served=ServedCards(impressions),
            refresh_key=bytes.fromhex(settings.auth.refresh_key.get_secret_value()),
            account_key=account_keys[0],
            account_keys=account_keys,
            account_seals=AccountSeals(*account_keys),
            webhooks=WebhooksClient(pool),
            providers=Providers(settings),
            metrics=ReplicaMetrics(lambda: made.counters(), lambda: made.gauges()),
            spans=spans_of(settings, name),
        )
        return made

    async def start(self) -> None:
        """Loads what was revoked and starts the background work; without Redis it answers 503 until Redis is back."""
        await self.revocations.start()
        self.activity.start()
        if self.exporting is not None:
            self.exporting.start()
        await self.pool.reach()
        quieten_collector()
        give_back_memory()

    async def close(self) -> None:
        """Stops the background work and closes the connections."""
        if self.exporting is not None:
            await self.exporting.close()
        await self.activity.close()
        await self.served.close()
        await self.rehashing.close()
        await self.revocations.close()
        for warming in (
            self.warm_people, self.warm_addresses, self.warm_sessions, self.warm_money, self.warm_conversations, self.warm_messages,
            self.warm_media,
            self.warm_moderation,
            self.warm_posts, self.warm_homes, self.warm_tiers,
        ):
            await warming.close()
        await self.providers.close()
        await self.write_through.close()
        await self.reads.close()
        self.passwords.close()
        await self.redis.aclose(close_connection_pool=True)
        if self.spans is not None:
            await asyncio.to_thread(self.spans.close)

    @staticmethod
    def now_ms() -> int:
        return int(time() * 1_000)

    def counters(self) -> Mapping[tuple[str, str], float]:
        """Totals for /metrics."""
        pool = self.pool
        figures: dict[tuple[str, str], float] = {
            ("sugar_redis_round_trips", "reads"): self.reads.trips,
            ("sugar_redis_requests", "reads"): self.reads.requests,
            ("sugar_warm_calls", "people"): self.warm_people.calls,
            ("sugar_warm_calls", "addresses"): self.warm_addresses.calls,
            ("sugar_warm_calls", "conversations"): self.warm_conversations.calls,
            ("sugar_warm_calls", "messages"): self.warm_messages.calls,
            ("sugar_warm_calls", "media"): self.warm_media.calls,
            ("sugar_warm_calls", "posts"): self.warm_posts.calls,
            ("sugar_warm_calls", "homes"): self.warm_homes.calls,
            ("sugar_rendered_posts", "made"): self.rendering.made,
            ("sugar_write_through", "applied"): self.write_through.applied,
            ("sugar_write_through", "left_to_projections"): self.write_through.left_to_projections,
            ("sugar_tokens_verified", "signatures"): self.tokens.verified,
            ("sugar_card_changes", "left_to_log"): self.cards.left_to_log,
            ("sugar_activity_recorded", "people"): self.activity.recorded,
            ("sugar_served_cards", "recorded"): self.served.recorded,
            ("sugar_served_cards", "dropped"): self.served.dropped,
        }
        for service, calls in pool.calls.items():
            figures[("sugar_actor_calls", service)] = calls
        for service, commands in pool.batch_sizes.items():
            figures[("sugar_actor_commands", service)] = commands
        return figures

    def gauges(self) -> Mapping[tuple[str, str], float]:
        """Present figures for /metrics."""
        return {
            ("sugar_passwords_waiting", "argon2"): self.passwords.waiting,
            ("sugar_served_cards_waiting", "responses"): self.served.waiting,
            ("sugar_revocations_fresh", "poll"): float(self.revocations.fresh),
        }
