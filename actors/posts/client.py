"""Calling post shards."""

from __future__ import annotations

from typing import cast

from actors.posts.commands import SERVICE
from actors.posts.state import PostAnswer, PostCommand
from actors.sharding.client import ActorPool


class PostsClient:
    """Post shards by creator. A call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Repeating one is safe: a post has its id before it is created, and a change that was made already changes nothing.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def record(self, command: PostCommand) -> PostAnswer:
        """What became of the post, durable in the log before the answer."""
        answer = await self._pool.ask(SERVICE, self._pool.shard_of(command.creator_id), "record", command)
        return cast(PostAnswer, answer)
