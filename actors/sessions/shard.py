"""The service of session shards: token families, made durable in auth.sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actors.sessions.commands import SERVICE
from actors.sessions.state import SessionAnswer, SessionCommand, SessionMemory
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import AUTH_SESSIONS
from configs.settings import Settings


class SessionService(LogService[SessionCommand, SessionAnswer]):
    """Starts, rotates and revokes token families; every change is durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.sessions(keys)

        memory = SessionMemory(refresh_ttl_s=settings.auth.refresh_ttl_s, grace_s=settings.auth.refresh_grace_s)
        super().__init__(
            SERVICE, AUTH_SESSIONS, memory, load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
