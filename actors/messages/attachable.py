"""Which media people may send, by the read model; what it does not hold is warmed from rows once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cluster.connections.reading import Reads
from configs.contracts.albums import media_key, read_media
from configs.contracts.errors import ReadModelUnknown
from configs.contracts.loading import RowLoader
from configs.contracts.media import MediaRecord
from configs.settings import Settings

_UNSENDABLE: Final = ("rejected", "removed")


class Attachable:
    """Reads media's records, those of a batch in one round trip."""

    def __init__(self, settings: Settings, loader: RowLoader) -> None:
        self._reads = Reads(settings)
        self._loader = loader

    async def unknown(self, sent: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Those of (person, media) that are not the person's own upload, or were rejected or removed.

        What still waits for its approval may be sent; nobody else sees it before. Raises DependencyUnavailable.
        """
        records = await self._records(list(dict.fromkeys(media_id for _, media_id in sent)))
        return frozenset(
            (person, media_id) for person, media_id in sent
            if (record := records.get(media_id)) is None or record.owner_id != person
            or record.state in _UNSENDABLE or record.review == "rejected"
        )

    async def _records(self, media_ids: Sequence[str]) -> dict[str, MediaRecord]:
        (values,) = await self._reads.read(("MGET", *map(media_key, media_ids)))
        found = dict(zip(media_ids, values, strict=True))
        missing = [media_id for media_id, value in found.items() if value is None]
        if missing and (warmed := list(await self._loader.warm_media(missing))):
            (values,) = await self._reads.read(("MGET", *map(media_key, warmed)))
            if None in values:
                raise ReadModelUnknown("the media's record is not written yet")
            found |= zip(warmed, values, strict=True)
        return {media_id: read_media(value) for media_id, value in found.items() if value is not None}

    async def close(self) -> None:
        await self._reads.close()
