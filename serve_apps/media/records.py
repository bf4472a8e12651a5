"""Records of media from the read model; what is missing there is warmed once, and then known to be absent."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.connections.reading import Reads, Warming
from configs.contracts.albums import media_key, read_media
from configs.contracts.errors import ReadModelUnknown
from configs.contracts.media import MediaRecord


class MediaRecords:
    """Reads what is known of media. Who may see them is the caller's to decide."""

    def __init__(self, reads: Reads, warming: Warming) -> None:
        self._reads = reads
        self._warming = warming

    async def of(self, media_ids: Sequence[str]) -> dict[str, MediaRecord]:
        """The records of those that exist, removed ones among them.

        Raises ReadModelUnknown: one is missing although there are rows. DependencyUnavailable.
        """
        if not media_ids:
            return {}
        (values,) = await self._reads.read(("MGET", *map(media_key, media_ids)))
        found = dict(zip(media_ids, values, strict=True))
        missing = [media_id for media_id, value in found.items() if value is None]
        if missing and (warmed := list(await self._warming.ensure(missing))):
            (values,) = await self._reads.read(("MGET", *map(media_key, warmed)))
            if None in values:
                raise ReadModelUnknown("the media's record is not written yet")
            found |= zip(warmed, values, strict=True)
        return {media_id: read_media(value) for media_id, value in found.items() if value is not None}
