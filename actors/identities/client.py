"""Calling identity shards."""

from __future__ import annotations

from typing import Any, cast

from actors.identities.commands import (
    SERVICE,
    ClaimIdentity,
    FindIdentity,
    Identified,
    IdentityUnknown,
    NonceUsed,
    UseIdentity,
)
from actors.sharding.client import ActorPool


class IdentitiesClient:
    """Identity shards by identity. Every call may raise ShardUnavailable or LogUnavailable: it may have taken effect."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def find(self, command: FindIdentity) -> Identified | NonceUsed | IdentityUnknown:
        return cast(Identified | NonceUsed | IdentityUnknown, await self._ask(command))

    async def use(self, command: UseIdentity) -> Identified | NonceUsed | IdentityUnknown:
        return cast(Identified | NonceUsed | IdentityUnknown, await self._ask(command))

    async def claim(self, command: ClaimIdentity) -> Identified | NonceUsed:
        return cast(Identified | NonceUsed, await self._ask(command))

    async def _ask(self, command: Any) -> Any:
        return await self._pool.ask(SERVICE, self._pool.shard_of(command.identity_hash), "record", command)
