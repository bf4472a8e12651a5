"""The service of session shards: token families, made durable in auth.sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actors.sessions.commands import SERVICE
from actors.sessions.state import SessionAnswer, SessionCommand, SessionMemory
from actors.sessions.tickets import IssueTicket, SpendAnswer, SpendTicket, TicketAnswer, Tickets
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.errors import ShardUnavailable
from configs.contracts.loading import RowLoader
from configs.contracts.topics import AUTH_SESSIONS
from configs.settings import Settings


class SessionService(LogService[SessionCommand, SessionAnswer]):
    """Starts, rotates and revokes token families; every change is durable before the answer."""

    METHODS = ("record", "issue_tickets", "spend_tickets")

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.sessions(keys)

        self._memory = SessionMemory(refresh_ttl_s=settings.auth.refresh_ttl_s, grace_s=settings.auth.refresh_grace_s)
        super().__init__(
            SERVICE, AUTH_SESSIONS, self._memory, load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
        self._tickets = Tickets(revoked=self._memory.revoked)

    async def start(self) -> None:
        await super().start()
        self._memory.restored()

    async def issue_tickets(self, commands: Sequence[IssueTicket]) -> list[TicketAnswer | ShardUnavailable]:
        """A ticket each; nothing is durable."""
        return [self._tickets.issue(command) for command in commands]

    async def spend_tickets(self, commands: Sequence[SpendTicket]) -> list[SpendAnswer]:
        """What each ticket was issued for, once."""
        return [self._tickets.spend(command) for command in commands]
