"""Routes of what a creator sells: tiers and promo codes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query

from actors.tiers.commands import (
    ChangePromo,
    ChangeTier,
    CodeTaken,
    CurrencyFixed,
    IdempotencyConflict,
    PromoChanged,
    RankFixed,
    TierChange,
    TierPut,
    TooMany,
)
from configs.contracts.adults import AGE_UNVERIFIED, may_be_paid
from configs.contracts.events.tiers import Bundle
from configs.contracts.money import EXPONENTS, format_amount, parse_amount
from configs.contracts.selling import put_shop
from configs.contracts.tiers import PromoCode, Shop, Tier
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN, IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.subscriptions.models import (
    BundleBody,
    BundleView,
    PromoBody,
    PromoChangeBody,
    PromoIdPath,
    Promos,
    PromoView,
    TierBody,
    TierChangeBody,
    TierIdPath,
    Tiers,
    TierView,
)

router = APIRouter(prefix="/subscriptions", tags=["subscriptions"])

SELLING: Final = (*SIGNED_IN, *WITH_BODY, "idempotency_conflict", "forbidden", AGE_UNVERIFIED)
LEAST_MINOR: Final = 100
"""Of any currency: processors refuse less than about half a dollar."""
MOST_MAJOR: Final = 10_000
CreatorId = Annotated[str, Query(alias="creatorId", pattern=UUID_PATTERN, description="whose tiers: a person's id")]


async def _seller(dependencies: Dependencies, user_id: str) -> None:
    """Raises Refused: the person is no creator, or no adult whose age was assured."""
    record = await dependencies.people.own_record(user_id)
    if record.role != "sugar_baby":
        raise Refused("forbidden")
    if not may_be_paid(record):
        raise Refused(AGE_UNVERIFIED)


def _minor(text: str | None, currency: str, field: str) -> int | None:
    """Raises Refused: finer than the currency, too little or too much."""
    if text is None:
        return None
    minor = parse_amount(text, currency)
    if minor is None or not LEAST_MINOR <= minor <= MOST_MAJOR * 10 ** EXPONENTS[currency]:
        raise Refused("amount_invalid", field=field)
    return minor


def tier_view(shop: Shop, tier: Tier) -> TierView:
    return TierView(
        tier_id=tier.tier_id, creator_id=shop.creator_id, rank=tier.rank, name=tier.name, description=tier.description,
        currency=tier.currency, price_monthly=format_amount(tier.price_monthly_minor, tier.currency),
        price_yearly=None if tier.price_yearly_minor is None else format_amount(tier.price_yearly_minor, tier.currency),
        benefits=list(tier.benefits), trial_days=tier.trial_days,
        bundles=[
            BundleView(
                months=bundle.months, percent=bundle.percent,
                price=format_amount(tier.price_minor("month", bundle.months) or 0, tier.currency),
            )
            for bundle in tier.bundles
        ],
        is_active=tier.is_active, created_at=tier.created_at,
    )


def _promo_view(promo: PromoCode) -> PromoView:
    return PromoView(
        promo_id=promo.promo_id, code=promo.code, percent=promo.percent, months=promo.months, tier_ids=list(promo.tier_ids),
        max_redemptions=promo.most, redemptions=promo.redeemed, expires_at=promo.expires_at, is_active=promo.is_active,
        created_at=promo.created_at,
    )


def _bundles(bundles: list[BundleBody] | None) -> tuple[Bundle, ...] | None:
    return None if bundles is None else tuple(Bundle(months=bundle.months, percent=bundle.percent) for bundle in bundles)


async def _changed_tier(dependencies: Dependencies, command: ChangeTier) -> TierView:
    answer = await dependencies.tiers.change_tier(command)
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, CurrencyFixed):
        raise Refused("currency_fixed", currency=answer.currency)
    if isinstance(answer, RankFixed):
        raise Refused("rank_fixed", rank=answer.rank)
    if isinstance(answer, TooMany):
        raise Refused("limit_reached")
    if not isinstance(answer, TierPut):
        raise Refused("not_found")
    await dependencies.write_through.apply(*put_shop(answer.shop))
    return tier_view(answer.shop, answer.tier)


@router.post(
    "/tiers", operation_id="createTier", status_code=201, response_model=TierView,
    responses=errors(*SELLING, "currency_fixed", "limit_reached", "amount_invalid"),
)
async def create_tier(
    body: TierBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> TierView:
    """Offers a tier. At most 10 are for sale at once, and 50 ever."""
    await _seller(dependencies, person.user_id)
    change = TierChange(
        rank=body.rank, name=body.name, description=body.description, currency=body.currency,
        price_monthly_minor=_minor(body.price_monthly, body.currency, "priceMonthly"),
        price_yearly_minor=_minor(body.price_yearly, body.currency, "priceYearly"), benefits=tuple(body.benefits),
        trial_days=body.trial_days, bundles=_bundles(body.bundles), is_active=body.is_active,
    )
    return await to_the_end(_changed_tier(dependencies, ChangeTier(
        creator_id=person.user_id, tier_id=None, change=change, scope="createTier", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    )))


@router.get(
    "/tiers", operation_id="listTiers", response_model=Tiers, responses=errors(*SIGNED_IN, "not_found")
)
async def list_tiers(creator_id: CreatorId, person: Person, dependencies: Deps) -> Tiers:
    """A creator's tiers, lowest rank first. Creators see those that are not for sale, too."""
    own = creator_id == person.user_id
    if not own and await dependencies.people.visible(person.user_id, creator_id) is None:
        raise Refused("not_found")
    shop = await dependencies.shops.of(creator_id)
    if shop is None:
        return Tiers(tiers=[])
    shown = [tier for tier in shop.tiers if tier.for_sale or (own and not tier.archived)]
    return Tiers(tiers=[tier_view(shop, tier) for tier in sorted(shown, key=lambda tier: (tier.rank, tier.created_at))])


