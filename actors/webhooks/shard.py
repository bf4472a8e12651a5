"""The service of webhook shards: what payment providers send, made durable in payment.webhooks before they are thanked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from actors.sharding.appends import AppendService
from actors.webhooks.commands import Keep
from cluster.connections.kafka import LogAppender, Record
from configs.contracts.events import Event, WebhookReceived, encode
from configs.contracts.ids import partition_of
from configs.contracts.loading import RowLoader
from configs.contracts.payments import webhook_id
from configs.contracts.topics import PAYMENT_WEBHOOKS
from configs.settings import Settings

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class WebhookService(AppendService[Keep]):
    """A webhook that comes again is appended again under the same id; the consumer applies it once."""

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        super().__init__(settings=settings, appender=appender, die=die)

    def records(self, command: Keep) -> list[Record]:
        received = _EPOCH + timedelta(microseconds=command.received_at_us)
        payload = WebhookReceived(
            provider=command.provider, provider_event_id=command.provider_event_id, object_id=command.object_id,
            kind=command.kind, livemode=command.livemode, created_at=_EPOCH + timedelta(microseconds=command.created_at_us),
            body=command.body,
        )
        event = Event(webhook_id(command.provider, command.provider_event_id), received, command.object_id, payload)
        return [Record(PAYMENT_WEBHOOKS.name, partition_of(event.key, self._partitions), event.key, encode(event))]
