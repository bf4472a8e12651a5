"""Who of some people is not active by the read model: to them, and from them, no message goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cluster.connections.reading import Reads
from configs.contracts.read_model import record_key
from configs.settings import Settings

_STATUS: Final = b'"status":"'
_ACTIVE: Final = b'"status":"active"'
"""As ``put_record`` writes it; quotes inside of other values are escaped. A record without it is active."""


class Standing:
    """Reads people's records, those of a batch in one round trip."""

    def __init__(self, settings: Settings) -> None:
        self._reads = Reads(settings)

    async def away(self, user_ids: Sequence[str]) -> frozenset[str]:
        """Those who are suspended, banned or erased; nobody who is not known yet. Raises DependencyUnavailable."""
        (values,) = await self._reads.read(("MGET", *map(record_key, user_ids)))
        return frozenset(
            user_id for user_id, value in zip(user_ids, values, strict=True)
            if value is not None and _STATUS in value and _ACTIVE not in value
        )

    async def close(self) -> None:
        await self._reads.close()
