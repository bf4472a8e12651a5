"""Stripe Connect: destination charges, with the platform's share as an application fee.

Whatever a webhook says is only a reason to look: facts come from objects as they are now, so neither order, repetition,
loss nor another API version of a webhook can make a wrong one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cluster.connections.payments.stripe_calls import Calls, Object, client, http_client
from cluster.connections.payments.stripe_looking import EXPANDED, HELD, Looking, moment
from cluster.connections.payments.stripe_reports import PAGE, Reports
from configs.contracts.ids import derived_id
from configs.contracts.payment_facts import MONTHS, AccountState, AnyFact, PaymentFailed, PaymentSucceeded
from configs.contracts.payments import (
    Capabilities,
    CapabilityMissing,
    ChangeSubscription,
    Discount,
    HostedForm,
    ObjectUnknown,
    Onboarding,
    Pay,
    PaymentDeclined,
    PaymentMethod,
    Payout,
    Price,
    ProviderRefused,
    Refund,
    Report,
    RequestConflict,
    Started,
    Subscribe,
)

if TYPE_CHECKING:
    from stripe import RequestOptions
    from stripe.params import (
        PaymentIntentCreateParams,
        PaymentIntentListParams,
        RefundCreateParams,
        SubscriptionCreateParams,
        SubscriptionUpdateParams,
    )

NAME: Final = "stripe"
CLOCKS_S: Final = 3_600
"""More than our clocks and Stripe's are ever apart."""


