"""The service of payment shards: what payers ask for, made durable in payment.completed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actors.payments.commands import SERVICE
from actors.payments.state import PaymentAnswer, PaymentCommand, PaymentMemory
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import PAYMENT_COMPLETED
from configs.settings import Settings


class PaymentService(LogService[PaymentCommand, PaymentAnswer]):
    """Records each request once, for good, and takes in what the provider reports; durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.payments(keys)

        super().__init__(
            SERVICE, PAYMENT_COMPLETED, PaymentMemory(), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
