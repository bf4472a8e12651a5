"""Calling webhook shards."""

from __future__ import annotations

from datetime import datetime

from actors.sharding.client import ActorPool
from actors.webhooks.commands import SERVICE, Keep
from configs.contracts.payments import Report


class WebhooksClient:
    """Webhook shards by the provider's object."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def keep(self, report: Report, received_at: datetime) -> None:
        """Durable when this returns. Raises DependencyUnavailable: it may be taken or not; it may come again."""
        await self._pool.ask(SERVICE, self._pool.shard_of(report.object_id), "record", Keep(
            provider=report.provider, provider_event_id=report.event_id, object_id=report.object_id, kind=report.kind,
            livemode=report.livemode, created_at_us=int(report.created_at.timestamp() * 1e6),
            received_at_us=int(received_at.timestamp() * 1e6), body=report.body,
        ))