class StripeProvider:
    """``webhook_secrets``: the present one first; a second one while secrets are being changed.

    ``url`` empty: Stripe itself. One event loop uses an instance.
    """

    name: ClassVar[str] = NAME
    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self, key: str, *, webhook_secrets: Sequence[str], url: str = "", timeout_s: float = 10.0, retries: int = 2,
        tolerance_s: int = 300,
    ) -> None:
        self._http = http_client(timeout_s)
        self._client = client(key, self._http, url=url, retries=retries)
        self._v1 = self._client.v1
        self.livemode = "_live_" in key[:8]
        self._ask = Calls()
        self._looking = Looking(self._client, self._ask, provider=NAME, livemode=self.livemode)
        self._reports = Reports(self._client, self._ask, provider=NAME, secrets=webhook_secrets, tolerance_s=tolerance_s)

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    # -- customers and cards

    async def create_customer(self, request_id: str, user_id: str) -> str:
        made = await self._ask(self._v1.customers.create_async({"metadata": {"userId": user_id}}, _once(request_id, "customer")))
        return str(made["id"])

    async def forget_customer(self, customer_id: str) -> None:
        try:
            await self._ask(self._v1.customers.delete_async(customer_id))
        except ObjectUnknown:
            # Forgotten before, perhaps by this very request.
            return

    async def subscribed_in(self, customer_id: str) -> frozenset[str]:
        # Stripe lets no customer have two currencies at once, so one page tells.
        try:
            listed = await self._ask(self._v1.subscriptions.list_async({"customer": customer_id, "limit": PAGE}))
        except ObjectUnknown:  # the customer was removed at Stripe
            return frozenset()
        return frozenset(found["currency"].upper() for found in listed["data"] if found["status"] != "incomplete_expired")

    async def setup_payment_method(self, request_id: str, customer_id: str) -> Started:
        made = await self._ask(self._v1.setup_intents.create_async({
            "customer": customer_id, "usage": "off_session",
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}, "metadata": {"requestId": request_id},
        }, _once(request_id, "setup")))
        return Started(object_id=made["id"], status="needs_action", client_secret=made["client_secret"])

    async def payment_methods(self, customer_id: str) -> Sequence[PaymentMethod]:
        try:
            listed = await self._ask(self._v1.payment_methods.list_async({"customer": customer_id, "type": "card", "limit": PAGE}))
        except ObjectUnknown:  # the customer was removed at Stripe
            return ()
        return [_method(found) for found in listed["data"]]

    async def detach_payment_method(self, customer_id: str, payment_method_id: str) -> None:
        found = await self._ask(self._v1.payment_methods.retrieve_async(payment_method_id))
        if found["customer"] != customer_id:
            raise ObjectUnknown("no such payment method of this customer")
        await self._ask(self._v1.payment_methods.detach_async(payment_method_id))

    # -- subscriptions

    async def subscribe(self, request: Subscribe) -> Started:
        params: SubscriptionCreateParams = {
            "customer": request.customer_id, "default_payment_method": request.payment_method_id,
            "items": [{"price": await self._price_id(request.price)}], "application_fee_percent": float(request.fee_percent),
            "transfer_data": {"destination": request.account_id}, "payment_behavior": "allow_incomplete",
            "metadata": {
                "requestId": request.request_id, "subscriberId": request.subscriber_id, "creatorId": request.creator_id,
                "tierId": request.price.tier_id,
            },
        }
        if request.trial_days:
            params["trial_period_days"] = request.trial_days
            params["trial_settings"] = {"end_behavior": {"missing_payment_method": "cancel"}}
        if request.discount is not None:
            params["discounts"] = [{"coupon": await self._coupon_id(request.discount)}]
        made = await self._current(await self._ask(
            self._v1.subscriptions.create_async(params, _once(request.request_id, "subscribe"))
        ))
        return await self._progress(made, settled=made["status"] in ("active", "trialing"))

    async def change(self, request: ChangeSubscription) -> Started:
        found = await self._ask(self._v1.subscriptions.retrieve_async(request.subscription_id))
        item, price_id = found["items"]["data"][0], await self._price_id(request.price)
        metadata = found["metadata"] or {}
        held = metadata.get("heldFor") == item["price"]["id"] and found["_read_at"].timestamp() < int(metadata.get("heldUntil", 0))
        if held and not request.now and item["price"]["id"] == price_id:
            # This very change, repeated: it is made, and comes with the next period.
            return await self._progress(found, settled=True)
        if held:
            # What is paid for until the period's end is taken up again; nothing is owed for that.
            item["price"] = {"id": metadata["heldPriceId"], "metadata": {"tierId": metadata["heldTierId"]}}
            found = await self._updated(request.subscription_id, {
                "items": [{"id": item["id"], "price": metadata["heldPriceId"]}], "proration_behavior": "none",
                "metadata": dict.fromkeys(HELD, ""),
            }, _once(request.request_id, "unhold"))
        if item["price"]["id"] == price_id:
            return await self._progress(found, settled=True)
        if not request.now:
            recurring = item["price"].get("recurring")
            if recurring and MONTHS[recurring["interval"]] * recurring["interval_count"] != request.price.months:
                # Stripe would begin the new interval, and charge for it, at once.
                raise CapabilityMissing("a later change keeps the interval", interval=request.price.interval)
            return await self._progress(await self._updated(request.subscription_id, {
                "items": [{"id": item["id"], "price": price_id}], "proration_behavior": "none",
                "metadata": {
                    "heldPriceId": item["price"]["id"], "heldTierId": item["price"]["metadata"].get("tierId", metadata.get("tierId", "")),
                    "heldUntil": str(item["current_period_end"]), "heldFor": price_id,
                },
            }, _once(request.request_id, "later")), settled=True)
        params: SubscriptionUpdateParams = {
            "items": [{"id": item["id"], "price": price_id}], "proration_behavior": "always_invoice",
            "payment_behavior": "pending_if_incomplete",
        }
        if found["status"] == "trialing":
            params["trial_end"] = "now"
        made = await self._updated(request.subscription_id, params, _once(request.request_id, "change"))
        in_force = made["items"]["data"][0]["price"]["id"] == price_id
        return await self._progress(made, settled=in_force and made["pending_update"] is None)

    async def cancel_at_period_end(self, request_id: str, subscription_id: str) -> Started:
        made = await self._updated(subscription_id, {"cancel_at_period_end": True}, _once(request_id, "cancel"))
        if made["status"] == "past_due" and made["cancel_at_period_end"]:
            # The period that runs is the one whose bill is tried again and again.
            return await self.end_now(request_id, subscription_id)
        return await self._progress(made, settled=True)

    async def resume(self, request_id: str, subscription_id: str) -> Started:
        made = await self._updated(subscription_id, {"cancel_at_period_end": False}, _once(request_id, "resume"))
        return await self._progress(made, settled=True)

    async def pay_with(self, request_id: str, subscription_id: str, payment_method_id: str) -> Started:
        made = await self._updated(subscription_id, {"default_payment_method": payment_method_id}, _once(request_id, "method"))
        if made["status"] == "past_due" and made["latest_invoice"]:
            bill = made["latest_invoice"]
            with suppress(ProviderRefused):  # it was paid meanwhile
                await self._ask(self._v1.invoices.pay_async(bill if isinstance(bill, str) else bill["id"], None, _once(request_id, "bill")))
            made = await self._ask(self._v1.subscriptions.retrieve_async(subscription_id))
        return await self._progress(made, settled=made["status"] in ("active", "trialing"))

    async def end_now(self, request_id: str, subscription_id: str) -> Started:
        try:
            made = await self._ask(self._v1.subscriptions.cancel_async(subscription_id))
        except ObjectUnknown:
            # Ended before, perhaps by this very request.
            made = await self._ask(self._v1.subscriptions.retrieve_async(subscription_id))
        # Stripe itself tries them no more, but who has the bill's secret, or its page, could still pay them.
        listed = await self._ask(self._v1.invoices.list_async({"subscription": subscription_id, "status": "open", "limit": PAGE}))
        for bill in listed["data"]:
            with suppress(ProviderRefused):  # it was paid, or given up, meanwhile
                await self._ask(self._v1.invoices.void_invoice_async(bill["id"], None, _once(request_id, f"void {bill['id']}")))
        return await self._progress(made, settled=True)

    async def _updated(self, subscription_id: str, params: SubscriptionUpdateParams, options: RequestOptions) -> Object:
        return await self._current(await self._ask(self._v1.subscriptions.update_async(subscription_id, params, options)))

    async def _current(self, subscription: Object) -> Object:
        """The subscription as it is, also where the answer to a call was a replay of an earlier one."""
        if not subscription["_replayed"]:
            return subscription
        return await self._ask(self._v1.subscriptions.retrieve_async(subscription["id"]))

    async def _progress(self, subscription: Object, *, settled: bool) -> Started:
        """How far a subscription's call has come; where its bill is not paid, by the bill's payment."""
        made_id, facts = str(subscription["id"]), tuple(self._looking.subscription(subscription))
        if settled:
            return Started(object_id=made_id, status="succeeded", facts=facts)
        listed = await self._ask(self._v1.invoice_payments.list_async({
            "invoice": subscription["latest_invoice"], "limit": 1, "expand": ["data.payment.payment_intent"],
        }))
        intent = listed["data"][0]["payment"]["payment_intent"] if listed["data"] else {}
        if intent.get("status") == "requires_action":
            return Started(object_id=made_id, status="needs_action", client_secret=intent["client_secret"], facts=facts)
        if intent.get("status") == "requires_payment_method":
            return Started(object_id=made_id, status="failed", code=_code(intent), facts=facts)
        return Started(object_id=made_id, status="pending", facts=facts)

    async def _price_id(self, price: Price) -> str:
        """Stripe's price of a tier's revision, made when it is first needed; its lookup key finds it for ever."""
        key = f"{price.tier_id}:{price.revision}:{price.interval}"
        if price.interval_count > 1:  # a bundle's percentage may change without a new revision
            key += f":{price.interval_count}:{price.amount_minor}"
        listed = await self._ask(self._v1.prices.list_async({"lookup_keys": [key], "limit": 1}))
        if listed["data"]:
            found = listed["data"][0]
            if (found["unit_amount"], found["currency"].upper()) != (price.amount_minor, price.currency):
                raise RequestConflict("this revision of the tier has another price", tier_id=price.tier_id, revision=price.revision)
            return str(found["id"])
        product_id = f"tier_{price.tier_id}"
        try:
            await self._ask(self._v1.products.retrieve_async(product_id))
        except ObjectUnknown:
            await self._ask(self._v1.products.create_async({"id": product_id, "name": price.name}, _once(product_id, "product")))
        made = await self._ask(self._v1.prices.create_async({
            "product": product_id, "currency": price.currency.lower(), "unit_amount": price.amount_minor, "lookup_key": key,
            "recurring": {"interval": price.interval, "interval_count": price.interval_count}, "metadata": {"tierId": price.tier_id, "revision": str(price.revision)},
        }, _once(key, "price")))
        return str(made["id"])

    async def _coupon_id(self, discount: Discount) -> str:
        coupon_id = f"promo_{discount.promo_id}"
        try:
            await self._ask(self._v1.coupons.retrieve_async(coupon_id))
        except ObjectUnknown:
            months = discount.months
            await self._ask(self._v1.coupons.create_async({
                "id": coupon_id, "percent_off": float(discount.percent),
                **({"duration": "once"} if months is None else {"duration": "repeating", "duration_in_months": months}),
            }, _once(coupon_id, "coupon")))
        return coupon_id

    # -- single payments

    async def pay(self, request: Pay) -> Started:
        params: PaymentIntentCreateParams = {
            "amount": request.amount_minor, "currency": request.currency.lower(), "customer": request.customer_id,
            "payment_method": request.payment_method_id, "confirm": True, "application_fee_amount": request.fee_minor,
            "transfer_data": {"destination": request.account_id},
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "expand": EXPANDED,
            "metadata": {
                "requestId": request.request_id, "payerId": request.payer_id, "payeeId": request.payee_id, "purpose": request.purpose,
            },
        }
        try:
            made = await self._ask(self._v1.payment_intents.create_async(params, _once(request.request_id, "pay")))
        except PaymentDeclined as error:
            cause: Any = error.__cause__
            intent = ((getattr(cause, "json_body", None) or {}).get("error") or {}).get("payment_intent")
            if intent is None:
                raise
            return Started(object_id=intent["id"], status="failed", code=error.details["code"])
        if made["_replayed"]:
            made = await self._ask(self._v1.payment_intents.retrieve_async(made["id"], {"expand": EXPANDED}))
        if made["status"] == "succeeded":
            return Started(object_id=made["id"], status="succeeded", facts=tuple(self._looking.payment(made)))
        if made["status"] == "requires_action":
            return Started(object_id=made["id"], status="needs_action", client_secret=made["client_secret"])
        if made["status"] == "requires_payment_method":
            return Started(object_id=made["id"], status="failed", code=_code(made))
        return Started(object_id=made["id"], status="pending")

    async def end_payment(self, request_id: str, customer_ids: Sequence[str], since: datetime) -> Started:
        # Nobody may know its name, and the key is forgotten after a day: the payer's list has it.
        ended = Started(object_id="", status="failed")
        for payment_id in [
            payment_id for customer_id in customer_ids for payment_id in await self._payments_of(request_id, customer_id, since)
        ]:
            with suppress(ProviderRefused):  # it was paid, or given up, before
                await self._ask(self._v1.payment_intents.cancel_async(payment_id))
            facts = tuple(await self._looking.facts(payment_id))
            status = ended.status
            if any(isinstance(fact, PaymentSucceeded) for fact in facts):
                status = "succeeded"
            elif status == "failed" and not any(isinstance(fact, PaymentFailed) and fact.final for fact in facts):
                status = "pending"
            ended = Started(object_id=payment_id, status=status, facts=(*ended.facts, *facts))
        return ended

    async def _payments_of(self, request_id: str, customer_id: str, since: datetime) -> list[str]:
        found: list[str] = []
        page: PaymentIntentListParams = {"customer": customer_id, "created": {"gte": int(since.timestamp()) - CLOCKS_S}, "limit": PAGE}
        while True:
            try:
                listed = await self._ask(self._v1.payment_intents.list_async(page))
            except ObjectUnknown:  # the payer was forgotten
                return found
            found += [item["id"] for item in listed["data"] if (item["metadata"] or {}).get("requestId") == request_id]
            if not listed["has_more"]:
                return found
            page["starting_after"] = listed["data"][-1]["id"]

    async def hosted_form(self, request: Pay | Subscribe, return_url: str, until: datetime) -> HostedForm:
        raise CapabilityMissing("payments are made by call")

    async def refund(self, request: Refund) -> Started:
        # Stripe forgets idempotency keys after a day; its list of the payment's refunds does not.
        listed = await self._ask(self._v1.refunds.list_async({"payment_intent": request.payment_id, "limit": PAGE}))
        made = next((found for found in listed["data"] if (found["metadata"] or {}).get("requestId") == request.request_id), None)
        if made is None:
            made = await self._make_refund(request)
        if made["status"] in ("failed", "canceled"):
            return Started(object_id=made["id"], status="failed", code=made.get("failure_reason"))
        return Started(
            object_id=made["id"], status="succeeded" if made["status"] == "succeeded" else "pending",
            facts=tuple(await self._looking.facts(made["charge"])),
        )

    async def _make_refund(self, request: Refund) -> Object:
        params: RefundCreateParams = {
            "payment_intent": request.payment_id, "reverse_transfer": True, "refund_application_fee": True,
            "metadata": {"requestId": request.request_id},
        }
        if request.amount_minor is not None:
            params["amount"] = request.amount_minor
        return await self._ask(self._v1.refunds.create_async(params, _once(request.request_id, "refund")))

    # -- creators

    async def onboard(self, request_id: str, creator_id: str, country: str, return_url: str, refresh_url: str) -> Onboarding:
        made = await self._ask(self._v1.accounts.create_async({
            "country": country, "business_type": "individual",
            "controller": {
                "fees": {"payer": "application"}, "losses": {"payments": "application"}, "stripe_dashboard": {"type": "express"},
            },
            "capabilities": {"transfers": {"requested": True}, "card_payments": {"requested": True}},
            "settings": {"payouts": {"schedule": {"interval": "manual"}}}, "metadata": {"creatorId": creator_id},
        }, _once(request_id, "account")))
        return await self.onboarding_link(made["id"], return_url, refresh_url)

    async def onboarding_link(self, account_id: str, return_url: str, refresh_url: str) -> Onboarding:
        made = await self._ask(self._v1.account_links.create_async({
            "account": account_id, "type": "account_onboarding", "return_url": return_url, "refresh_url": refresh_url,
        }))
        return Onboarding(account_id=account_id, url=made["url"], expires_at=moment(made["expires_at"]))

    async def account(self, account_id: str) -> AccountState:
        for fact in self._looking.account(await self._ask(self._v1.accounts.retrieve_async(account_id))):
            return fact
        raise ObjectUnknown("not an account of this platform")

    async def payout(self, request: Payout) -> Started:
        # As with refunds: the account's newest payouts are remembered for longer than keys.
        own: RequestOptions = {"stripe_account": request.account_id}
        listed = await self._ask(self._v1.payouts.list_async({"limit": PAGE}, own))
        for found in listed["data"]:
            if (found["metadata"] or {}).get("requestId") == request.request_id:
                return Started(object_id=f"{request.account_id}/{found['id']}", status="pending")
        options = _once(request.request_id, "payout")
        options["stripe_account"] = request.account_id
        made = await self._ask(self._v1.payouts.create_async({
            "amount": request.amount_minor, "currency": request.currency.lower(),
            "metadata": {"requestId": request.request_id, "creatorId": request.creator_id},
        }, options))
        return Started(object_id=f"{request.account_id}/{made['id']}", status="pending")

    # -- what happened

    async def observe(self, object_id: str) -> Sequence[AnyFact]:
        return await self._looking.facts(object_id)

    async def facts(self, report: Report) -> Sequence[AnyFact]:
        if report.livemode != self.livemode:
            return ()
        return await self._looking.facts(report.object_id)

    def list_since(self, since: datetime, *, accounts: bool = True) -> AsyncIterator[Report]:
        return self._reports.listed(since, accounts=accounts)

    def verify(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report | None:
        return self._reports.verified(body, headers, now)


def _once(request_id: str, role: str) -> RequestOptions:
    """Stripe does it once, however often this request is repeated."""
    return {"idempotency_key": derived_id(request_id, f"stripe:{role}")}


def _code(intent: Object) -> str:
    failed = intent.get("last_payment_error") or {}
    return str(failed.get("decline_code") or failed.get("code") or "declined")


def _method(found: Object) -> PaymentMethod:
    card = found["card"]
    return PaymentMethod(
        payment_method_id=found["id"], brand=card["brand"], last4=card["last4"], exp_month=card["exp_month"],
        exp_year=card["exp_year"], fingerprint=card["fingerprint"] or found["id"],
    )

