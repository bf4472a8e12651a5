"""Customers, cards and payments of the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cluster.embedded.sandbox_provider.cards import CARDS, Card
from cluster.embedded.sandbox_provider.errors import ApiError, missing
from cluster.embedded.sandbox_provider.events import Events, public
from cluster.embedded.sandbox_provider.store import Document, Store

DAY_S: Final = 86_400
SETTLING_S: Final = 2 * DAY_S
"""Until a charge's money is available."""
SMALLEST: Final = 1
LARGEST: Final = 99_999_999
"""Stripe's limit of eight digits."""


class Payments:
    """``paid`` is told of every payment that succeeded for an invoice, ``disputed`` of a charge that its bank disputes."""

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events
        self.paid: Callable[[str, Document], None] = lambda invoice_id, intent: None
        self.disputed: Callable[[Document], None] = lambda charge: None

    # -- customers and cards

    def create_customer(self, p: Document) -> Document:
        customer = self._store.add({
            "id": self._store.fresh("cus"), "object": "customer", "balance": 0, "created": self._store.now(),
            "email": p.get("email"), "livemode": False, "metadata": p.get("metadata", {}), "name": p.get("name"),
        })
        self._events.emit("customer.created", customer)
        return customer

    def customer(self, object_id: str) -> Document:
        found = self._store.get(object_id, "customer")
        if found is None:
            raise missing("customer", object_id, "customer")
        return found

    def method(self, object_id: str, customer_id: str | None, param: str = "payment_method") -> Document:
        """The customer's card. Raises ApiError: none, or somebody else's."""
        found = self._store.get(object_id, "payment_method")
        if found is None:
            raise missing("PaymentMethod", object_id, param)
        if found["customer"] is None or found["customer"] != customer_id:
            raise ApiError(
                "The PaymentMethod does not belong to the Customer that was given. Attach it first.", param=param,
                code="payment_method_unexpected_state",
            )
        return found

    def attach(self, name: str, customer_id: str) -> Document:
        """A card of the customer, made of a test card's name or of one that stands alone."""
        known = CARDS.get(name)
        if known is None:
            return self.method(name, customer_id)
        made = self._store.add({
            "id": self._store.fresh("pm"), "object": "payment_method", "allow_redisplay": "unspecified",
            "card": {
                "brand": known.brand, "country": "US", "exp_month": 12, "exp_year": 2040, "fingerprint": f"fp_{known.brand}_{known.last4}",
                "funding": "credit", "last4": known.last4,
            },
            "created": self._store.now(), "customer": customer_id, "livemode": False, "metadata": {}, "type": "card", "_card": name,
        })
        self._events.emit("payment_method.attached", made)
        return made

    def detach(self, object_id: str) -> Document:
        found = self._store.get(object_id, "payment_method")
        if found is None or found["customer"] is None:
            raise missing("PaymentMethod", object_id, "payment_method")
        self._store.save(found | {"customer": None})
        self._events.emit("payment_method.detached", found | {"customer": None}, before=found)
        return found | {"customer": None}

    def card_of(self, method: Document) -> Card:
        return CARDS[method["_card"]]

    def behave(self, method_id: str, name: str) -> Document:
        """From now on the saved card behaves like another test card."""
        found = self._store.get(method_id, "payment_method")
        if found is None or name not in CARDS:
            raise missing("PaymentMethod", method_id)
        card = found["card"] | ({"exp_year": 2020} if CARDS[name].decline == "expired_card" else {})
        return self._store.save(found | {"_card": name, "card": card})

    def create_setup(self, p: Document) -> Document:
        customer = self.customer(p["customer"]) if "customer" in p else None
        made_id = self._store.fresh("seti")
        intent = self._store.add({
            "id": made_id, "object": "setup_intent", "client_secret": f"{made_id}_secret_{self._store.fresh('s')[2:]}",
            "created": self._store.now(), "customer": customer["id"] if customer else None, "last_setup_error": None,
            "livemode": False, "metadata": p.get("metadata", {}), "next_action": None, "payment_method": None,
            "status": "requires_payment_method", "usage": p.get("usage", "off_session"),
        })
        self._events.emit("setup_intent.created", intent)
        return intent

    def confirm_setup(self, object_id: str, p: Document) -> Document:
        intent = self._store.get(object_id, "setup_intent")
        if intent is None:
            raise missing("setupintent", object_id, "intent")
        if intent["status"] == "succeeded" or "payment_method" not in p or not intent["customer"]:
            raise ApiError("This SetupIntent cannot be confirmed now.", code="setup_intent_unexpected_state")
        known = CARDS.get(p["payment_method"])
        if known is None:
            raise missing("PaymentMethod", p["payment_method"], "payment_method")
        if known.setup_decline is not None:
            raise ApiError(
                "Your card was declined.", status=402, kind="card_error", code="card_declined", decline_code=known.setup_decline,
                param="", kept=True, setup_intent=public(intent),
            )
        method = self.attach(p["payment_method"], intent["customer"])
        # The holder is there while a card is saved: the sandbox takes their authentication for given.
        intent |= {"status": "succeeded", "payment_method": method["id"]}
        self._store.save(intent)
        self._events.emit("setup_intent.succeeded", intent)
        return intent

    # -- payments

    def create_intent(self, p: Document, *, invoice_id: str | None = None) -> Document:
        if not SMALLEST <= p["amount"] <= LARGEST:
            raise ApiError(f"Invalid amount: {p['amount']}", code="amount_too_small" if p["amount"] < SMALLEST else "amount_too_large", param="amount")
        fee = p.get("application_fee_amount")
        if fee is not None and (not 0 <= fee <= p["amount"] or "transfer_data" not in p):
            raise ApiError("The application fee is wrong for this payment.", param="application_fee_amount")
        if "transfer_data" in p:
            self.destination(p["transfer_data"]["destination"])
        if "customer" in p:
            self.customer(p["customer"])
        method = self.method(p["payment_method"], p.get("customer")) if "payment_method" in p else None
        made_id = self._store.fresh("pi")
        intent = self._store.add({
            "id": made_id, "object": "payment_intent", "amount": p["amount"], "amount_received": 0,
            "application_fee_amount": fee, "canceled_at": None, "cancellation_reason": None,
            "client_secret": f"{made_id}_secret_{self._store.fresh('s')[2:]}", "confirmation_method": "automatic",
            "created": self._store.now(), "currency": p["currency"].lower(), "customer": p.get("customer"),
            "description": p.get("description"), "last_payment_error": None, "latest_charge": None, "livemode": False,
            "metadata": p.get("metadata", {}), "next_action": None, "payment_method": method["id"] if method else None,
            "status": "requires_confirmation" if method else "requires_payment_method",
            "transfer_data": p.get("transfer_data"), "_invoice": invoice_id, "_authenticated": False,
        })
        self._events.emit("payment_intent.created", intent)
        if p.get("confirm"):
            self.attempt(intent, off_session=bool(p.get("off_session")))
            self.raise_if_declined(intent)
        return intent

    def destination(self, account_id: str) -> Document:
        account = self._store.get(account_id, "account")
        if account is None:
            raise ApiError(f"No such destination: '{account_id}'", code="resource_missing", param="transfer_data[destination]")
        if not account["charges_enabled"]:
            raise ApiError(
                "Your destination account needs to have at least one of the following capabilities enabled: transfers",
                code="insufficient_capabilities_for_transfer",
            )
        return account

    def intent(self, object_id: str) -> Document:
        found = self._store.get(object_id, "payment_intent")
        if found is None:
            raise missing("payment_intent", object_id, "intent")
        return found

    def confirm_intent(self, object_id: str, p: Document) -> Document:
        intent = self.intent(object_id)
        if intent["status"] not in ("requires_confirmation", "requires_payment_method"):
            raise ApiError("This PaymentIntent cannot be confirmed now.", code="payment_intent_unexpected_state", payment_intent=public(intent))
        if "payment_method" in p:
            if p["payment_method"] in CARDS and intent["customer"]:
                intent["payment_method"] = self.attach(p["payment_method"], intent["customer"])["id"]
            else:
                intent["payment_method"] = self.method(p["payment_method"], intent["customer"])["id"]
        if intent["payment_method"] is None:
            raise ApiError("A payment method is missing.", code="payment_intent_unexpected_state")
        self.attempt(intent, off_session=False)
        self.raise_if_declined(intent)
        return intent

    def cancel_intent(self, object_id: str) -> Document:
        intent = self.intent(object_id)
        if intent["status"] in ("succeeded", "canceled"):
            raise ApiError("This PaymentIntent cannot be canceled now.", code="payment_intent_unexpected_state", payment_intent=public(intent))
        before = dict(intent)
        intent |= {"status": "canceled", "canceled_at": self._store.now(), "next_action": None}
        self._store.save(intent)
        self._events.emit("payment_intent.canceled", intent, before=before)
        return intent

    def raise_if_declined(self, intent: Document) -> None:
        failed = intent["last_payment_error"]
        if intent["status"] == "requires_payment_method" and failed is not None:
            raise ApiError(
                failed["message"], status=402, kind="card_error", code=failed["code"], decline_code=failed.get("decline_code"),
                kept=True, payment_intent=public(intent),
            )

    def attempt(self, intent: Document, *, off_session: bool) -> None:
        """One try to charge; the intent says how it went."""
        method = self._store.get(intent["payment_method"], "payment_method")
        card = None if method is None or method["customer"] is None else self.card_of(method)
        if card is None:
            self._decline(intent, "payment_method_unexpected_state", None)
        elif card.authentication == "always" and not intent["_authenticated"]:
            if off_session:
                self._decline(intent, "authentication_required", "authentication_required")
            else:
                intent |= {"status": "requires_action", "last_payment_error": None, "next_action": {
                    "type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"},
                }}
                self._store.save(intent)
                self._events.emit("payment_intent.requires_action", intent)
        elif card.decline is not None:
            self._decline(intent, "expired_card" if card.decline == "expired_card" else "card_declined", card.decline)
        else:
            self._charge(intent, dispute=card.dispute)

    def authenticate(self, client_secret: str, *, succeeds: bool) -> Document:
        """What the payer's bank says to the payer; stands in for Stripe's browser code."""
        intent = self._store.get(client_secret.partition("_secret_")[0], "payment_intent")
        if intent is None or intent["client_secret"] != client_secret or intent["status"] != "requires_action":
            raise ApiError("Nothing waits for authentication under this secret.", code="payment_intent_unexpected_state")
        intent["next_action"] = None
        if succeeds:
            intent["_authenticated"] = True
            self.attempt(intent, off_session=False)
        else:
            self._decline(intent, "payment_intent_authentication_failure", None)
        return intent

    def _decline(self, intent: Document, code: str, decline_code: str | None) -> None:
        intent |= {"status": "requires_payment_method", "next_action": None, "last_payment_error": {
            "type": "card_error", "code": code, "decline_code": decline_code, "message": "Your card was declined.",
        }}
        self._store.save(intent)
        self._events.emit("payment_intent.payment_failed", intent)

    def _charge(self, intent: Document, *, dispute: bool) -> None:
        now, amount, fee = self._store.now(), intent["amount"], intent["application_fee_amount"]
        destination = (intent["transfer_data"] or {}).get("destination")
        charge_id = self._store.fresh("ch")
        taken = min(amount, amount * 29 // 1_000 + 30)
        transaction = self._store.add({
            "id": self._store.fresh("txn"), "object": "balance_transaction", "amount": amount, "available_on": now + SETTLING_S,
            "created": now, "currency": intent["currency"], "fee": taken, "net": amount - taken, "source": charge_id, "status": "pending",
            "type": "charge",
        })
        charge: Document = {
            "id": charge_id, "object": "charge", "amount": amount, "amount_captured": amount, "amount_refunded": 0,
            "application_fee": None, "application_fee_amount": fee, "balance_transaction": transaction["id"], "captured": True,
            "created": now, "currency": intent["currency"], "customer": intent["customer"], "disputed": False, "livemode": False,
            "metadata": intent["metadata"], "paid": True, "payment_intent": intent["id"], "payment_method": intent["payment_method"],
            "refunded": False, "status": "succeeded", "transfer": None, "transfer_data": intent["transfer_data"],
        }
        if destination:
            transfer = self._store.add({
                "id": self._store.fresh("tr"), "object": "transfer", "amount": amount, "amount_reversed": 0, "created": now,
                "currency": intent["currency"], "destination": destination, "livemode": False, "metadata": {}, "reversed": False,
                "source_transaction": charge_id,
            })
            charge["transfer"] = transfer["id"]
            if fee:
                charge["application_fee"] = self._store.add({
                    "id": self._store.fresh("fee"), "object": "application_fee", "account": destination, "amount": fee,
                    "amount_refunded": 0, "charge": charge_id, "created": now, "currency": intent["currency"], "livemode": False,
                    "refunded": False,
                })["id"]
            self.credit(destination, intent["currency"], amount - (fee or 0), now + SETTLING_S)
        self._store.add(charge)
        before = dict(intent)
        intent |= {
            "status": "succeeded", "amount_received": amount, "latest_charge": charge_id, "last_payment_error": None, "next_action": None,
        }
        self._store.save(intent)
        self._events.emit("charge.succeeded", charge)
        self._events.emit("payment_intent.succeeded", intent, before=before)
        if intent["_invoice"]:
            self.paid(intent["_invoice"], intent)
        if dispute:
            self.disputed(charge)

    def credit(self, account_id: str, currency: str, amount: int, available_on: int) -> None:
        """Moves a connected account's balance."""
        self._store.add({
            "id": self._store.fresh("entry"), "object": "_entry", "amount": amount, "currency": currency, "available_on": available_on,
            "created": self._store.now(),
        }, account=account_id)
