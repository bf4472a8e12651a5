"""A code is redeemed at most as often as it says and an instrument has one trial, whatever is lost, repeated and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard

from actors.tiers.commands import (
    ChangePromo,
    ChangeTier,
    PromoChanged,
    Redeem,
    Redeemed,
    Refusal,
    Release,
    TierChange,
    TierPut,
)
from actors.tiers.state import TierMemory
from configs.contracts.events import OfferRedeemed, OfferReleased, TierChanged
from configs.contracts.ids import derived_id, new_id
from configs.contracts.loading import IdempotencyRow
from configs.contracts.tiers import Offer, Shop, checkout_key, instrument_key, offer_after, shop_after

CREATOR = new_id()
MOST = 2
CHECKOUTS = st.sampled_from([derived_id(CREATOR, f"checkout {number}") for number in range(5)])
INSTRUMENTS = st.sampled_from([None, "visa", "amex"])


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> Any:
    if "/" not in key:
        shop: Shop | None = None
        for event, version in committed:
            shop = shop_after(shop, event, version)
        requests = [
            IdempotencyRow(event.payload.idempotency_key, event.payload.body_digest, event.event_id, event.occurred_at)
            for event, _ in committed if getattr(event.payload, "idempotency_key", None) is not None
        ]
        return None if shop is None else (shop, requests)
    offer: Offer | None = None
    for event, version in committed:
        payload = event.payload
        if isinstance(payload, OfferRedeemed | OfferReleased):
            names = [checkout_key(CREATOR, payload.subscription_id)]
            names += [] if payload.instrument is None else [instrument_key(CREATOR, payload.instrument)]
            if key in names:
                offer = offer_after(offer, event, version)
    return offer


class Tiers(ShardMachine):
    @initialize()
    def open_shop(self) -> None:
        self.shard = SimulatedShard(TierMemory, rows_of)
        made = self.shard.ask(ChangeTier(
            creator_id=CREATOR, tier_id=None, scope="t", idempotency_key="tier", body_digest="1",
            change=TierChange(rank=1, name="Gold", currency="EUR", price_monthly_minor=999),
        ))
        assert isinstance(made, TierPut)
        promo = self.shard.ask(ChangePromo(
            creator_id=CREATOR, promo_id=None, code="spring", percent=50, most=MOST, scope="p", idempotency_key="promo",
            body_digest="1",
        ))
        assert isinstance(promo, PromoChanged)
        self.tier, self.promo = made.tier.tier_id, promo.promo.promo_id
        self.held: dict[str, str | None] = {}
        """Checkout -> the instrument whose trial it has."""
        self.price, self.revision = 999, 1

    @rule(checkout=CHECKOUTS, instrument=INSTRUMENTS, crash=st.booleans())
    def redeem(self, checkout: str, instrument: str | None, crash: bool) -> None:
        command = Redeem(
            creator_id=CREATOR, subscription_id=checkout, subscriber_id=new_id(), tier_id=self.tier, promo_id=self.promo,
            instrument=instrument,
        )
        again = checkout in self.held
        full = len(self.held) >= MOST
        taken = instrument is not None and instrument in self.held.values()
        answer = None if crash else self.shard.ask(command)
        if crash:
            self.shard.ask_and_crash(command)
        expected = Redeemed if again or not (full or taken) else Refusal
        assert answer is None or isinstance(answer, expected)
        if expected is Redeemed and not again:
            self.held[checkout] = instrument

    @rule(checkout=CHECKOUTS, crash=st.booleans())
    def release(self, checkout: str, crash: bool) -> None:
        command = Release(creator_id=CREATOR, subscription_id=checkout)
        if crash:
            self.shard.ask_and_crash(command)
        else:
            self.shard.ask(command)
        self.held.pop(checkout, None)

    @rule(price=st.sampled_from([999, 1_999]), crash=st.booleans())
    def change_price(self, price: int, crash: bool) -> None:
        command = ChangeTier(
            creator_id=CREATOR, tier_id=self.tier, scope="t", idempotency_key=None, body_digest="2",
            change=TierChange(price_monthly_minor=price),
        )
        if crash:
            self.shard.ask_and_crash(command)
        else:
            self.shard.ask(command)
        self.revision += price != self.price
        self.price = price

    @rule()
    def a_repeated_request_makes_no_second_tier(self) -> None:
        known = len(self.shard.log)
        answer = self.shard.ask(ChangeTier(
            creator_id=CREATOR, tier_id=None, scope="t", idempotency_key="tier", body_digest="1",
            change=TierChange(rank=1, name="Gold", currency="EUR", price_monthly_minor=999),
        ))
        assert isinstance(answer, TierPut)
        assert (answer.tier.tier_id, len(self.shard.log)) == (self.tier, known)

    @invariant()
    def the_shop_says_what_happened(self) -> None:
        if not hasattr(self, "shard"):
            return
        found = rows_of(CREATOR, self.shard.log, self.shard.now)
        shop: Shop = found[0]
        promo, tier = shop.promo(self.promo), shop.tier(self.tier)
        assert promo is not None
        assert tier is not None
        assert promo.redeemed == len(self.held) <= MOST
        assert (tier.price_monthly_minor, tier.revision) == (self.price, self.revision)
        assert all(isinstance(event.payload, TierChanged) or event.key == CREATOR for event, _ in self.shard.log)


TestTiers = Tiers.TestCase
TestTiers.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
