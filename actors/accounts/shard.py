"""The service of account shards: addresses by their hash, made durable in auth.accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from actors.accounts.answers import AccountAnswer
from actors.accounts.commands import SERVICE
from actors.accounts.state import AccountCommand, AccountMemory, AccountRows
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import AUTH_ACCOUNTS
from configs.settings import Settings


class AccountService(LogService[AccountCommand, AccountAnswer]):
    """Registers each address once and renews password hashes; the claim is durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            accounts, requests = await asyncio.gather(loader.accounts(keys), loader.idempotency(keys))
            return {key: AccountRows(accounts.get(key), requests.get(key, ())) for key in keys}

        super().__init__(
            SERVICE, AUTH_ACCOUNTS, AccountMemory(), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
