"""Refunds and disputes of the sandbox: money that goes back."""

from __future__ import annotations

from typing import Any, Final

from cluster.embedded.sandbox_provider.errors import ApiError, missing
from cluster.embedded.sandbox_provider.events import Events
from cluster.embedded.sandbox_provider.payments import Payments
from cluster.embedded.sandbox_provider.store import Document, Store

DISPUTE_FEE: Final = 1_500


class Reversals:
    def __init__(self, store: Store, events: Events, payments: Payments) -> None:
        self._store = store
        self._events = events
        self._payments = payments
        payments.disputed = self._open_dispute

    def refund(self, p: Document) -> Document:
        if "payment_intent" in p:
            charge = self._store.get(self._payments.intent(p["payment_intent"])["latest_charge"] or "", "charge")
        else:
            charge = self._store.get(p.get("charge", ""), "charge")
        if charge is None:
            raise missing("charge", str(p.get("payment_intent", p.get("charge", ""))), "charge")
        left = charge["amount"] - charge["amount_refunded"]
        amount = p.get("amount", left)
        if any(found["charge"] == charge["id"] and found["status"] != "won" for found in self._store.all("dispute")):
            raise ApiError("The charge is disputed and cannot be refunded.", code="charge_disputed", param="charge")
        if left == 0:
            raise ApiError("The charge has already been refunded.", code="charge_already_refunded", param="charge")
        if not 0 < amount <= left:
            raise ApiError(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount")
        before = dict(charge)
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        reversal = self._reverse(charge, p) if charge["transfer"] else None
        self._store.save(charge)
        refund = self._store.add({
            "id": self._store.fresh("re"), "object": "refund", "amount": amount, "charge": charge["id"], "created": self._store.now(),
            "currency": charge["currency"], "metadata": p.get("metadata", {}), "payment_intent": charge["payment_intent"],
            "reason": p.get("reason"), "status": "succeeded", "transfer_reversal": reversal, "failure_reason": None,
        })
        self._events.emit("refund.created", refund)
        self._events.emit("charge.refunded", charge, before=before)
        return refund

    def fail_refund(self, object_id: str) -> Document:
        """The payer's bank sends a refund back: its money is the platform's then, and both shares stay reversed."""
        refund = self._store.get(object_id, "refund")
        if refund is None or refund["status"] != "succeeded":
            raise missing("refund", object_id)
        charge = self._store.get(refund["charge"], "charge")
        assert charge is not None
        before, was = dict(refund), dict(charge)
        refund |= {"status": "failed", "failure_reason": "expired_or_canceled_card"}
        charge |= {"amount_refunded": charge["amount_refunded"] - refund["amount"], "refunded": False}
        self._store.save(refund)
        self._store.save(charge)
        self._events.emit("refund.failed", refund, before=before)
        self._events.emit("charge.updated", charge, before=was)
        return refund

    def _reverse(self, charge: Document, p: Document) -> str | None:
        """Takes the creator's and the platform's shares back in proportion to all that was refunded.

        What a refund that failed has taken back already is not taken again.
        """
        transfer = self._store.get(charge["transfer"], "transfer")
        assert transfer is not None
        destination, moved, reversal = transfer["destination"], 0, None
        if p.get("reverse_transfer"):
            total = max(transfer["amount_reversed"], transfer["amount"] * charge["amount_refunded"] // charge["amount"])
            moved -= total - transfer["amount_reversed"]
            self._store.save(transfer | {"amount_reversed": total, "reversed": total == transfer["amount"]})
            reversal = self._store.fresh("trr")
        fee = self._store.get(charge["application_fee"] or "", "application_fee")
        if p.get("refund_application_fee") and fee is not None:
            total = max(fee["amount_refunded"], fee["amount"] * charge["amount_refunded"] // charge["amount"])
            moved += total - fee["amount_refunded"]
            self._store.save(fee | {"amount_refunded": total, "refunded": total == fee["amount"]})
        self._payments.credit(destination, charge["currency"], moved, self._store.now())
        return reversal

    def _open_dispute(self, charge: Document) -> None:
        before = dict(charge)
        charge["disputed"] = True
        self._store.save(charge)
        dispute = self._store.add({
            "id": self._store.fresh("du"), "object": "dispute", "amount": charge["amount"] - charge["amount_refunded"],
            "balance_transactions": [{
                "id": self._store.fresh("txn"), "object": "balance_transaction", "amount": -charge["amount"], "fee": DISPUTE_FEE,
                "net": -charge["amount"] - DISPUTE_FEE, "currency": charge["currency"], "type": "adjustment",
            }],
            "charge": charge["id"], "created": self._store.now(), "currency": charge["currency"], "is_charge_refundable": False,
            "livemode": False, "metadata": {}, "payment_intent": charge["payment_intent"], "reason": "fraudulent",
            "status": "needs_response",
        })
        self._events.emit("charge.updated", charge, before=before)
        self._events.emit("charge.dispute.created", dispute)
        self._events.emit("charge.dispute.funds_withdrawn", dispute)

    def close_dispute(self, object_id: str, *, won: bool) -> Document:
        dispute = self._store.get(object_id, "dispute")
        if dispute is None or dispute["status"] in ("won", "lost"):
            raise missing("dispute", object_id)
        before = dict(dispute)
        dispute["status"] = "won" if won else "lost"
        self._store.save(dispute)
        self._events.emit("charge.dispute.closed", dispute, before=before)
        if won:
            self._events.emit("charge.dispute.funds_reinstated", dispute)
        return dispute

    def dispute_payment(self, intent_id: str) -> Document:
        """The payer's bank disputes a payment now."""
        charge: Any = self._store.get(self._payments.intent(intent_id)["latest_charge"] or "", "charge")
        if charge is None or charge["disputed"]:
            raise missing("charge", intent_id)
        self._open_dispute(charge)
        return next(found for found in self._store.all("dispute") if found["charge"] == charge["id"])
