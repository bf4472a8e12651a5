"""The provider of platforms without keys: what would be pushed, in a short list that `sugar push` shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from cluster.connections.redis import async_client
from configs.contracts.changes import rfc3339
from configs.settings import Settings
from writers.push.provider import SENT, Message, Outcome, Target

KEY: Final = "push:outbox"
KEPT: Final = 200


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One push, newest first in the list. The token is not kept."""

    at: str
    user_id: str
    device_id: str
    platform: str
    push_id: str
    collapse: str
    title: str
    body: str | None
    data: dict[str, str]


class Outbox:
    """Keeps the newest 200 in Redis; a repetition stands there twice, with the same ids."""

    name = "outbox"

    def __init__(self, settings: Settings, platforms: frozenset[str]) -> None:
        self.platforms = platforms
        self._redis = async_client(settings, connections=1)

    async def send(self, target: Target, message: Message) -> Outcome:
        entry = Entry(
            rfc3339(datetime.now(UTC)), target.user_id, target.device_id, target.platform, message.push_id,
            message.collapse, message.title, message.body, dict(message.data),
        )
        try:
            pipeline: Any = self._redis.pipeline(transaction=False)
            await pipeline.lpush(KEY, msgspec.json.encode(entry)).ltrim(KEY, 0, KEPT - 1).execute()
        except (RedisError, OSError, TimeoutError) as error:
            return Outcome("wait", type(error).__name__)
        return SENT

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)
