"""Which services each named actor hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from actors.accounts.commands import SERVICE as ACCOUNTS
from actors.accounts.shard import AccountService
from actors.cards.shard import CardShard
from actors.identities.commands import SERVICE as IDENTITIES
from actors.identities.shard import IdentityService
from actors.impressions.commands import SERVICE as IMPRESSIONS
from actors.impressions.shard import ImpressionService
from actors.media.commands import SERVICE as MEDIA
from actors.media.shard import MediaService
from actors.messages.admission import Admission
from actors.messages.attachable import Attachable
from actors.messages.commands import SERVICE as MESSAGES
from actors.messages.shard import MessageService
from actors.moderation.commands import SERVICE as MODERATION
from actors.moderation.shard import ModerationService
from actors.payments.commands import SERVICE as PAYMENTS
from actors.payments.shard import PaymentService
from actors.posts.commands import SERVICE as POSTS
from actors.posts.shard import PostService
from actors.sessions.commands import SERVICE as SESSIONS
from actors.sessions.shard import SessionService
from actors.sharding.host import Service, die
from actors.sharding.loader import LoaderClient
from actors.sharding.service import shards_of
from actors.subscriptions.commands import SERVICE as SUBSCRIPTIONS
from actors.subscriptions.shard import SubscriptionService
from actors.swipes.service import swipe_service
from actors.tiers.commands import SERVICE as TIERS
from actors.tiers.shard import TierService
from actors.users.commands import SERVICE as USERS
from actors.users.shard import UserService
from actors.webhooks.commands import SERVICE as WEBHOOKS
from actors.webhooks.shard import WebhookService
from cluster.connections.fanout import Publisher
from cluster.connections.kafka import LogAppender
from cluster.connections.spans import Spans
from configs.contracts.errors import ConfigurationError
from configs.settings import Settings

COMMERCE: Mapping[str, Callable[..., Service]] = {
    MEDIA: MediaService,
    PAYMENTS: PaymentService,
    POSTS: PostService,
    SUBSCRIPTIONS: SubscriptionService,
    TIERS: TierService,
    WEBHOOKS: WebhookService,
}
"""Shards of what creators sell, by service: in actors of their own (``plan.commerce_actors``) or in the identity actors."""


def services_of(settings: Settings, name: str, spans: Spans | None = None) -> Mapping[str, Service]:
    """The services of the actor ``<kind>-<slot>``, not started, sharing one producer and one loader client.

    Raises ConfigurationError: no such kind.
    """
    kind, _, number = name.rpartition("-")
    slot = int(number)
    appender = LogAppender(settings, name, spans)
    loader = LoaderClient()
    if kind == "swipes":
        return {"swipes": swipe_service(settings, slot, appender=appender, loader=loader, die=die)}
    if kind == "cards":
        return {"cards": CardShard(settings=settings, slot=slot, appender=appender, loader=loader, die=die)}
    if kind == "messages":
        shards = shards_of(settings.log.partitions, settings.plan.message_actors, slot)
        return {MESSAGES: MessageService(
            settings=settings, shards=shards, appender=appender, loader=loader, die=die, tell=Publisher(settings).publish,
            admit=Admission(settings).admit, unknown=Attachable(settings, loader).unknown,
        )}
    if kind == "commerce":
        shards = shards_of(settings.log.partitions, settings.plan.commerce_actors, slot)
        return {
            service: make(settings=settings, shards=shards, appender=appender, loader=loader, die=die)
            for service, make in COMMERCE.items()
        }
    if kind == "identity":
        shards = shards_of(settings.log.partitions, settings.plan.identity_actors, slot)
        hosted: dict[str, Service] = {
            ACCOUNTS: AccountService(settings=settings, shards=shards, appender=appender, loader=loader, die=die),
            IDENTITIES: IdentityService(settings=settings, shards=shards, appender=appender, loader=loader, die=die),
            SESSIONS: SessionService(settings=settings, shards=shards, appender=appender, loader=loader, die=die),
            MODERATION: ModerationService(settings=settings, shards=shards, appender=appender, loader=loader, die=die),
            IMPRESSIONS: ImpressionService(settings=settings, appender=appender, die=die),
            USERS: UserService(settings=settings, shards=shards, appender=appender, loader=loader, die=die),
        }
        if not settings.plan.message_actors:
            hosted[MESSAGES] = MessageService(
                settings=settings, shards=shards, appender=appender, loader=loader, die=die, tell=Publisher(settings).publish,
                admit=Admission(settings).admit, unknown=Attachable(settings, loader).unknown,
            )
        if not settings.plan.commerce_actors:
            hosted |= {
                service: make(settings=settings, shards=shards, appender=appender, loader=loader, die=die)
                for service, make in COMMERCE.items()
            }
        return hosted
    raise ConfigurationError("no such kind of actor", name=name)
