"""Calling tier shards."""

from __future__ import annotations

from typing import Any, cast

from actors.sharding.client import ActorPool
from actors.tiers.commands import (
    SERVICE,
    ChangePromo,
    ChangeTier,
    CodeTaken,
    CurrencyFixed,
    IdempotencyConflict,
    PromoChanged,
    RankFixed,
    Redeem,
    Redeemed,
    Refusal,
    Release,
    Released,
    TierPut,
    TooMany,
    Unknown,
)


class TiersClient:
    """Tier shards by creator. Every call may raise ShardUnavailable or LogUnavailable: it may have taken effect."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def change_tier(
        self, command: ChangeTier
    ) -> TierPut | Unknown | TooMany | CurrencyFixed | RankFixed | IdempotencyConflict:
        return cast(TierPut | Unknown | TooMany | CurrencyFixed | RankFixed | IdempotencyConflict, await self._ask(command))

    async def change_promo(self, command: ChangePromo) -> PromoChanged | Unknown | TooMany | CodeTaken | IdempotencyConflict:
        return cast(PromoChanged | Unknown | TooMany | CodeTaken | IdempotencyConflict, await self._ask(command))

    async def redeem(self, command: Redeem) -> Redeemed | Refusal:
        return cast(Redeemed | Refusal, await self._ask(command))

    async def release(self, command: Release) -> Released:
        return cast(Released, await self._ask(command))

    async def _ask(self, command: Any) -> Any:
        return await self._pool.ask(SERVICE, self._pool.shard_of(command.creator_id), "record", command)
