"""The service of media shards: people's albums, made durable in media.uploaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actors.media.commands import SERVICE
from actors.media.state import AlbumMemory, MediaAnswer, MediaCommand
from actors.sharding.service import LogService
from cluster.connections.kafka import LogAppender
from configs.contracts.loading import RowLoader
from configs.contracts.topics import MEDIA_UPLOADED
from configs.settings import Settings


class MediaService(LogService[MediaCommand, MediaAnswer]):
    """Grants uploads within limits and orders what becomes of them; durable before the answer."""

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.albums(keys)

        super().__init__(
            SERVICE, MEDIA_UPLOADED, AlbumMemory(settings.media), load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die, in_order=True,
        )
