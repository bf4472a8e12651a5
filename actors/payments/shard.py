"""The service of payment shards: what payers ask for, made durable in payment.completed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from actors.payments.commands import SERVICE
from actors.payments.memory import MoneyAnswer, MoneyCommand, MoneyMemory
from actors.payments.payouts import RequestPayout
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.loading import RowLoader
from configs.contracts.payouts import Funds
from configs.contracts.topics import PAYMENT_COMPLETED
from configs.settings import Settings


class PaymentService(LogService[MoneyCommand, MoneyAnswer]):
    """Records each request once, for good, and takes in what the provider reports; durable before the answer.

    A payout is decided by the balance that the rows have at that moment, and by payouts that they do not know of yet.
    """

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.payments(keys)

        super().__init__(
            SERVICE, PAYMENT_COMPLETED, MoneyMemory(), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )

    async def record(self, commands: Sequence[MoneyCommand]) -> list[MoneyAnswer | PlatformError]:
        wanted = sorted({command.creator_id for command in commands if isinstance(command, RequestPayout)})
        if not wanted:
            return await super().record(commands)
        try:
            funds: Mapping[str, Funds] = await self._loader.funds(wanted)
        except DependencyUnavailable as error:
            rest = iter(await super().record([command for command in commands if not isinstance(command, RequestPayout)]))
            return [error if isinstance(command, RequestPayout) else next(rest) for command in commands]
        return await super().record([
            replace(command, funds=funds.get(command.creator_id)) if isinstance(command, RequestPayout) else command
            for command in commands
        ])
