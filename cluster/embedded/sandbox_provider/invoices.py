"""Invoices of the sandbox: made, tried, paid, given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cluster.embedded.sandbox_provider.errors import ApiError, missing
from cluster.embedded.sandbox_provider.events import Events
from cluster.embedded.sandbox_provider.payments import DAY_S, Payments
from cluster.embedded.sandbox_provider.store import Document, Store

RETRY_DAYS: Final = (1, 2, 4)
"""Days between tries to collect a renewal; after the last one the subscription is canceled."""


@dataclass(frozen=True, slots=True)
class Line:
    price: Document
    amount: int
    start: int
    end: int
    proration: bool = False


class Invoices:
    def __init__(self, store: Store, events: Events, payments: Payments) -> None:
        self._store = store
        self._events = events
        self._payments = payments

    def make(self, subscription: Document, reason: str, lines: list[Line], *, percent_off: float = 0.0) -> Document:
        """A finalized invoice with its payment, not tried yet. Of 0 it is paid at once."""
        now = self._store.now()
        made_id = self._store.fresh("in")
        subtotal = sum(line.amount for line in lines)
        discount = int(subtotal * percent_off / 100) if subtotal > 0 else 0
        customer = self._payments.customer(subscription["customer"])
        total = subtotal - discount
        # Credit of earlier prorations is used up first; what is negative becomes credit.
        applied = max(customer["balance"], -total) if total > 0 else 0
        due = max(0, total + applied)
        if total < 0 or applied:
            self._store.save(customer | {"balance": customer["balance"] + min(total, 0) - applied})
        invoice: Document = {
            "id": made_id, "object": "invoice", "amount_due": due, "amount_paid": 0, "amount_remaining": due, "attempt_count": 0,
            "attempted": False, "auto_advance": True, "billing_reason": reason, "collection_method": "charge_automatically",
            "created": now, "currency": subscription["currency"], "customer": subscription["customer"],
            "default_payment_method": None, "ending_balance": None,
            "lines": {"object": "list", "has_more": False, "url": f"/v1/invoices/{made_id}/lines", "data": [
                self._line(subscription, made_id, line) for line in lines
            ]},
            "livemode": False, "metadata": {}, "next_payment_attempt": None, "number": made_id[-8:].upper(),
            "parent": {"type": "subscription_details", "quote_details": None, "subscription_details": {
                "metadata": dict(subscription["metadata"]), "subscription": subscription["id"], "subscription_proration_date": None,
            }},
            "period_start": lines[0].start, "period_end": now, "starting_balance": customer["balance"], "status": "open",
            "status_transitions": {"finalized_at": now, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None},
            "subtotal": subtotal, "total": total,
            "total_discount_amounts": [{"amount": discount, "discount": "di_sandbox"}] if discount else [],
            "_payment": None,
        }
        self._store.add(invoice)
        if due:
            percent = subscription["application_fee_percent"]
            intent = self._payments.create_intent(
                {
                    "amount": due, "currency": subscription["currency"], "customer": subscription["customer"],
                    "payment_method": subscription["default_payment_method"],
                    **({"application_fee_amount": int(due * percent / 100)} if percent is not None else {}),
                    **({"transfer_data": {"destination": subscription["transfer_data"]["destination"]}} if subscription["transfer_data"] else {}),
                },
                invoice_id=made_id,
            )
            invoice["_payment"] = self._store.add({
                "id": self._store.fresh("inpay"), "object": "invoice_payment", "amount_paid": None, "amount_requested": due,
                "created": now, "currency": subscription["currency"], "invoice": made_id, "is_default": True, "livemode": False,
                "payment": {"type": "payment_intent", "payment_intent": intent["id"]}, "status": "open",
                "status_transitions": {"canceled_at": None, "paid_at": None},
            })["id"]
            self._store.save(invoice)
        self._events.emit("invoice.created", invoice)
        self._events.emit("invoice.finalized", invoice)
        if not due:
            self.settle(invoice)
        return invoice

    def _line(self, subscription: Document, invoice_id: str, line: Line) -> Document:
        return {
            "id": self._store.fresh("il"), "object": "line_item", "amount": line.amount, "currency": line.price["currency"],
            "description": None, "discount_amounts": [], "invoice": invoice_id, "livemode": False, "metadata": {},
            "parent": {"type": "subscription_item_details", "invoice_item_details": None, "subscription_item_details": {
                "invoice_item": None, "proration": line.proration, "proration_details": None, "subscription": subscription["id"],
                "subscription_item": subscription["items"]["data"][0]["id"],
            }},
            "period": {"start": line.start, "end": line.end},
            "pricing": {"type": "price_details", "price_details": {"price": line.price["id"], "product": line.price["product"]}},
            "quantity": 1, "subtotal": line.amount,
        }

    def get(self, object_id: str) -> Document:
        found = self._store.get(object_id, "invoice")
        if found is None:
            raise missing("invoice", object_id, "invoice")
        return found

    def intent_of(self, invoice: Document) -> Document | None:
        payment = self._store.get(invoice["_payment"] or "", "invoice_payment")
        return None if payment is None else self._payments.intent(payment["payment"]["payment_intent"])

    def collect(self, invoice_id: str, *, off_session: bool, first_failure: int | None = None) -> Document:
        """One try. ``first_failure``: when the first of this invoice failed, where more are to follow."""
        invoice = self.get(invoice_id)
        intent = self.intent_of(invoice)
        if invoice["status"] != "open" or intent is None:
            return invoice
        if intent["status"] not in ("requires_confirmation", "requires_payment_method"):
            return invoice
        subscription = self._store.get(invoice["parent"]["subscription_details"]["subscription"], "subscription")
        assert subscription is not None
        intent["payment_method"] = subscription["default_payment_method"]
        self._payments.attempt(intent, off_session=off_session)
        invoice = self.get(invoice_id)
        if invoice["status"] == "paid":
            return invoice
        invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1, "next_payment_attempt": None}
        if first_failure is not None and invoice["attempt_count"] <= len(RETRY_DAYS):
            invoice["next_payment_attempt"] = self._store.now() + RETRY_DAYS[invoice["attempt_count"] - 1] * DAY_S
        self._store.save(invoice)
        needs_action = intent["status"] == "requires_action" or (intent["last_payment_error"] or {}).get("code") == "authentication_required"
        if needs_action:
            self._events.emit("invoice.payment_action_required", invoice)
        if intent["status"] != "requires_action":
            self._events.emit("invoice.payment_failed", invoice)
        return invoice

    def pay(self, object_id: str) -> Document:
        """A try that the platform asks for."""
        invoice = self.collect(object_id, off_session=False)
        intent = self.intent_of(invoice)
        if invoice["status"] != "paid" and intent is not None:
            self._payments.raise_if_declined(intent)
            raise ApiError("The invoice needs authentication.", status=402, kind="card_error", code="invoice_payment_intent_requires_action", kept=True)
        return invoice

    def settle(self, invoice: Document) -> Document:
        """The invoice is paid, by its payment or because nothing was due."""
        now = self._store.now()
        before = dict(invoice)
        invoice |= {
            "status": "paid", "amount_paid": invoice["amount_due"], "amount_remaining": 0, "attempted": True,
            "next_payment_attempt": None, "attempt_count": invoice["attempt_count"] + (1 if invoice["amount_due"] else 0),
        }
        invoice["status_transitions"] = invoice["status_transitions"] | {"paid_at": now}
        self._store.save(invoice)
        payment = self._store.get(invoice["_payment"] or "", "invoice_payment")
        if payment is not None:
            payment |= {"status": "paid", "amount_paid": invoice["amount_paid"]}
            self._store.save(payment)
            self._events.emit("invoice_payment.paid", payment)
        self._events.emit("invoice.paid", invoice, before=before)
        self._events.emit("invoice.payment_succeeded", invoice, before=before)
        return invoice

    def give_up(self, object_id: str) -> Document:
        """As the platform asks: nobody pays it any more."""
        if self.get(object_id)["status"] != "open":
            raise ApiError("This invoice is not open: it cannot be voided.", param="invoice")
        self.void(object_id)
        return self.get(object_id)

    def void(self, invoice_id: str) -> None:
        invoice = self._store.get(invoice_id, "invoice")
        if invoice is None or invoice["status"] != "open":
            return
        intent = self.intent_of(invoice)
        if intent is not None and intent["status"] not in ("succeeded", "canceled"):
            self._payments.cancel_intent(intent["id"])
        invoice |= {"status": "void", "next_payment_attempt": None}
        invoice["status_transitions"] = invoice["status_transitions"] | {"voided_at": self._store.now()}
        self._store.save(invoice)
        self._events.emit("invoice.voided", invoice)
