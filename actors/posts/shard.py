"""The service of post shards: posts by their creator, made durable in content.published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actors.posts.commands import SERVICE
from actors.posts.state import PostAnswer, PostCommand, PostMemory
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import CONTENT_PUBLISHED
from configs.settings import Settings


class PostService(LogService[PostCommand, PostAnswer]):
    """Each change of a post once and in order; durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.posts(keys)

        super().__init__(
            SERVICE, CONTENT_PUBLISHED, PostMemory(), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die, in_order=True,
        )
