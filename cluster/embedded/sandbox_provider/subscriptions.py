"""Subscriptions of the sandbox: trials, discounts, prorated upgrades, renewals, dunning, ends."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from cluster.embedded.sandbox_provider.catalog import Catalog
from cluster.embedded.sandbox_provider.errors import ApiError, missing
from cluster.embedded.sandbox_provider.events import Events, public
from cluster.embedded.sandbox_provider.invoices import Invoices, Line
from cluster.embedded.sandbox_provider.months import months_after, next_period
from cluster.embedded.sandbox_provider.payments import DAY_S, Payments
from cluster.embedded.sandbox_provider.store import Document, Store

INCOMPLETE_S: Final = 23 * 3_600
"""After which an unpaid first invoice, or an unpaid update, is given up."""
WITH_PENDING: Final = frozenset({
    "expand", "items", "payment_behavior", "proration_behavior", "proration_date", "billing_cycle_anchor", "trial_end",
    "trial_from_plan", "add_invoice_items", "off_session",
})
"""What an update with payment_behavior=pending_if_incomplete may carry."""
ENDED: Final = ("canceled", "incomplete_expired")


class Subscriptions:
    def __init__(self, store: Store, events: Events, payments: Payments, invoices: Invoices, catalog: Catalog) -> None:
        self._store = store
        self._events = events
        self._payments = payments
        self._invoices = invoices
        self._catalog = catalog
        payments.paid = self._paid

    def get(self, object_id: str) -> Document:
        found = self._store.get(object_id, "subscription")
        if found is None:
            raise missing("subscription", object_id)
        return found

    # -- calls

    def create(self, p: Document) -> Document:
        customer = self._payments.customer(p.get("customer", ""))
        items = p.get("items", [])
        if len(items) != 1 or "price" not in items[0]:
            raise ApiError("This sandbox takes exactly one item with a price.", param="items")
        price = self._catalog.price(items[0]["price"], "items[0][price]")
        self._one_currency(customer["id"], price["currency"])
        method = self._payments.method(p["default_payment_method"], customer["id"], "default_payment_method") if "default_payment_method" in p else None
        if "transfer_data" in p:
            self._payments.destination(p["transfer_data"]["destination"])
        if not 0 <= p.get("application_fee_percent", 0) <= 100:
            raise ApiError("Invalid application_fee_percent", param="application_fee_percent")
        now = self._store.now()
        trial_end = p.get("trial_end") or (now + p["trial_period_days"] * DAY_S if p.get("trial_period_days") else None)
        if trial_end == "now":
            trial_end = None
        months = months_of(price)
        end = trial_end or months_after(now, months)
        made_id = self._store.fresh("sub")
        subscription: Document = {
            "id": made_id, "object": "subscription", "application_fee_percent": p.get("application_fee_percent"),
            "billing_cycle_anchor": trial_end or now, "cancel_at": None, "cancel_at_period_end": p.get("cancel_at_period_end", False),
            "canceled_at": None, "collection_method": "charge_automatically", "created": now, "currency": price["currency"],
            "customer": customer["id"], "default_payment_method": method["id"] if method else None, "discounts": [], "ended_at": None,
            "items": {"object": "list", "has_more": False, "url": f"/v1/subscription_items?subscription={made_id}", "data": [{
                "id": self._store.fresh("si"), "object": "subscription_item", "created": now, "current_period_end": end,
                "current_period_start": now, "discounts": [], "metadata": {}, "price": price, "quantity": 1, "subscription": made_id,
            }]},
            "latest_invoice": None, "livemode": False, "metadata": p.get("metadata", {}), "pending_setup_intent": None,
            "pending_update": None, "start_date": now, "status": "trialing" if trial_end else "incomplete",
            "transfer_data": p.get("transfer_data") and {"amount_percent": None, **p["transfer_data"]}, "trial_end": trial_end,
            "trial_start": now if trial_end else None, "_discount": self._discount(p, now), "_update_invoice": None,
        }
        self._store.add(subscription)
        off_session = bool(p.get("off_session"))
        if trial_end:
            invoice = self._invoices.make(subscription, "subscription_create", [Line(price, 0, now, trial_end)])
        else:
            invoice = self._invoices.make(
                subscription, "subscription_create", [Line(price, price["unit_amount"], now, end)], percent_off=self._percent_off(subscription)
            )
        subscription["latest_invoice"] = invoice["id"]
        if invoice["status"] == "paid" and not trial_end:
            subscription["status"] = "active"
        self._store.save(subscription)
        self._events.emit("customer.subscription.created", subscription)
        if invoice["status"] == "open" and p.get("payment_behavior", "allow_incomplete") != "default_incomplete" and method:
            self._invoices.collect(invoice["id"], off_session=off_session)
        return self.get(made_id)

    def update(self, object_id: str, p: Document) -> Document:
        subscription = self.get(object_id)
        if subscription["status"] in ENDED:
            raise ApiError("A canceled subscription can only update its cancellation_details and metadata.", param="id")
        behavior = p.get("payment_behavior", "allow_incomplete")
        if behavior == "pending_if_incomplete" and (extra := sorted(set(p) - WITH_PENDING)):
            raise ApiError(
                f"When `payment_behavior` is set to `pending_if_incomplete`, you can't pass: {', '.join(extra)}", param=extra[0]
            )
        before = deepcopy(subscription)
        if "default_payment_method" in p:
            subscription["default_payment_method"] = self._payments.method(
                p["default_payment_method"], subscription["customer"], "default_payment_method"
            )["id"]
        if "cancel_at_period_end" in p:
            ends = p["cancel_at_period_end"]
            subscription |= {
                "cancel_at_period_end": ends, "cancel_at": _item(subscription)["current_period_end"] if ends else None,
                "canceled_at": self._store.now() if ends else None,
            }
        if "metadata" in p:
            subscription["metadata"] = {
                name: value for name, value in (subscription["metadata"] | (p["metadata"] or {})).items() if value != ""
            }
        if "discounts" in p:
            subscription["_discount"] = self._discount(p, self._store.now())
        self._store.save(subscription)
        if "items" in p or p.get("trial_end") == "now":
            self._reprice(subscription, p, behavior)
        subscription = self.get(object_id)
        if public(before) != public(subscription):
            self._events.emit("customer.subscription.updated", subscription, before=before)
        return subscription

    def cancel(self, object_id: str) -> Document:
        subscription = self.get(object_id)
        if subscription["status"] in ENDED:
            raise missing("subscription", object_id)
        self._end(subscription, "canceled")
        return self.get(object_id)

    def _one_currency(self, customer_id: str, currency: str, *, but: str = "") -> None:
        """Raises ApiError: the customer has another subscription that runs, or may yet begin, in another currency."""
        for other in self._store.all("subscription"):
            if (
                other["customer"] == customer_id and other["id"] != but and other["status"] not in ENDED and other["currency"] != currency
            ):
                raise ApiError(
                    "You cannot combine currencies on a single customer. This customer has an active subscription, subscription "
                    f"schedule, discount, quote, or invoice item with currency {other['currency']}."
                )

    # -- another price

    def _reprice(self, subscription: Document, p: Document, behavior: str) -> None:
        item, now = _item(subscription), self._store.now()
        price = item["price"]
        if "items" in p:
            wanted = p["items"][0]
            if len(p["items"]) != 1 or wanted.get("id") != item["id"] or "price" not in wanted:
                raise ApiError("This sandbox takes the subscription's one item with a price.", param="items")
            price = self._catalog.price(wanted["price"], "items[0][price]")
            self._one_currency(subscription["customer"], price["currency"], but=subscription["id"])
            if price["currency"] != subscription["currency"]:
                raise ApiError("The price has another currency than the subscription.", param="items[0][price]")
        trial_over = subscription["status"] == "trialing" and p.get("trial_end") == "now"
        starts_anew = trial_over or months_of(price) != months_of(item["price"])
        if subscription["status"] == "trialing" and not trial_over:
            self._apply(subscription, price, item["current_period_start"], item["current_period_end"])
            return
        proration = p.get("proration_behavior", "create_prorations")
        if proration == "none" and not starts_anew:
            self._apply(subscription, price, item["current_period_start"], item["current_period_end"])
            return
        if proration == "create_prorations" and not starts_anew:
            raise ApiError("This sandbox prorates with always_invoice or none.", param="proration_behavior")
        start, end = (now, months_after(now, months_of(price))) if starts_anew else (item["current_period_start"], item["current_period_end"])
        lines: list[Line] = []
        if not trial_over and proration != "none":
            lines.append(Line(item["price"], -_share(item, item["price"]["unit_amount"], now), now, item["current_period_end"], proration=True))
        amount = price["unit_amount"] if starts_anew else _share(item, price["unit_amount"], now)
        lines.append(Line(price, amount, now, end, proration=not starts_anew))
        if subscription["_update_invoice"]:
            self._drop_update(subscription)
        invoice = self._invoices.make(subscription, "subscription_update", lines, percent_off=self._percent_off(subscription))
        if invoice["status"] == "open":
            subscription |= {"latest_invoice": invoice["id"], "_update_invoice": invoice["id"], "pending_update": {
                "billing_cycle_anchor": start if starts_anew else None, "expires_at": now + INCOMPLETE_S,
                "subscription_items": [item | {"price": price, "current_period_start": start, "current_period_end": end}],
                "trial_end": None, "trial_from_plan": None,
            }}
            self._store.save(subscription)
            self._invoices.collect(invoice["id"], off_session=bool(p.get("off_session")))
            subscription = self.get(subscription["id"])
            if subscription["pending_update"] is None:
                return
            if behavior == "error_if_incomplete":
                intent = self._invoices.intent_of(invoice)
                assert intent is not None
                self._payments.raise_if_declined(intent)
            if behavior == "pending_if_incomplete":
                return
            subscription |= {"pending_update": None, "_update_invoice": None, "status": "past_due"}
        subscription["latest_invoice"] = invoice["id"]
        self._apply(subscription, price, start, end, anew=starts_anew)

    def _apply(self, subscription: Document, price: Document, start: int, end: int, *, anew: bool = False) -> None:
        item = _item(subscription)
        if anew:
            subscription["billing_cycle_anchor"] = start
            if subscription["status"] == "trialing":
                subscription |= {"status": "active", "trial_end": self._store.now()}
        item |= {"price": price, "current_period_start": start, "current_period_end": end}
        self._store.save(subscription)

    def _drop_update(self, subscription: Document) -> None:
        """An update that was not paid is given up."""
        invoice_id = subscription["_update_invoice"]
        subscription |= {"pending_update": None, "_update_invoice": None}
        self._store.save(subscription)
        self._invoices.void(invoice_id)

    # -- what follows from a payment

    def _paid(self, invoice_id: str, intent: Document) -> None:
        invoice = self._invoices.settle(self._invoices.get(invoice_id))
        subscription = self.get(invoice["parent"]["subscription_details"]["subscription"])
        before = deepcopy(subscription)
        if subscription["status"] in ENDED:
            return
        if subscription["pending_update"] and subscription["_update_invoice"] == invoice_id:
            update = subscription["pending_update"]
            wanted = update["subscription_items"][0]
            subscription |= {"pending_update": None, "_update_invoice": None}
            self._apply(
                subscription, wanted["price"], wanted["current_period_start"], wanted["current_period_end"],
                anew=update["billing_cycle_anchor"] is not None,
            )
        elif subscription["status"] in ("incomplete", "past_due"):
            subscription["status"] = "active"
            self._store.save(subscription)
        if public(before) != public(subscription):
            self._events.emit("customer.subscription.updated", subscription, before=before)

    # -- time

    def due(self, subscription: Document) -> int | None:
        """When something happens to it by itself; None: never."""
        status, item = subscription["status"], _item(subscription)
        if status in ENDED:
            return None
        if status == "incomplete":
            return int(subscription["created"]) + INCOMPLETE_S
        moments = [item["current_period_end"]]
        if subscription["pending_update"]:
            moments.append(subscription["pending_update"]["expires_at"])
        if status == "past_due":
            invoice = self._store.get(subscription["latest_invoice"] or "", "invoice")
            if invoice is not None and invoice["next_payment_attempt"]:
                moments.append(invoice["next_payment_attempt"])
        return int(min(moments))

    def happen(self, object_id: str) -> None:
        """What is due now."""
        subscription, now = self.get(object_id), self._store.now()
        item = _item(subscription)
        if subscription["status"] == "incomplete":
            self._end(subscription, "incomplete_expired")
        elif subscription["pending_update"] and subscription["pending_update"]["expires_at"] <= now:
            before = deepcopy(subscription)
            self._drop_update(subscription)
            self._events.emit("customer.subscription.updated", subscription, before=before)
        elif subscription["status"] == "past_due" and item["current_period_end"] > now:
            self._try_again(subscription)
        elif subscription["cancel_at_period_end"]:
            self._end(subscription, "canceled")
        else:
            self._renew(subscription)

    def _renew(self, subscription: Document) -> None:
        before = deepcopy(subscription)
        item = _item(subscription)
        start = item["current_period_end"]
        if subscription["_update_invoice"]:
            self._drop_update(subscription)
        end = next_period(subscription["billing_cycle_anchor"], start, months_of(item["price"]))
        item |= {"current_period_start": start, "current_period_end": end}
        invoice = self._invoices.make(
            subscription, "subscription_cycle", [Line(item["price"], item["price"]["unit_amount"], start, end)],
            percent_off=self._percent_off(subscription),
        )
        subscription |= {"latest_invoice": invoice["id"], "status": "active" if subscription["status"] == "trialing" else subscription["status"]}
        self._store.save(subscription)
        if invoice["status"] == "open":
            invoice = self._invoices.collect(invoice["id"], off_session=True, first_failure=start)
        subscription = self.get(subscription["id"])
        if invoice["status"] != "paid":
            subscription["status"] = "past_due"
            self._store.save(subscription)
        self._events.emit("customer.subscription.updated", subscription, before=before)

    def _try_again(self, subscription: Document) -> None:
        invoice = self._invoices.collect(subscription["latest_invoice"], off_session=True, first_failure=self._store.now())
        if invoice["status"] != "paid" and invoice["next_payment_attempt"] is None:
            self._end(self.get(subscription["id"]), "canceled")

    def _end(self, subscription: Document, status: str) -> None:
        before, now = deepcopy(subscription), self._store.now()
        subscription |= {
            "status": status, "ended_at": now, "canceled_at": subscription["canceled_at"] or now, "pending_update": None,
            "_update_invoice": None,
        }
        self._store.save(subscription)
        if subscription["latest_invoice"] and status == "incomplete_expired":
            self._invoices.void(subscription["latest_invoice"])
        if status == "canceled":
            self._events.emit("customer.subscription.deleted", subscription)
        else:
            self._events.emit("customer.subscription.updated", subscription, before=before)

    # -- discounts

    def _discount(self, p: Document, now: int) -> Document | None:
        wanted = p.get("discounts") or []
        if not wanted:
            return None
        if len(wanted) != 1 or "coupon" not in wanted[0]:
            raise ApiError("This sandbox takes one discount with a coupon.", param="discounts")
        coupon = self._catalog.coupon(wanted[0]["coupon"])
        until = months_after(now, coupon["duration_in_months"]) if coupon["duration"] == "repeating" else None
        return {"percent_off": coupon["percent_off"], "once": coupon["duration"] == "once", "until": until}

    def _percent_off(self, subscription: Document) -> float:
        """What is taken off the invoice that is made now; a discount that counts once is used up."""
        discount = subscription["_discount"]
        if discount is None or (discount["until"] is not None and self._store.now() >= discount["until"]):
            return 0.0
        if discount["once"]:
            subscription["_discount"] = None
        return float(discount["percent_off"])


def months_of(price: Document) -> int:
    """How many months a price pays for."""
    recurring = price["recurring"]
    if recurring["interval"] not in ("month", "year"):
        raise ApiError("This sandbox has monthly and yearly prices only.", param="items[0][price]")
    return int(recurring["interval_count"]) * (12 if recurring["interval"] == "year" else 1)


def _item(subscription: Document) -> Any:
    return subscription["items"]["data"][0]


def _share(item: Document, amount: int, now: int) -> int:
    """The part of an amount that the rest of the period costs."""
    whole = item["current_period_end"] - item["current_period_start"]
    return round(amount * int(item["current_period_end"] - now) / int(whole))
