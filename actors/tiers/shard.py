"""The service of tier shards: what creators sell, made durable in tier.changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from actors.sharding.service import LogService
from actors.tiers.commands import SERVICE
from actors.tiers.state import TierAnswer, TierCommand, TierMemory
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import TIER_CHANGED
from configs.settings import Settings


class TierService(LogService[TierCommand, TierAnswer]):
    """Changes shops and counts redemptions in the creator's turn; durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            creators = [key for key in keys if "/" not in key]
            shops, requests, offers = await asyncio.gather(
                loader.shops(creators), loader.idempotency(creators), loader.offers([key for key in keys if "/" in key])
            )
            return {creator: (shops.get(creator), requests.get(creator, ())) for creator in creators} | dict(offers)

        super().__init__(
            SERVICE, TIER_CHANGED, TierMemory(), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
