"""What creators sell: pure decisions on tiers, promo codes, redemptions and trials, rebuilt from rows and the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec

from actors.entries import Entries
from actors.folded import Folded
from actors.idempotency import Remembered, Requests, request_key
from actors.sharding.memory import Append, Decision
from actors.tiers.commands import (
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
from configs.contracts.events import Event, OfferRedeemed, OfferReleased, PromoCodeChanged, TierChanged
from configs.contracts.ids import derived_id, new_id
from configs.contracts.tiers import (
    ACTIVE_TIERS,
    PROMO_CODES,
    TIERS,
    Offer,
    PromoCode,
    Shop,
    Tier,
    checkout_key,
    instrument_key,
    is_wordless,
    offer_after,
    shop_after,
)
from configs.contracts.topics import TIER_CHANGED

TierCommand = ChangeTier | ChangePromo | Redeem | Release
TierAnswer = (
    TierPut | PromoChanged | Redeemed | Released | Refusal | Unknown | TooMany | CurrencyFixed | RankFixed | CodeTaken
    | IdempotencyConflict
)


class Seller:
    """One creator's shop, and the requests that changed it."""

    __slots__ = ("requests", "shop")

    def __init__(self) -> None:
        self.shop: Folded[Shop] = Folded(shop_after)
        self.requests = Requests()


def _offer() -> Folded[Offer]:
    return Folded(offer_after)


class TierMemory:
    """Shops, and offers by checkout and by instrument, in memory. Keys of both begin with the creator's id."""

    def __init__(self) -> None:
        self._sellers: Entries[Seller] = Entries(Seller)
        self._offers: Entries[Folded[Offer]] = Entries(_offer)

    def needs(self, command: TierCommand) -> Sequence[str]:
        keys = [command.creator_id]
        if isinstance(command, Redeem | Release):
            keys.append(checkout_key(command.creator_id, command.subscription_id))
        if isinstance(command, Redeem) and command.instrument is not None:
            keys.append(instrument_key(command.creator_id, command.instrument))
        return keys

    def known(self, key: str) -> bool:
        if "/" in key:
            offer = self._offers.get(key)
            return offer is not None and offer.loaded
        seller = self._sellers.get(key)
        return seller is not None and seller.shop.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges (``Shop`` or None, remembered requests) of a creator, an ``Offer`` of another key; None: there is none."""
        if "/" in key:
            self._offers.use(key).load(row if isinstance(row, Offer) else None)
            return
        seller = self._sellers.use(key)
        shop, requests = row if isinstance(row, tuple) else (None, ())
        seller.requests.merge(requests)
        seller.shop.load(shop)

    def conflict_key(self, command: TierCommand) -> str:
        return command.creator_id

    def decide(self, command: TierCommand, now: datetime) -> Decision[TierAnswer]:
        seller = self._sellers.get(command.creator_id) or Seller()
        shop = seller.shop.row or Shop(creator_id=command.creator_id, version=0)
        if isinstance(command, Redeem):
            return self._redeem(command, shop, now)
        if isinstance(command, Release):
            return self._release(command, shop, now)
        request = None if command.idempotency_key is None else request_key(command.scope, command.idempotency_key)
        found = None if request is None else seller.requests.find(request, now)
        if found is not None and found.body_digest != command.body_digest:
            return _answer(IdempotencyConflict())
        if isinstance(command, ChangeTier):
            return _change_tier(command, shop, now, request, found)
        return _change_promo(command, shop, now, request, found)

    def _redeem(self, command: Redeem, shop: Shop, now: datetime) -> Decision[TierAnswer]:
        """The creator's turn counts: two checkouts never take the last redemption, nor one instrument two trials."""
        taken = self._offers.get(checkout_key(command.creator_id, command.subscription_id))
        if taken is not None and taken.row is not None and not taken.row.released:
            return _answer(Redeemed(None))
        if command.promo_id is not None:
            promo = shop.promo(command.promo_id)
            refused = "promo_code_invalid" if promo is None else promo.refusal(command.tier_id, now)
            if refused is not None:
                return _answer(Refusal(refused))
        if command.instrument is not None:
            trial = self._offers.get(instrument_key(command.creator_id, command.instrument))
            if trial is not None and trial.row is not None and not trial.row.released:
                return _answer(Refusal("trial_used"))
        payload = OfferRedeemed(
            creator_id=command.creator_id, subscription_id=command.subscription_id, subscriber_id=command.subscriber_id,
            promo_id=command.promo_id, instrument=command.instrument,
        )
        event = Event(new_id(), now, command.creator_id, payload)
        return _decided(event, lambda version: Redeemed(shop_after(shop, event, version)))

    def _release(self, command: Release, shop: Shop, now: datetime) -> Decision[TierAnswer]:
        taken = self._offers.get(checkout_key(command.creator_id, command.subscription_id))
        row = None if taken is None else taken.row
        if row is None or row.released:
            return _answer(Released(None))
        payload = OfferReleased(
            creator_id=command.creator_id, subscription_id=command.subscription_id, promo_id=row.promo_id,
            instrument=row.instrument,
        )
        event = Event(derived_id(command.subscription_id, f"released:{row.version}"), now, command.creator_id, payload)
        return _decided(event, lambda version: Released(shop_after(shop, event, version)))

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if isinstance(payload, TierChanged | PromoCodeChanged):
            seller = self._sellers.use(payload.creator_id)
            seller.shop.take(event, version)
            if seller.shop.loaded and is_wordless(payload):
                seller.shop.forget_history()
            if payload.idempotency_key is not None:
                seller.requests.remember(
                    payload.idempotency_key, Remembered(payload.body_digest or "", event.event_id, event.occurred_at)
                )
        elif isinstance(payload, OfferRedeemed | OfferReleased):
            self._sellers.use(payload.creator_id).shop.take(event, version)
            self._offers.use(checkout_key(payload.creator_id, payload.subscription_id)).take(event, version)
            if payload.instrument is not None:
                self._offers.use(instrument_key(payload.creator_id, payload.instrument)).take(event, version)

    def entries(self) -> int:
        return len(self._sellers) + len(self._offers)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """Offers first: a creator's shop is needed by every checkout."""
        kept = max(0, limit - len(self._sellers))
        gone = self._offers.evict(kept, lambda key, offer: offer.newest < committed(key[:36]))
        return gone + self._sellers.evict(limit, lambda key, seller: seller.shop.newest < committed(key))


