"""Calling moderation shards."""

from __future__ import annotations

from typing import cast

from actors.moderation.commands import SERVICE, ModerationAnswer, ModerationCommand
from actors.sharding.client import ActorPool


class ModerationClient:
    """Moderation shards by target. A call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Sending the same command again is safe: what it recorded once it does not record again.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def record(self, command: ModerationCommand) -> ModerationAnswer:
        return cast(
            ModerationAnswer, await self._pool.ask(SERVICE, self._pool.shard_of(command.target_id), "record", command)
        )
