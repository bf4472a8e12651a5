"""Shops in the read model: what a creator sells, and whose a tier is."""

from __future__ import annotations

from cluster.connections.reading import Reads, Warming
from configs.contracts.read_model import MARKER, commerce_key, read_versioned, relation_key
from configs.contracts.selling import SHOP, read_shop, tier_key
from configs.contracts.tiers import Shop, Tier
from serve_apps.people import People


class Shops:
    """Reads shops; what is missing is warmed once, and then known to be absent."""

    def __init__(self, reads: Reads, people: People, tiers: Warming) -> None:
        self._reads = reads
        self._people = people
        self._tiers = tiers

    async def of(self, creator_id: str) -> Shop | None:
        """What a person sells; None: nothing, ever. Raises ReadModelUnknown."""
        _, value = await self._people.sets(
            creator_id, ("HMGET", relation_key(creator_id), MARKER), ("HGET", commerce_key(creator_id), SHOP), marked=(0,)
        )
        return read_shop(value)

    async def tier(self, tier_id: str) -> tuple[Shop, Tier] | None:
        """The tier, archived or not, and the shop that it is in; None: there is no such tier. Raises ReadModelUnknown."""
        (owner,) = await self._reads.read(("GET", tier_key(tier_id)))
        if owner is None and await self._tiers.ensure((tier_id,)):
            (owner,) = await self._reads.read(("GET", tier_key(tier_id)))
        shop = None if owner is None else await self.of(read_versioned(owner)[1].decode())
        tier = None if shop is None else shop.tier(tier_id)
        return None if shop is None or tier is None else (shop, tier)
