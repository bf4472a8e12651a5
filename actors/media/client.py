"""Calling media shards."""

from __future__ import annotations

from typing import Any, cast

from actors.media.commands import (
    SERVICE,
    Arranged,
    ArrangePhotos,
    CompleteUpload,
    FindMedia,
    Found,
    IdempotencyConflict,
    MediaUnknown,
    RemoveMedia,
    RequestUpload,
    ReviewMedia,
    UploadExpired,
    UploadLimit,
)
from actors.sharding.client import ActorPool


class MediaClient:
    """Media shards by owner. A call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Every command is safe to send again.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def request(self, command: RequestUpload) -> Found | UploadLimit | IdempotencyConflict:
        return cast(Found | UploadLimit | IdempotencyConflict, await self._ask(command))

    async def find(self, command: FindMedia) -> Found | MediaUnknown:
        return cast(Found | MediaUnknown, await self._ask(command))

    async def complete(self, command: CompleteUpload) -> Found | MediaUnknown | UploadExpired:
        return cast(Found | MediaUnknown | UploadExpired, await self._ask(command))

    async def review(self, command: ReviewMedia) -> Found | MediaUnknown:
        return cast(Found | MediaUnknown, await self._ask(command))

    async def remove(self, command: RemoveMedia) -> Found | MediaUnknown:
        return cast(Found | MediaUnknown, await self._ask(command))

    async def arrange(self, command: ArrangePhotos) -> Arranged | MediaUnknown | IdempotencyConflict:
        return cast(Arranged | MediaUnknown | IdempotencyConflict, await self._ask(command))

    async def _ask(self, command: Any) -> Any:
        return await self._pool.ask(SERVICE, self._pool.shard_of(command.owner_id), "record", command)
