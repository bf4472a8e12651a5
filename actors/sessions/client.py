"""Calling session shards."""

from __future__ import annotations

from typing import Any, cast

from actors.sessions.commands import (
    SERVICE,
    FindSession,
    Revoked,
    RevokeSession,
    Rotated,
    RotateSession,
    SessionFound,
    SessionInvalid,
    Started,
    StartSession,
)
from actors.sessions.tickets import IssueTicket, SpendTicket, TicketInvalid, family_of_ticket
from actors.sharding.client import ActorPool


class SessionsClient:
    """Session shards by family. Every call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Sending the same command again is safe; a repeated rotation is answered like the first within the grace time.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def start(self, command: StartSession, *, traceparent: str | None = None) -> Started:
        return cast(Started, await self._ask(command.family_id, command, traceparent))

    async def find(self, family_id: str) -> SessionFound | SessionInvalid:
        return cast(SessionFound | SessionInvalid, await self._ask(family_id, FindSession(family_id=family_id), None))

    async def rotate(self, command: RotateSession, *, traceparent: str | None = None) -> Rotated | SessionInvalid:
        return cast(Rotated | SessionInvalid, await self._ask(command.family_id, command, traceparent))

    async def revoke(self, command: RevokeSession, *, traceparent: str | None = None) -> Revoked:
        return cast(Revoked, await self._ask(command.family_id, command, traceparent))

    async def issue_ticket(self, command: IssueTicket) -> str | TicketInvalid:
        """A ticket that opens one socket; ShardUnavailable when too many are unspent."""
        return cast(
            str | TicketInvalid,
            await self._pool.ask(SERVICE, self._pool.shard_of(command.family_id), "issue_tickets", command),
        )

    async def spend_ticket(self, ticket: str) -> IssueTicket | TicketInvalid:
        """What the ticket was issued for, once. After ShardUnavailable the ticket may be spent: get another."""
        family_id = family_of_ticket(ticket)
        if family_id is None:
            return TicketInvalid()
        return cast(
            IssueTicket | TicketInvalid,
            await self._pool.ask(SERVICE, self._pool.shard_of(family_id), "spend_tickets", SpendTicket(ticket)),
        )

    async def revoke_own(self, family_id: str, user_id: str) -> Revoked | None:
        """Ends a session that its owner names; None: it is not known, or not theirs."""
        command = RevokeSession(family_id=family_id, user_id=user_id, reason="logout", only_own=True)
        answer = cast(Revoked | SessionInvalid, await self._ask(family_id, command, None))
        return answer if isinstance(answer, Revoked) else None

    async def _ask(self, family_id: str, command: object, traceparent: str | None) -> Any:
        return await self._pool.ask(
            SERVICE, self._pool.shard_of(family_id), "record", command, traceparent=traceparent
        )
