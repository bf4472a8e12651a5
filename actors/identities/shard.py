"""The service of identity shards: providers' identities by their hash, made durable in auth.identities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actors.identities.commands import SERVICE
from actors.identities.state import IdentityAnswer, IdentityCommand, IdentityMemory
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import AUTH_IDENTITIES
from configs.settings import Settings


class IdentityService(LogService[IdentityCommand, IdentityAnswer]):
    """Gives each identity to one account and uses each nonce once; durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.identities(keys)

        super().__init__(
            SERVICE, AUTH_IDENTITIES, IdentityMemory(), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
