"""tier_changed, promo_code_changed -> subscription_tiers, promo_codes; offer_redeemed, offer_released -> promo_redemptions.

A code's count moves with its redemptions, in the same statement's transaction: each checkout counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from configs.contracts.events import OfferRedeemed, OfferReleased, PromoCodeChanged, TierChanged
from configs.contracts.tiers import Offer, PromoCode, Tier, offer_after, promo_after, tier_after
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

TIERS = """
INSERT INTO subscription_tiers AS stored
    (creator_id, id, rank, name, description, currency, price_monthly, price_yearly, benefits, trial_days, bundles,
     revision, is_active, archived, created_at, request_digest, version)
SELECT creator_id, id, rank, name, description, currency, price_monthly, price_yearly, benefits::jsonb, trial_days,
       bundles::jsonb, revision, is_active, archived, created_at, request_digest, version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch
    (creator_id, id, rank, name, description, currency, price_monthly, price_yearly, benefits, trial_days, bundles,
     revision, is_active, archived, created_at, request_digest, version)
ON CONFLICT (creator_id, id) DO UPDATE
SET rank = excluded.rank, name = excluded.name, description = excluded.description, currency = excluded.currency,
    price_monthly = excluded.price_monthly, price_yearly = excluded.price_yearly, benefits = excluded.benefits,
    trial_days = excluded.trial_days, bundles = excluded.bundles, revision = excluded.revision,
    is_active = excluded.is_active, archived = excluded.archived, version = excluded.version
WHERE stored.version < excluded.version
"""
PROMOS = """
INSERT INTO promo_codes AS stored
    (creator_id, id, code, percent, months, tier_ids, most, expires_at, is_active, created_at, request_digest, version)
SELECT creator_id, id, code, percent, months, tier_ids::jsonb, most, expires_at, is_active, created_at, request_digest,
       version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch
    (creator_id, id, code, percent, months, tier_ids, most, expires_at, is_active, created_at, request_digest, version)
ON CONFLICT (creator_id, id) DO UPDATE
SET code = excluded.code, most = excluded.most, expires_at = excluded.expires_at, is_active = excluded.is_active, version = excluded.version
WHERE stored.version < excluded.version
"""
TAKEN = """
SELECT creator_id::text, subscription_id::text, subscriber_id::text, promo_id::text, instrument, redeemed_at, released,
       version
