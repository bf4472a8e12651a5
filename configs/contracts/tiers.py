"""A creator's shop: tiers, promo codes and their redemptions, as the fold of the creator's tier.changed events."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from configs.contracts.events import Event, OfferRedeemed, OfferReleased, PromoCodeChanged, TierChanged
from configs.contracts.events.tiers import Bundle
from configs.contracts.payment_facts import MONTHS, Interval

TIERS: Final = 50
"""A creator's tiers, archived ones among them."""
ACTIVE_TIERS: Final = 10
PROMO_CODES: Final = 200
HELD: Final = 64
"""Checkouts of one code that are known by name: the newest that took of it, and the newest that gave back."""
BENEFITS: Final = 20
BUNDLES: Final = 4
TRIAL_DAYS: Final = 30


def discounted(amount_minor: int, percent: int) -> int:
    """What is left to pay, in the payee's favour to the minor unit."""
    return amount_minor - amount_minor * percent // 100


class Tier(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """One tier. ``created_at`` is the time of its first event."""

    tier_id: str
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
    created_at: datetime
    request_digest: str = ""

    def price_minor(self, interval: Interval, count: int = 1) -> int | None:
        """What ``count`` intervals cost at once, more than one of them as a bundle; None: it is not sold so."""
        if count == 1:
            return self.price_monthly_minor if interval == "month" else self.price_yearly_minor
        bundle = next((bundle for bundle in self.bundles if bundle.months == count * MONTHS[interval]), None)
        return None if bundle is None else discounted(bundle.months * self.price_monthly_minor, bundle.percent)

    @property
    def for_sale(self) -> bool:
        return self.is_active and not self.archived


class PromoCode(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """One code, with how often it was redeemed."""

    promo_id: str
    code: str
    percent: int
    months: int | None = None
    tier_ids: tuple[str, ...] = ()
    most: int | None = None
    expires_at: datetime | None = None
    is_active: bool = True
    created_at: datetime
    request_digest: str = ""
    redeemed: int = 0
    held: tuple[str, ...] = ()
    """The newest checkouts that hold a redemption, oldest first: each counts once."""
    freed: tuple[str, ...] = ()
    """The newest that gave theirs back, oldest first: each does so once, also one that is no more among ``held``."""

    def refusal(self, tier_id: str, now: datetime) -> Literal["promo_code_invalid", "promo_code_exhausted"] | None:
        """Why the code does not work for this tier at this moment; None: it does."""
        if not self.is_active or (self.expires_at is not None and self.expires_at <= now):
            return "promo_code_invalid"
        if self.tier_ids and tier_id not in self.tier_ids:
            return "promo_code_invalid"
        return "promo_code_exhausted" if self.most is not None and self.redeemed >= self.most else None


class Shop(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What a creator sells. A creator has one currency, that of the first tier."""

    creator_id: str
    version: int
    tiers: tuple[Tier, ...] = ()
    promo_codes: tuple[PromoCode, ...] = ()

    @property
    def currency(self) -> str | None:
        return self.tiers[0].currency if self.tiers else None

    def tier(self, tier_id: str) -> Tier | None:
        return next((tier for tier in self.tiers if tier.tier_id == tier_id), None)

    def promo(self, promo_id: str) -> PromoCode | None:
        return next((promo for promo in self.promo_codes if promo.promo_id == promo_id), None)

    def promo_of_code(self, code: str) -> PromoCode | None:
        """The newest with this code, in any case: an ended code's text may be used again."""
        return next((promo for promo in reversed(self.promo_codes) if promo.code == code.upper()), None)


def tier_after(before: Tier | None, event: Event) -> Tier:
    """The tier once a tier_changed has been taken in."""
    payload: TierChanged = event.payload
    return Tier(
        tier_id=payload.tier_id, rank=payload.rank, name=payload.name, currency=payload.currency,
        price_monthly_minor=payload.price_monthly_minor, revision=payload.revision, description=payload.description,
        price_yearly_minor=payload.price_yearly_minor, benefits=payload.benefits, trial_days=payload.trial_days,
        bundles=payload.bundles, is_active=payload.is_active, archived=payload.archived,
        created_at=event.occurred_at if before is None else before.created_at,
        request_digest=(payload.body_digest or "") if before is None else before.request_digest,
    )


def is_wordless(payload: TierChanged | PromoCodeChanged) -> bool:
    """Whether it takes a seller's words away, because the seller was erased: nobody sells anything without a name."""
    return not payload.name if isinstance(payload, TierChanged) else payload.code == payload.promo_id


def promo_after(before: PromoCode | None, event: Event) -> PromoCode:
    """The code once a promo_code_changed has been taken in; redemptions stay."""
    payload: PromoCodeChanged = event.payload
    return PromoCode(
        promo_id=payload.promo_id, code=payload.code, percent=payload.percent, months=payload.months,
        tier_ids=payload.tier_ids, most=payload.most, expires_at=payload.expires_at, is_active=payload.is_active,
        created_at=event.occurred_at if before is None else before.created_at,
        request_digest=(payload.body_digest or "") if before is None else before.request_digest,
        redeemed=0 if before is None else before.redeemed, held=() if before is None else before.held,
        freed=() if before is None else before.freed,
    )


def shop_after(shop: Shop | None, event: Event, version: int) -> Shop | None:
    """The shop once an event of its creator has been taken in; an older event than it holds changes nothing.

    A checkout's redemption counts once, however often it is told, and is given back once.
    """
    payload = event.payload
    if not isinstance(payload, TierChanged | PromoCodeChanged | OfferRedeemed | OfferReleased):
        return shop
    before = shop or Shop(creator_id=payload.creator_id, version=0)
    if version <= before.version:
        return shop
    if isinstance(payload, TierChanged):
        tiers = {tier.tier_id: tier for tier in before.tiers}
        tiers[payload.tier_id] = tier_after(tiers.get(payload.tier_id), event)
        return msgspec.structs.replace(before, tiers=tuple(tiers.values()), version=version)
    promos = {promo.promo_id: promo for promo in before.promo_codes}
    if isinstance(payload, PromoCodeChanged):
        promos[payload.promo_id] = promo_after(promos.get(payload.promo_id), event)
    elif payload.promo_id in promos:
        promos[payload.promo_id] = _counted(promos[payload.promo_id], payload)
    return msgspec.structs.replace(before, promo_codes=tuple(promos.values()), version=version)


def _counted(promo: PromoCode, payload: OfferRedeemed | OfferReleased) -> PromoCode:
    name, replace = payload.subscription_id, msgspec.structs.replace
    is_held = name in promo.held
    held, freed = (tuple(other for other in names if other != name) for names in (promo.held, promo.freed))
    if isinstance(payload, OfferRedeemed):
        return promo if is_held else replace(promo, redeemed=promo.redeemed + 1, held=(*held, name)[-HELD:], freed=freed)
    # More hold the code than are known by name: it may be one of the others.
    if not is_held and (name in promo.freed or promo.redeemed <= len(promo.held)):
        return promo
    return replace(promo, redeemed=promo.redeemed - 1, held=held, freed=(*freed, name)[-HELD:])


def shown_shop(shop: Shop) -> Shop:
    """The shop without what only its shard needs."""
    return msgspec.structs.replace(
        shop, promo_codes=tuple(msgspec.structs.replace(promo, held=(), freed=()) for promo in shop.promo_codes)
    )


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What one checkout took of the shop. Of an instrument: the checkout that holds its one trial."""

    subscription_id: str
    promo_id: str | None
    instrument: str | None
    released: bool
    version: int


def offer_after(before: Offer | None, event: Event, version: int) -> Offer | None:
    """The offer once an event about its checkout or its instrument has been taken in; who holds it keeps it until released."""
    payload = event.payload
    if before is not None and version <= before.version:
        return before
    if isinstance(payload, OfferRedeemed):
        if before is not None and not before.released:
            return before
        return Offer(
            subscription_id=payload.subscription_id, promo_id=payload.promo_id, instrument=payload.instrument,
            released=False, version=version,
        )
    if isinstance(payload, OfferReleased) and before is not None and before.subscription_id == payload.subscription_id:
        return msgspec.structs.replace(before, released=True, version=version)
    return before


def checkout_key(creator_id: str, subscription_id: str) -> str:
    """Names what a checkout took, where rows are loaded; begins with the creator's id."""
    return f"{creator_id}/s/{subscription_id}"


def instrument_key(creator_id: str, instrument: str) -> str:
    """Names who holds an instrument's trial, where rows are loaded."""
    return f"{creator_id}/t/{instrument}"
