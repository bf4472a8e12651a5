"""What creators sell: tiers, promo codes, and what one checkout took of them. Keyed by creator."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from configs.contracts import topics
from configs.contracts.events.base import Id, Instant, Payload
from configs.contracts.topics import Topic


class Bundle(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """``percent`` off each of the first ``months`` monthly payments."""

    months: int
    percent: int


class TierChanged(Payload, frozen=True, kw_only=True):
    """A tier as it is from now on; subscriptions keep the price under which they began.

    ``revision`` grows with each change of a price. ``archived``: nobody subscribes any more, for good.
    """

    TYPE: ClassVar[str] = "tier_changed"
    creator_id: Id
    tier_id: Id
    rank: int
    name: str
    currency: str
    price_monthly_minor: int
    revision: int
    description: str = ""
    price_yearly_minor: int | None = None
    benefits: tuple[str, ...] = ()
    trial_days: int = 0
    bundles: tuple[Bundle, ...] = ()
    is_active: bool = True
    archived: bool = False
    idempotency_key: str | None = None
    body_digest: str | None = None


class PromoCodeChanged(Payload, frozen=True, kw_only=True):
    """A promo code as it is from now on. What it takes off never changes; ``is_active`` and the limits may."""

    TYPE: ClassVar[str] = "promo_code_changed"
    creator_id: Id
    promo_id: Id
    code: str
    percent: int
    months: int | None = None
    """Off the first so many payments; None: off the first one."""
    tier_ids: tuple[Id, ...] = ()
    """Empty: any tier."""
    most: int | None = None
    """Redemptions; None: no limit."""
    expires_at: Instant | None = None
    is_active: bool = True
    idempotency_key: str | None = None
    body_digest: str | None = None


class OfferRedeemed(Payload, frozen=True, kw_only=True):
    """A checkout took one redemption of a promo code, or the trial of a payment instrument (``instrument``: its hash)."""

    TYPE: ClassVar[str] = "offer_redeemed"
    creator_id: Id
    subscription_id: Id
    subscriber_id: Id
    promo_id: Id | None = None
    instrument: str | None = None


class OfferReleased(Payload, frozen=True, kw_only=True):
    """The checkout failed before anything was paid: what it took is free again."""

    TYPE: ClassVar[str] = "offer_released"
    creator_id: Id
    subscription_id: Id
    promo_id: Id | None = None
    instrument: str | None = None


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.TIER_CHANGED, TierChanged),
    (topics.TIER_CHANGED, PromoCodeChanged),
    (topics.TIER_CHANGED, OfferRedeemed),
    (topics.TIER_CHANGED, OfferReleased),
)