FROM promo_redemptions JOIN unnest(%s, %s) AS named (creator, name) ON creator_id = creator AND subscription_id = name
ORDER BY creator_id, subscription_id FOR UPDATE
"""
TAKE = """
INSERT INTO promo_redemptions
    (creator_id, subscription_id, subscriber_id, promo_id, instrument, redeemed_at, released, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (creator_id, subscription_id) DO UPDATE
SET promo_id = excluded.promo_id, instrument = excluded.instrument, redeemed_at = excluded.redeemed_at,
    released = excluded.released, version = excluded.version
"""
COUNT = """
UPDATE promo_codes AS stored
SET redeemed = greatest(0, redeemed + step), version = greatest(stored.version, batch.version)
FROM unnest(%s, %s, %s, %s) AS batch (creator_id, id, step, version)
WHERE stored.creator_id = batch.creator_id AND stored.id = batch.id
"""
Place = tuple[str, str]
"""(creator, tier, code or checkout)"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    return _tiers(cur, facts) + _promos(cur, facts) + _offers(cur, facts)


def _tiers(cur: Cursor, facts: Iterable[Fact]) -> int:
    changed: dict[Place, tuple[Tier, int]] = {}
    for event, version, _ in facts:
        payload = event.payload
        if isinstance(payload, TierChanged):
            place = (payload.creator_id, payload.tier_id)
            before = changed.get(place)
            changed[place] = (tier_after(None if before is None else before[0], event), version)
    if changed:
        tiers = [tier for tier, _ in changed.values()]
        cur.execute(TIERS, (
            columns.uuids([creator for creator, _ in changed]),
            columns.uuids([tier.tier_id for tier in tiers]),
            columns.integers([tier.rank for tier in tiers]),
            columns.texts(tier.name for tier in tiers),
            columns.texts(tier.description for tier in tiers),
            columns.texts(tier.currency for tier in tiers),
            columns.bigints([tier.price_monthly_minor for tier in tiers]),
            columns.nullable_bigints(tier.price_yearly_minor for tier in tiers),
            columns.texts(msgspec.json.encode(tier.benefits).decode() for tier in tiers),
            columns.integers([tier.trial_days for tier in tiers]),
            columns.texts(msgspec.json.encode(tier.bundles).decode() for tier in tiers),
            columns.integers([tier.revision for tier in tiers]),
            columns.booleans([tier.is_active for tier in tiers]),
            columns.booleans([tier.archived for tier in tiers]),
            columns.timestamps([tier.created_at for tier in tiers]),
            columns.texts(tier.request_digest for tier in tiers),
            columns.bigints([version for _, version in changed.values()]),
        ))
    return len(changed)


def _promos(cur: Cursor, facts: Iterable[Fact]) -> int:
    changed: dict[Place, tuple[PromoCode, int]] = {}
    for event, version, _ in facts:
        payload = event.payload
        if isinstance(payload, PromoCodeChanged):
            place = (payload.creator_id, payload.promo_id)
            before = changed.get(place)
            changed[place] = (promo_after(None if before is None else before[0], event), version)
    if changed:
        promos = [promo for promo, _ in changed.values()]
        cur.execute(PROMOS, (
            columns.uuids([creator for creator, _ in changed]),
            columns.uuids([promo.promo_id for promo in promos]),
            columns.texts(promo.code for promo in promos),
            columns.integers([promo.percent for promo in promos]),
            columns.nullable_bigints(promo.months for promo in promos),
            columns.texts(msgspec.json.encode(promo.tier_ids).decode() for promo in promos),
            columns.nullable_bigints(promo.most for promo in promos),
            columns.timestamps([promo.expires_at for promo in promos]),
            columns.booleans([promo.is_active for promo in promos]),
            columns.timestamps([promo.created_at for promo in promos]),
            columns.texts(promo.request_digest for promo in promos),
            columns.bigints([version for _, version in changed.values()]),
        ))
    return len(changed)


def _offers(cur: Cursor, facts: Sequence[Fact]) -> int:
    offers = [fact for fact in facts if isinstance(fact.event.payload, OfferRedeemed | OfferReleased)]
    if not offers:
        return 0
    places = sorted({(fact.event.payload.creator_id, fact.event.payload.subscription_id) for fact in offers})
    rows = cur.execute(TAKEN, (
        columns.uuids([creator for creator, _ in places]), columns.uuids([name for _, name in places])
    )).fetchall()
    held: dict[Place, Offer] = {}
    facts_of: dict[Place, tuple[str, object]] = {}
    """(subscriber, time of the redemption)"""
    for creator, name, subscriber, promo_id, instrument, redeemed_at, released, version in rows:
        held[creator, name] = Offer(
            subscription_id=name, promo_id=promo_id, instrument=instrument, released=released, version=version
        )
        facts_of[creator, name] = (subscriber, redeemed_at)
    changed: dict[Place, Offer] = {}
    steps: Counter[Place] = Counter()
    versions: dict[Place, int] = {}
    for event, version, _ in offers:
        payload = event.payload
        place = (payload.creator_id, payload.subscription_id)
        before = held.get(place)
        after = offer_after(before, event, version)
        if after is None or after is before:
            continue
        held[place] = changed[place] = after
        if isinstance(payload, OfferRedeemed):
            facts_of[place] = (payload.subscriber_id, event.occurred_at)
        if after.promo_id is not None and (before is None or before.released != after.released):
            promo = (payload.creator_id, after.promo_id)
            steps[promo] += -1 if after.released else 1
            versions[promo] = version
    if changed:
        cur.execute(TAKE, (
            columns.uuids([creator for creator, _ in changed]),
            columns.uuids([name for _, name in changed]),
            columns.uuids([facts_of[place][0] for place in changed]),
            columns.uuids([offer.promo_id for offer in changed.values()]),
            columns.texts(offer.instrument for offer in changed.values()),
            columns.timestamps([facts_of[place][1] for place in changed]),  # type: ignore[misc]
            columns.booleans([offer.released for offer in changed.values()]),
            columns.bigints([offer.version for offer in changed.values()]),
        ))
    if versions:
        cur.execute(COUNT, (
            columns.uuids([creator for creator, _ in versions]),
            columns.uuids([promo for _, promo in versions]),
            columns.bigints([steps[place] for place in versions]),
            columns.bigints(list(versions.values())),
        ))
    return len(changed)


SINK = Sink("tiers", (TierChanged, PromoCodeChanged, OfferRedeemed, OfferReleased), write)
