"""Shops of creators, and what checkouts took of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, Final
from uuid import UUID

import msgspec

from configs.contracts.events.tiers import Bundle
from configs.contracts.tiers import Offer, PromoCode, Shop, Tier, checkout_key, instrument_key
from writers.connections import Connection

TIERS: Final = """
SELECT creator_id::text, id::text, rank, name, currency, price_monthly, revision, description, price_yearly, benefits,
       trial_days, bundles, is_active, archived, created_at, request_digest, version
FROM subscription_tiers WHERE creator_id = ANY(%s) ORDER BY created_at, id
"""
PROMOS: Final = """
SELECT creator_id::text, id::text, code, percent, months, tier_ids, most, expires_at, is_active, created_at,
       request_digest, redeemed, ARRAY(
           SELECT subscription_id::text FROM (
               SELECT subscription_id, version FROM promo_redemptions
               WHERE promo_redemptions.creator_id = promo_codes.creator_id AND promo_id = promo_codes.id AND NOT released
               ORDER BY version DESC LIMIT 64
           ) AS newest ORDER BY version
       ), ARRAY(
           SELECT subscription_id::text FROM (
               SELECT subscription_id, version FROM promo_redemptions
               WHERE promo_redemptions.creator_id = promo_codes.creator_id AND promo_id = promo_codes.id AND released
               ORDER BY version DESC LIMIT 64
           ) AS newest ORDER BY version
       ), version
FROM promo_codes WHERE creator_id = ANY(%s) ORDER BY created_at, id
"""
CHECKOUTS: Final = """
SELECT creator_id::text, subscription_id::text, promo_id::text, instrument, released, version
FROM promo_redemptions JOIN unnest(%s::uuid[], %s::uuid[]) AS named (creator, name)
     ON creator_id = creator AND subscription_id = name
"""
INSTRUMENTS: Final = """
SELECT creator_id::text, subscription_id::text, promo_id::text, promo_redemptions.instrument, released, version
FROM promo_redemptions JOIN unnest(%s::uuid[], %s::text[]) AS named (creator, instrument)
     ON creator_id = creator AND promo_redemptions.instrument = named.instrument
ORDER BY released DESC, version
"""


def shops(conn: Connection, creator_ids: Sequence[str]) -> Mapping[str, Shop]:
    """Only creators who ever sold something."""
    ids = [UUID(text) for text in creator_ids]
    tiers: dict[str, list[Tier]] = {}
    promos: dict[str, list[PromoCode]] = {}
    versions: dict[str, int] = {}
    for row in conn.execute(TIERS, (ids,)).fetchall():
        creator = row[0]
        tiers.setdefault(creator, []).append(_tier(row[1:-1]))
        versions[creator] = max(versions.get(creator, 0), row[-1])
    for row in conn.execute(PROMOS, (ids,)).fetchall():
        creator = row[0]
        promos.setdefault(creator, []).append(_promo(row[1:-1]))
        versions[creator] = max(versions.get(creator, 0), row[-1])
    return {
        creator: Shop(
            creator_id=creator, version=version, tiers=tuple(tiers.get(creator, ())),
            promo_codes=tuple(promos.get(creator, ())),
        )
        for creator, version in versions.items()
    }


def owners(conn: Connection, tier_ids: Sequence[str]) -> Mapping[str, str]:
    """Tier -> creator; only those that exist."""
    ids = [UUID(text) for text in tier_ids]
    return dict(conn.execute("SELECT id::text, creator_id::text FROM subscription_tiers WHERE id = ANY(%s)", (ids,)).fetchall())


def _tier(row: Sequence[Any]) -> Tier:
    (
        tier_id, rank, name, currency, monthly, revision, description, yearly, benefits, trial_days, bundles, is_active,
        archived, created_at, digest,
    ) = row
    return Tier(
        tier_id=tier_id, rank=rank, name=name, currency=currency, price_monthly_minor=monthly, revision=revision,
        description=description, price_yearly_minor=yearly, benefits=tuple(benefits), trial_days=trial_days,
        bundles=msgspec.convert(bundles, tuple[Bundle, ...]), is_active=is_active, archived=archived,
        created_at=created_at.astimezone(UTC), request_digest=digest,
    )


def _promo(row: Sequence[Any]) -> PromoCode:
    promo_id, code, percent, months, tier_ids, most, expires_at, is_active, created_at, digest, redeemed, held, freed = row
    return PromoCode(
        promo_id=promo_id, code=code, percent=percent, months=months, tier_ids=tuple(tier_ids), most=most,
        expires_at=None if expires_at is None else expires_at.astimezone(UTC), is_active=is_active,
        created_at=created_at.astimezone(UTC), request_digest=digest, redeemed=redeemed, held=tuple(held), freed=tuple(freed),
    )


def offers(conn: Connection, places: Sequence[str]) -> Mapping[str, Offer]:
    """By ``checkout_key`` and ``instrument_key``; only what was ever taken. Of an instrument, who holds its trial."""
    named = [place.split("/", 2) for place in places]
    checkouts = [(creator, name) for creator, kind, name in named if kind == "s"]
    instruments = [(creator, name) for creator, kind, name in named if kind == "t"]
    found: dict[str, Offer] = {}
    if checkouts:
        for row in conn.execute(CHECKOUTS, _pairs(checkouts)).fetchall():
            found[checkout_key(row[0], row[1])] = _offer(row)
    if instruments:
        for row in conn.execute(INSTRUMENTS, _pairs(instruments)).fetchall():
            found[instrument_key(row[0], row[3])] = _offer(row)
    return found


def _pairs(named: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [creator for creator, _ in named], [name for _, name in named]


def _offer(row: Sequence[Any]) -> Offer:
    return Offer(subscription_id=row[1], promo_id=row[2], instrument=row[3], released=row[4], version=row[5])
