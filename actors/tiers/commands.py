"""What a creator's tier shard is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from actors.idempotency import IdempotencyConflict
from configs.contracts.events.tiers import Bundle
from configs.contracts.tiers import PromoCode, Shop, Tier

__all__ = [
    "SERVICE", "ChangePromo", "ChangeTier", "CodeTaken", "CurrencyFixed", "IdempotencyConflict", "PromoChanged", "RankFixed",
    "Redeem", "Redeemed", "Refusal", "Release", "Released", "TierChange", "TierPut", "TooMany", "Unknown",
]

SERVICE = "tiers"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChange:
    """The fields that were sent; None: as it was. A yearly price of 0 takes it away. A rank is for good."""

    rank: int | None = None
    name: str | None = None
    description: str | None = None
    currency: str | None = None
    price_monthly_minor: int | None = None
    price_yearly_minor: int | None = None
    benefits: tuple[str, ...] | None = None
    trial_days: int | None = None
    bundles: tuple[Bundle, ...] | None = None
    is_active: bool | None = None
    archived: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTier:
    """Make a tier (``tier_id`` None; all that it needs is in ``change``), or change one."""

    creator_id: str
    tier_id: str | None
    change: TierChange
    scope: str
    idempotency_key: str | None
    body_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePromo:
    """Make a promo code (``promo_id`` None), or change whether it works, how often and how long."""

    creator_id: str
    promo_id: str | None
    code: str = ""
    percent: int = 0
    months: int | None = None
    tier_ids: tuple[str, ...] = ()
    most: int | None = None
    expires_at: datetime | None = None
    is_active: bool | None = None
    scope: str
    idempotency_key: str | None
    body_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeem:
    """Take a redemption of a code, or an instrument's one trial, for a checkout; asking again gets the same answer."""

    creator_id: str
    subscription_id: str
    subscriber_id: str
    tier_id: str
    promo_id: str | None = None
    instrument: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give back what a checkout took, since nothing was paid."""

    creator_id: str
    subscription_id: str


@dataclass(frozen=True, slots=True)
class TierPut:
    """The shop and the tier as they are now."""

    shop: Shop
    tier: Tier


@dataclass(frozen=True, slots=True)
class PromoChanged:
    shop: Shop
    promo: PromoCode


@dataclass(frozen=True, slots=True)
class Redeemed:
    """Durable. ``shop`` None: it was taken before."""

    shop: Shop | None


@dataclass(frozen=True, slots=True)
class Released:
    """Durable. ``shop`` None: there was nothing to give back."""

    shop: Shop | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was recorded. ``code``: promo_code_invalid, promo_code_exhausted or trial_used."""

    code: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The creator has no such tier or code, or it is archived."""


@dataclass(frozen=True, slots=True)
class TooMany:
    """The shop is full."""


@dataclass(frozen=True, slots=True)
class CurrencyFixed:
    """The creator sells in another currency."""

    currency: str


@dataclass(frozen=True, slots=True)
class RankFixed:
    """The tier has another rank, by which posts and agreements go."""

    rank: int


@dataclass(frozen=True, slots=True)
class CodeTaken:
    """The creator has a code of this text that works."""
