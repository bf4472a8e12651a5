"""What is true at Stripe now: objects looked up by id, as facts.

Field names are those of the API version that the installed client pins: the period of a subscription is on its item, the
subscription of an invoice under ``parent``, and the payment of an invoice in its list of payments.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from cluster.connections.payments.stripe_calls import Calls, Object
from configs.contracts.money import share_of
from configs.contracts.payment_facts import (
    AccountState,
    AnyFact,
    DisputeClosed,
    DisputeOpened,
    InvoiceFailed,
    InvoicePaid,
    PaymentFailed,
    PaymentSucceeded,
    PayoutFailed,
    PayoutPaid,
    Refunded,
    SubscriptionState,
    SubscriptionStatus,
)
from configs.contracts.payments import ObjectUnknown

if TYPE_CHECKING:
    from stripe import StripeClient

STATUSES: Final[dict[str, SubscriptionStatus]] = {
    "incomplete": "incomplete", "trialing": "trialing", "active": "active", "past_due": "past_due", "unpaid": "expired",
    "canceled": "expired", "incomplete_expired": "expired", "paused": "expired",
}
REASONS: Final[dict[str, Literal["first", "renewal", "change"]]] = {
    "subscription_create": "first", "subscription_cycle": "renewal", "subscription_update": "change",
}
PRICES_KEPT: Final = 4_096
EXPANDED: Final = ["latest_charge.balance_transaction"]
"""What a payment is read with: what Stripe took of it."""
REFUNDS_READ: Final = 100
"""Stripe's limit of a page; of a charge with more refunds its own total counts."""
HELD: Final = ("heldPriceId", "heldTierId", "heldUntil", "heldFor")
"""Metadata of a subscription whose next period costs another price: what is paid for until then."""


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def optional_moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


@dataclass(frozen=True, slots=True)
class Parties:
    """Whose payment it is."""

    payer_id: str
    payee_id: str
    request_id: str
    subscription_id: str | None = None


