"""The service of moderation shards: cases by target, made durable in moderation.decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actors.moderation.commands import SERVICE, ModerationAnswer, ModerationCommand
from actors.moderation.state import ModerationMemory
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import MODERATION_DECIDED
from configs.settings import Settings


class ModerationService(LogService[ModerationCommand, ModerationAnswer]):
    """Records decisions, appeals and removal requests; durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.cases(keys)

        super().__init__(
            SERVICE, MODERATION_DECIDED, ModerationMemory(), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
