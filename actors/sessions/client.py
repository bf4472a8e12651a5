"""Calling session shards."""

from __future__ import annotations

from typing import Any, cast

from actors.sessions.commands import (
    SERVICE,
    Revoked,
    RevokeSession,
    Rotated,
    RotateSession,
    SessionInvalid,
    Started,
    StartSession,
)
from actors.sharding.client import ActorPool


class SessionsClient:
    """Session shards by family. Every call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Sending the same command again is safe; a repeated rotation is answered like the first within the grace time.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def start(self, command: StartSession, *, traceparent: str | None = None) -> Started:
        return cast(Started, await self._ask(command.family_id, command, traceparent))

    async def rotate(self, command: RotateSession, *, traceparent: str | None = None) -> Rotated | SessionInvalid:
        return cast(Rotated | SessionInvalid, await self._ask(command.family_id, command, traceparent))

    async def revoke(self, command: RevokeSession, *, traceparent: str | None = None) -> Revoked:
        return cast(Revoked, await self._ask(command.family_id, command, traceparent))

    async def _ask(self, family_id: str, command: object, traceparent: str | None) -> Any:
        return await self._pool.ask(
            SERVICE, self._pool.shard_of(family_id), "record", command, traceparent=traceparent
        )