class Looking:
    """Looks objects up by id. What this platform did not make gives no facts."""

    def __init__(self, client: StripeClient, calls: Calls, *, provider: str, livemode: bool) -> None:
        self._v1 = client.v1
        self._ask = calls
        self._provider = provider
        self._livemode = livemode
        self._prices: OrderedDict[str, Object] = OrderedDict()

    async def facts(self, object_id: str) -> Sequence[AnyFact]:
        """All that is true of an object; ``acct_…/po_…`` names one of a connected account.

        Raises ObjectUnknown: there is none, or it is of no kind that we know.
        """
        account, _, own = object_id.rpartition("/")
        kind = own.partition("_")[0]
        if kind == "sub":
            return self.subscription(await self._ask(self._v1.subscriptions.retrieve_async(own)))
        if kind == "in":
            return await self._invoice(own)
        if kind == "pi":
            return await self._payment(own)
        if kind == "ch":
            return await self._charge(own)
        if kind in ("du", "dp"):
            return await self._dispute(own)
        if kind == "acct":
            return self.account(await self._ask(self._v1.accounts.retrieve_async(own)))
        if kind == "po" and account:
            return await self._payout(account, own)
        raise ObjectUnknown("not an object that we look at", kind=kind[:16])

    def _base(self, found: Object) -> dict[str, Any]:
        read_at: datetime = found["_read_at"]
        return {
            "provider": self._provider, "livemode": bool(found.get("livemode", self._livemode)), "object_id": str(found["id"]),
            "as_of": read_at, "event_id": f"look:{time.time_ns():020d}",
        }

    # -- subscriptions

    def subscription(self, found: Object) -> Sequence[SubscriptionState]:
        metadata = found["metadata"] or {}
        if "requestId" not in metadata:
            return ()
        item = found["items"]["data"][0]
        price = item["price"]
        self._remember(price)
        held = metadata.get("heldFor") == price["id"] and found["_read_at"].timestamp() < int(metadata.get("heldUntil", 0))
        pending = found.get("pending_update")
        wanted = pending["subscription_items"][0]["price"] if pending and pending.get("subscription_items") else None
        next_tier = wanted["metadata"].get("tierId") if wanted else price["metadata"].get("tierId") if held else None
        return (SubscriptionState(
            **self._base(found), status=STATUSES.get(found["status"], "expired"), subscriber_id=metadata["subscriberId"],
            creator_id=metadata["creatorId"], request_id=metadata["requestId"],
            tier_id=metadata["heldTierId"] if held else price["metadata"].get("tierId", metadata["tierId"]),
            interval=price["recurring"]["interval"], interval_count=price["recurring"]["interval_count"], amount_minor=price["unit_amount"] or 0, currency=price["currency"].upper(),
            period_start=moment(item["current_period_start"]), period_end=moment(item["current_period_end"]),
            trial_end=optional_moment(found["trial_end"]), cancel_at_period_end=found["cancel_at_period_end"],
            cancelled_at=optional_moment(found["canceled_at"]), ended_at=optional_moment(found["ended_at"]),
            latest_invoice_id=_id(found["latest_invoice"]), pending_tier_id=next_tier,
        ),)

    async def _invoice(self, invoice_id: str) -> Sequence[AnyFact]:
        found = await self._ask(self._v1.invoices.retrieve_async(invoice_id, params={"expand": ["payments"]}))
        parent = (found.get("parent") or {}).get("subscription_details")
        metadata = (parent or {}).get("metadata") or {}
        if "requestId" not in metadata or found["status"] not in ("paid", "open"):
            return ()
        payments = [payment for payment in (found.get("payments") or {}).get("data", []) if payment["status"] != "canceled"]
        # Of a bill that was paid by another payment than its own, that one: its own may be open still, and the ledger
        # would book the bill again under the other's name.
        payments.sort(key=lambda payment: payment["status"] != "paid")
        payment_id = _id(payments[0]["payment"].get("payment_intent")) if payments else None
        facts = self._base(found) | {
            "payment_id": payment_id or str(found["id"]), "payer_id": metadata["subscriberId"], "payee_id": metadata["creatorId"],
            "request_id": metadata["requestId"], "subscription_id": _id((parent or {}).get("subscription")), "currency": found["currency"].upper(),
        }
        if found["status"] == "open":
            if not found["attempted"]:
                return ()
            intent = await self._ask(self._v1.payment_intents.retrieve_async(payment_id)) if payment_id else {}
            return (InvoiceFailed(
                **facts, amount_minor=found["amount_due"], attempt=found["attempt_count"],
                next_attempt_at=optional_moment(found["next_payment_attempt"]), action_required=_needs_action(intent),
            ),)
        fee, processor_fee = await self._fees(payment_id) if payment_id else (0, 0)
        line = max(found["lines"]["data"], key=lambda line: line["amount"])
        price = await self._price((line.get("pricing") or {}).get("price_details", {}).get("price"))
        return (InvoicePaid(
            **facts, amount_minor=found["amount_paid"], fee_minor=fee, processor_fee_minor=processor_fee,
            reason=REASONS.get(found["billing_reason"], "other"), tier_id=price["metadata"].get("tierId", metadata["tierId"]),
            period_start=moment(line["period"]["start"]), period_end=moment(line["period"]["end"]),
        ),)

    async def _fees(self, payment_id: str) -> tuple[int, int | None]:
        """(what the platform kept, what Stripe took) of a payment."""
        intent = await self._ask(
            self._v1.payment_intents.retrieve_async(payment_id, params={"expand": EXPANDED})
        )
        return intent["application_fee_amount"] or 0, _processor_fee(intent)

    async def _price(self, price_id: str) -> Object:
        """A price; prices never change what we read of them."""
        known = self._prices.get(price_id)
        if known is None:
            known = await self._ask(self._v1.prices.retrieve_async(price_id))
            self._remember(known)
        return known

    def _remember(self, price: Object) -> None:
        self._prices[price["id"]] = price
        self._prices.move_to_end(price["id"])
        while len(self._prices) > PRICES_KEPT:
            self._prices.popitem(last=False)

    # -- single payments

    async def _payment(self, payment_id: str) -> Sequence[AnyFact]:
        found = await self._ask(
            self._v1.payment_intents.retrieve_async(payment_id, params={"expand": EXPANDED})
        )
        return self.payment(found)

    def payment(self, found: Object) -> Sequence[AnyFact]:
        """Of a payment with its charge expanded."""
        metadata = found["metadata"] or {}
        if "requestId" not in metadata:
            return ()
        facts = self._base(found) | {
            "payment_id": str(found["id"]), "payer_id": metadata["payerId"], "payee_id": metadata["payeeId"],
            "request_id": metadata["requestId"], "currency": found["currency"].upper(), "amount_minor": found["amount"],
        }
        if found["status"] == "succeeded":
            return (PaymentSucceeded(
                **facts, fee_minor=found["application_fee_amount"] or 0, processor_fee_minor=_processor_fee(found),
            ),)
        failed = found["last_payment_error"] or {}
        if found["status"] == "canceled" or failed:
            return (PaymentFailed(
                **facts, code=failed.get("decline_code") or failed.get("code") or "canceled", final=found["status"] == "canceled",
            ),)
        return ()

    async def _parties(self, payment_id: str | None) -> Parties | None:
        """Whose payment it is: by its own metadata, or its invoice's."""
        if payment_id is None:
            return None
        intent = await self._ask(self._v1.payment_intents.retrieve_async(payment_id))
        metadata = intent["metadata"] or {}
        if "requestId" in metadata:
            return Parties(metadata["payerId"], metadata["payeeId"], metadata["requestId"])
        listed = await self._ask(self._v1.invoice_payments.list_async({
            "payment": {"type": "payment_intent", "payment_intent": payment_id}, "limit": 1, "expand": ["data.invoice"],
        }))
        for payment in listed["data"]:
            details = (payment["invoice"].get("parent") or {}).get("subscription_details") or {}
            metadata = details.get("metadata") or {}
            if "requestId" in metadata:
                return Parties(
                    metadata["subscriberId"], metadata["creatorId"], metadata["requestId"], _id(details["subscription"])
                )
        return None

    async def _charge(self, charge_id: str) -> Sequence[AnyFact]:
        """What stands of a charge's refunds: zero once the only one failed, nothing where there never was one."""
        found = await self._ask(self._v1.charges.retrieve_async(charge_id, params={"expand": ["application_fee"]}))
        listed = await self._ask(self._v1.refunds.list_async({"charge": charge_id, "limit": REFUNDS_READ}))
        parties = await self._parties(_id(found["payment_intent"])) if listed["data"] else None
        if parties is None:
            return ()
        standing = [refund for refund in listed["data"] if refund["status"] not in ("failed", "canceled")]
        back = found["amount_refunded"] if listed["has_more"] else sum(refund["amount"] for refund in standing)
        fee = found.get("application_fee") or {}
        fee_back = fee.get("amount_refunded", 0)
        if len(standing) < len(listed["data"]):
            # Stripe keeps both shares reversed when a refund fails: the platform holds that money, and may give it back again.
            fee_back = min(fee_back, share_of(fee.get("amount", 0), back, found["amount"]))
        return (Refunded(
            **self._base(found), **_of(parties), payment_id=_id(found["payment_intent"]) or charge_id,
            currency=found["currency"].upper(), amount_minor=found["amount"], refunded_minor=back, fee_refunded_minor=fee_back,
        ),)

    async def _dispute(self, dispute_id: str) -> Sequence[AnyFact]:
        found = await self._ask(self._v1.disputes.retrieve_async(dispute_id))
        parties = await self._parties(_id(found["payment_intent"]))
        if parties is None or found["status"].startswith("warning"):
            return ()
        facts = self._base(found) | _of(parties) | {
            "payment_id": _id(found["payment_intent"]), "currency": found["currency"].upper(), "amount_minor": found["amount"],
        }
        moved = [entry for entry in found["balance_transactions"] if entry["currency"] == found["currency"]]
        opened = DisputeOpened(**facts, reason=found["reason"], fee_minor=sum(entry["fee"] for entry in moved))
        if found["status"] in ("won", "lost", "prevented"):
            return opened, DisputeClosed(**facts, won=found["status"] != "lost")
        return (opened,)

    # -- creators

    def account(self, found: Object) -> Sequence[AccountState]:
        metadata = found["metadata"] or {}
        if "creatorId" not in metadata:
            return ()
        wants = found.get("requirements") or {}
        return (AccountState(
            **self._base(found), account_id=str(found["id"]), creator_id=metadata["creatorId"],
            charges_enabled=bool(found["charges_enabled"]), payouts_enabled=bool(found["payouts_enabled"]),
            details_submitted=bool(found["details_submitted"]), due=tuple(wants.get("currently_due") or ()),
            disabled_reason=wants.get("disabled_reason"),
        ),)

    async def _payout(self, account_id: str, payout_id: str) -> Sequence[AnyFact]:
        found = await self._ask(self._v1.payouts.retrieve_async(payout_id, options={"stripe_account": account_id}))
        metadata = found["metadata"] or {}
        owner = metadata.get("creatorId")
        if owner is None:
            # The account's own schedule paid it out.
            owner = ((await self._ask(self._v1.accounts.retrieve_async(account_id)))["metadata"] or {}).get("creatorId")
        if owner is None:
            return ()
        facts = self._base(found) | {
            "account_id": account_id, "creator_id": owner, "amount_minor": found["amount"],
            "currency": found["currency"].upper(), "request_id": metadata.get("requestId"),
        }
        if found["status"] == "paid":
            return (PayoutPaid(**facts, arrives_at=moment(found["arrival_date"])),)
        if found["status"] in ("failed", "canceled"):
            return (PayoutFailed(**facts, code=found["failure_code"] or "canceled"),)
        return ()


def _of(parties: Parties) -> dict[str, Any]:
    return {
        "payer_id": parties.payer_id, "payee_id": parties.payee_id, "request_id": parties.request_id,
        "subscription_id": parties.subscription_id,
    }


def _id(value: Any) -> str | None:
    """The id of what is there as an id or whole."""
    found = value["id"] if isinstance(value, dict) else value
    return None if found is None else str(found)


def _needs_action(intent: Object) -> bool:
    return intent.get("status") == "requires_action" or (intent.get("last_payment_error") or {}).get("code") == "authentication_required"


def _processor_fee(intent: Object) -> int | None:
    """What Stripe took of a payment, in the payment's currency; None: it says so in another one, or not yet."""
    charge = intent.get("latest_charge")
    transaction = charge.get("balance_transaction") if isinstance(charge, dict) else None
    if not isinstance(transaction, dict) or transaction["currency"] != intent["currency"]:
        return None
    fee: int = transaction["fee"]
    return fee
