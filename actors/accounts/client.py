"""Calling account shards."""

from __future__ import annotations

from typing import cast

from actors.accounts.commands import SERVICE, AddressTaken, IdempotencyConflict, Register, Registered, Rehash
from actors.sharding.client import ActorPool


class AccountsClient:
    """Account shards by address. Every call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Sending the same command again is safe: it changes nothing and is answered like the first.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def register(
        self, command: Register, *, traceparent: str | None = None
    ) -> Registered | AddressTaken | IdempotencyConflict:
        """Claims the address, durable in the log before the answer."""
        shard = self._pool.shard_of(command.email_hash)
        answer = await self._pool.ask(SERVICE, shard, "record", command, traceparent=traceparent)
        return cast(Registered | AddressTaken | IdempotencyConflict, answer)

    async def rehash(
        self, email_hash: str, user_id: str, password_hash: str, *, traceparent: str | None = None
    ) -> None:
        """Renews the stored hash of an unchanged password; does nothing when the address is not this person's."""
        command = Rehash(email_hash=email_hash, user_id=user_id, password_hash=password_hash)
        await self._pool.ask(SERVICE, self._pool.shard_of(email_hash), "record", command, traceparent=traceparent)
