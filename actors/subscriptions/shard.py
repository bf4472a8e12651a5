"""The service of subscription shards: what subscribers ask for, made durable in subscription.created."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from actors.sharding.service import LogService
from actors.subscriptions.commands import SERVICE
from actors.subscriptions.state import SubscriptionAnswer, SubscriptionCommand, SubscriptionMemory
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import SUBSCRIPTION_CREATED
from configs.settings import Settings


class SubscriptionService(LogService[SubscriptionCommand, SubscriptionAnswer]):
    """Records each request once, for good, and takes in what the provider reports; durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            subscribers, requests = await asyncio.gather(
                loader.subscribers([key for key in keys if "/" not in key]),
                loader.subscription_requests([key for key in keys if "/" in key]),
            )
            return dict(subscribers) | dict(requests)

        super().__init__(
            SERVICE, SUBSCRIPTION_CREATED, SubscriptionMemory(), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