def _change_tier(
    command: ChangeTier, shop: Shop, now: datetime, request: str | None, found: Remembered | None
) -> Decision[TierAnswer]:
    tier_id = command.tier_id if found is None or command.tier_id is not None else found.event_id
    tier = None if tier_id is None else shop.tier(tier_id)
    if found is not None and tier is not None:
        return _answer(TierPut(shop, tier))
    if command.tier_id is not None and (tier is None or tier.archived):
        return _answer(TierPut(shop, tier) if tier is not None and command.change.archived else Unknown())
    if tier is not None and command.change.rank not in (None, tier.rank):
        return _answer(RankFixed(tier.rank))
    event_id = new_id()
    payload = _changed(command, tier, event_id, request)
    if shop.currency is not None and payload.currency != shop.currency:
        return _answer(CurrencyFixed(shop.currency))
    for_sale = [known for known in shop.tiers if known.for_sale and known.tier_id != payload.tier_id]
    if (tier is None and len(shop.tiers) >= TIERS) or (
        payload.is_active and not payload.archived and len(for_sale) >= ACTIVE_TIERS
    ):
        return _answer(TooMany())
    event = Event(event_id, now, command.creator_id, payload)

    def answer(version: int) -> TierAnswer:
        after = shop_after(shop, event, version)
        made = None if after is None else after.tier(payload.tier_id)
        assert after is not None
        assert made is not None
        return TierPut(after, made)

    return _decided(event, answer)


def _changed(command: ChangeTier, tier: Tier | None, event_id: str, request: str | None) -> TierChanged:
    """The whole tier as it becomes; a tier's id is that of the event that made it."""
    sent = {
        item.name: value for item in fields(command.change) if (value := getattr(command.change, item.name)) is not None
    }
    if sent.get("price_yearly_minor") == 0:
        sent["price_yearly_minor"] = None
    before: dict[str, Any] = {} if tier is None else {
        name: value for name, value in msgspec.structs.asdict(tier).items()
        if name in TierChanged.__struct_fields__ and name != "tier_id"
    }
    after = before | sent
    prices = ("price_monthly_minor", "price_yearly_minor")
    changed = tier is not None and any(after.get(name) != before.get(name) for name in prices)
    after["revision"] = 1 if tier is None else tier.revision + changed
    return TierChanged(
        creator_id=command.creator_id, tier_id=event_id if tier is None else tier.tier_id, idempotency_key=request,
        body_digest=command.body_digest, **after,
    )


def _change_promo(
    command: ChangePromo, shop: Shop, now: datetime, request: str | None, found: Remembered | None
) -> Decision[TierAnswer]:
    promo_id = command.promo_id if found is None or command.promo_id is not None else found.event_id
    promo = None if promo_id is None else shop.promo(promo_id)
    if found is not None and promo is not None:
        return _answer(PromoChanged(shop, promo))
    event_id = new_id()
    if command.promo_id is None:
        known = shop.promo_of_code(command.code)
        if known is not None and known.is_active and (known.expires_at is None or known.expires_at > now):
            return _answer(CodeTaken())
        if any(shop.tier(tier_id) is None for tier_id in command.tier_ids):
            return _answer(Unknown())
        if len(shop.promo_codes) >= PROMO_CODES:
            return _answer(TooMany())
        payload = PromoCodeChanged(
            creator_id=command.creator_id, promo_id=event_id, code=command.code.upper(), percent=command.percent,
            months=command.months, tier_ids=command.tier_ids, most=command.most, expires_at=command.expires_at,
            idempotency_key=request, body_digest=command.body_digest,
        )
    elif promo is None:
        return _answer(Unknown())
    else:
        payload = _changed_promo(command, promo, request)
    event = Event(event_id, now, command.creator_id, payload)

    def answer(version: int) -> TierAnswer:
        after = shop_after(shop, event, version)
        made = None if after is None else after.promo(payload.promo_id)
        assert after is not None
        assert made is not None
        return PromoChanged(after, made)

    return _decided(event, answer)


def _changed_promo(command: ChangePromo, promo: PromoCode, request: str | None) -> PromoCodeChanged:
    return PromoCodeChanged(
        creator_id=command.creator_id, promo_id=promo.promo_id, code=promo.code, percent=promo.percent,
        months=promo.months, tier_ids=promo.tier_ids, most=promo.most if command.most is None else command.most,
        expires_at=promo.expires_at if command.expires_at is None else command.expires_at,
        is_active=promo.is_active if command.is_active is None else command.is_active, idempotency_key=request,
        body_digest=command.body_digest,
    )


def _answer(answer: TierAnswer) -> Decision[TierAnswer]:
    return Decision((), lambda versions: answer)


def _decided(event: Event, answer: Callable[[int], TierAnswer]) -> Decision[TierAnswer]:
    return Decision((Append(TIER_CHANGED, event.key, event),), lambda versions: answer(versions[0]))