@router.put(
    "/tiers/{id}", operation_id="updateTier", response_model=TierView,
    responses=errors(*SELLING, "not_found", "rank_fixed", "limit_reached", "amount_invalid"),
)
async def update_tier(
    tier_id: TierIdPath, body: TierChangeBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> TierView:
    """Changes a tier for those who subscribe from now on. Its rank stays: by it go the posts that ask for this tier."""
    await _seller(dependencies, person.user_id)
    shop = await dependencies.shops.of(person.user_id)
    if shop is None or shop.currency is None:
        raise Refused("not_found")
    no_yearly = body.price_yearly is not None and parse_amount(body.price_yearly, shop.currency) == 0
    change = TierChange(
        rank=body.rank, name=body.name, description=body.description,
        price_monthly_minor=_minor(body.price_monthly, shop.currency, "priceMonthly"),
        price_yearly_minor=0 if no_yearly else _minor(body.price_yearly, shop.currency, "priceYearly"),
        benefits=None if body.benefits is None else tuple(body.benefits), trial_days=body.trial_days,
        bundles=_bundles(body.bundles), is_active=body.is_active,
    )
    return await to_the_end(_changed_tier(dependencies, ChangeTier(
        creator_id=person.user_id, tier_id=tier_id, change=change, scope="updateTier", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, tier_id + body.model_dump_json()),
    )))


@router.delete(
    "/tiers/{id}", operation_id="archiveTier", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "idempotency_conflict"),
)
async def archive_tier(
    tier_id: TierIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Success:
    """Takes a tier off sale for good. Its subscribers keep it, at their price."""
    await to_the_end(_changed_tier(dependencies, ChangeTier(
        creator_id=person.user_id, tier_id=tier_id, change=TierChange(archived=True), scope="archiveTier",
        idempotency_key=idempotency_key, body_digest=body_digest(dependencies.seals.key, tier_id),
    )))
    return Success()


async def _changed_promo(dependencies: Dependencies, command: ChangePromo) -> PromoView:
    answer = await dependencies.tiers.change_promo(command)
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, CodeTaken):
        raise Refused("promo_code_taken")
    if isinstance(answer, TooMany):
        raise Refused("limit_reached")
    if not isinstance(answer, PromoChanged):
        raise Refused("not_found")
    await dependencies.write_through.apply(*put_shop(answer.shop))
    return _promo_view(answer.promo)


def _later(at: datetime | None) -> datetime | None:
    """Raises Refused: a time without its offset, or one that has passed."""
    if at is not None and (at.tzinfo is None or at <= datetime.now(UTC)):
        raise Refused("invalid", fields=[{"field": "body.expiresAt", "message": "must be a future time with its offset"}])
    return None if at is None else at.astimezone(UTC)


@router.post(
    "/promo-codes", operation_id="createPromoCode", status_code=201, response_model=PromoView,
    responses=errors(*SELLING, "not_found", "promo_code_taken", "limit_reached"),
)
async def create_promo(
    body: PromoBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> PromoView:
    """Makes a promo code of one's own. What it takes off never changes; whether and how often it works may."""
    await _seller(dependencies, person.user_id)
    return await to_the_end(_changed_promo(dependencies, ChangePromo(
        creator_id=person.user_id, promo_id=None, code=body.code, percent=body.percent, months=body.months,
        tier_ids=tuple(dict.fromkeys(body.tier_ids)), most=body.max_redemptions, expires_at=_later(body.expires_at),
        scope="createPromoCode", idempotency_key=idempotency_key, body_digest=body_digest(dependencies.seals.key, body),
    )))


@router.get("/promo-codes", operation_id="listPromoCodes", response_model=Promos, responses=errors(*SIGNED_IN))
async def list_promos(person: Person, dependencies: Deps) -> Promos:
    """One's own promo codes, newest first, with how often each was redeemed; at most 200."""
    shop = await dependencies.shops.of(person.user_id)
    return Promos(promo_codes=[] if shop is None else [_promo_view(promo) for promo in reversed(shop.promo_codes)])


@router.put(
    "/promo-codes/{id}", operation_id="updatePromoCode", response_model=PromoView, responses=errors(*SELLING, "not_found")
)
async def update_promo(
    promo_id: PromoIdPath, body: PromoChangeBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> PromoView:
    """Changes whether a code works, how often and until when. Redemptions that were made stay."""
    await _seller(dependencies, person.user_id)
    return await to_the_end(_changed_promo(dependencies, ChangePromo(
        creator_id=person.user_id, promo_id=promo_id, most=body.max_redemptions, expires_at=_later(body.expires_at),
        is_active=body.is_active, scope="updatePromoCode", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, promo_id + body.model_dump_json()),
    )))
