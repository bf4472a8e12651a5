"""Test cards: Stripe's names of payment methods, and how each behaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Authentication = Literal["never", "always", "on_setup"]


@dataclass(frozen=True, slots=True)
class Card:
    """``decline``: the code with which a charge fails. ``dispute``: a charge succeeds and is disputed at once."""

    brand: str = "visa"
    last4: str = "4242"
    decline: str | None = None
    authentication: Authentication = "never"
    dispute: bool = False
    setup_decline: str | None = None


CARDS: Final[dict[str, Card]] = {
    "pm_card_visa": Card(),
    "pm_card_mastercard": Card("mastercard", "4444"),
    "pm_card_amex": Card("amex", "8431"),
    "pm_card_chargeDeclined": Card(last4="0002", decline="generic_decline", setup_decline="generic_decline"),
    "pm_card_chargeCustomerFail": Card(last4="0341", decline="generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": Card(last4="9995", decline="insufficient_funds"),
    "pm_card_chargeDeclinedExpiredCard": Card(last4="0069", decline="expired_card"),
    "pm_card_authenticationRequired": Card(last4="3184", authentication="always"),
    "pm_card_authenticationRequiredOnSetup": Card(last4="3155", authentication="on_setup"),
    "pm_card_createDispute": Card(last4="0259", dispute=True),
}
"""Stripe's own names, so that a test says the same here and there."""
