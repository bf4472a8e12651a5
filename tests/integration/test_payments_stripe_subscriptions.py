"""Subscriptions through the Stripe adapter, over real HTTP with the official client and a clock that is moved."""

from __future__ import annotations

import pytest
import pytest_asyncio
import stripe
from payments_world import Pair, SandboxDriver, price, subscription_state

from cluster.connections.payments.stripe import StripeProvider
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import (
    InvoiceFailed,
    InvoicePaid,
    SubscriptionState,
)
from configs.contracts.payments import (
    CapabilityMissing,
    ChangeSubscription,
    Discount,
    ObjectUnknown,
    PaymentMethodUnusable,
    ProviderRefused,
    RequestConflict,
)


@pytest_asyncio.fixture
async def pair(sandbox: SandboxDriver, stripe_provider: StripeProvider) -> Pair:
    return await sandbox.pair(stripe_provider)


class TestSubscriptions:
    async def test_the_first_period_is_paid_and_split_and_the_state_is_whole(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        request = pair.subscribe(price(1_000))
        started = await stripe_provider.subscribe(request)
        found = await subscription_state(stripe_provider, started.object_id)
        assert (started.status, found.status) == ("succeeded", "active")
        assert (found.subscriber_id, found.creator_id, found.request_id) == (pair.payer_id, pair.creator_id, request.request_id)
        assert (found.tier_id, found.interval, found.amount_minor) == (request.price.tier_id, "month", 1_000)
        assert 28 <= (found.period_end - found.period_start).days <= 31
        [bill] = await stripe_provider.observe(found.latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        assert (bill.amount_minor, bill.fee_minor, bill.reason, bill.tier_id) == (1_000, 200, "first", request.price.tier_id)
        assert (await stripe_provider.subscribe(request)).object_id == started.object_id, "repeated, one subscription"

    async def test_a_customer_subscribes_in_one_currency_at_a_time(
        self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair
    ) -> None:
        euros, dollars = price(1_000, currency="EUR"), price(1_000)
        assert await stripe_provider.subscribed_in(pair.customer_id) == frozenset()
        running = [await stripe_provider.subscribe(pair.subscribe(euros, trial_days=days)) for days in (0, 7)]
        assert await stripe_provider.subscribed_in(pair.customer_id) == {"EUR"}
        change = ChangeSubscription(request_id=new_id(), subscription_id=running[0].object_id, price=dollars, now=True)
        for refusal in (lambda: stripe_provider.subscribe(pair.subscribe(dollars)), lambda: stripe_provider.change(change)):
            with pytest.raises(ProviderRefused) as refused:
                await refusal()
            error = refused.value.__cause__
            assert isinstance(error, stripe.InvalidRequestError)
            assert (error.http_status, error.code, error.param, error.user_message) == (400, None, None, (
                "You cannot combine currencies on a single customer. This customer has an active subscription, subscription "
                "schedule, discount, quote, or invoice item with currency eur."
            ))
        subscribed = {item["id"] for item in await sandbox.objects("subscription") if item["customer"] == pair.customer_id}
        assert subscribed == {made.object_id for made in running}
        assert (await stripe_provider.pay(pair.pay())).status == "succeeded", "what is paid once may have any currency"
        for made in running:
            await stripe_provider.end_now(new_id(), made.object_id)
        assert await stripe_provider.subscribed_in(pair.customer_id) == frozenset()
        assert (await stripe_provider.subscribe(pair.subscribe(dollars))).status == "succeeded"

    async def test_a_repeated_request_tells_what_is_true_now(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        """Not what was true when it was answered first, which Stripe keeps and repeats."""
        method = await sandbox.save_card(stripe_provider, pair.customer_id, "pm_card_authenticationRequired")
        request = pair.subscribe(price(1_000), payment_method_id=method)
        started = await stripe_provider.subscribe(request)
        assert started.status == "needs_action"
        await sandbox.authenticate(started.client_secret or "")
        seen = await subscription_state(stripe_provider, started.object_id)
        again = await stripe_provider.subscribe(request)
        [told] = again.facts
        assert isinstance(told, SubscriptionState)
        assert (again.status, again.object_id, told.status, told.order > seen.order) == ("succeeded", seen.object_id, "active", True)
        cancel = new_id()
        await stripe_provider.cancel_at_period_end(cancel, started.object_id)
        await stripe_provider.resume(new_id(), started.object_id)
        [told] = (await stripe_provider.cancel_at_period_end(cancel, started.object_id)).facts
        assert isinstance(told, SubscriptionState)
        assert not told.cancel_at_period_end, "taken back since"
        other, late = await sandbox.save_card(stripe_provider, pair.customer_id), new_id()
        await stripe_provider.pay_with(late, started.object_id, other)
        await stripe_provider.end_now(new_id(), started.object_id)
        [told] = (await stripe_provider.pay_with(late, started.object_id, other)).facts
        assert isinstance(told, SubscriptionState)
        assert told.status == "expired"

    async def test_a_trial_costs_nothing_and_then_renews(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        started = await stripe_provider.subscribe(pair.subscribe(price(1_000), trial_days=7))
        found = await subscription_state(stripe_provider, started.object_id)
        assert (found.status, found.trial_end) == ("trialing", found.period_end)
        [free] = await stripe_provider.observe(found.latest_invoice_id or "")
        assert isinstance(free, InvoicePaid)
        assert (free.amount_minor, free.fee_minor, free.payment_id) == (0, 0, free.object_id)
        await sandbox.advance(7.1)
        after = await subscription_state(stripe_provider, started.object_id)
        assert (after.status, after.period_start) == ("active", found.period_end)
        [bill] = await stripe_provider.observe(after.latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        assert (bill.amount_minor, bill.reason) == (1_000, "renewal")

    async def test_a_promo_takes_its_share_off_for_its_months_only(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        discount = Discount(promo_id=new_id(), percent=50, months=2)
        started = await stripe_provider.subscribe(pair.subscribe(price(1_000), discount=discount))
        amounts = []
        for _ in range(3):
            [bill] = await stripe_provider.observe((await subscription_state(stripe_provider, started.object_id)).latest_invoice_id or "")
            assert isinstance(bill, InvoicePaid)
            amounts.append((bill.amount_minor, bill.fee_minor))
            await sandbox.advance(31)
        assert amounts == [(500, 100), (500, 100), (1_000, 200)]
        await stripe_provider.subscribe(pair.subscribe(price(1_000), discount=discount))

    async def test_an_upgrade_is_prorated_and_opens_at_once(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(low))).object_id
        before = await subscription_state(stripe_provider, subscription_id)
        await sandbox.advance((before.period_end - before.period_start).days / 2)
        request = ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True)
        assert (await stripe_provider.change(request)).status == "succeeded"
        found = await subscription_state(stripe_provider, subscription_id)
        assert (found.tier_id, found.period_end) == (high.tier_id, before.period_end)
        [bill] = await stripe_provider.observe(found.latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        assert (bill.reason, bill.tier_id) == ("change", high.tier_id)
        assert abs(bill.amount_minor - 1_000) <= 40, "half a month's difference"
        assert (await stripe_provider.change(request)).status == "succeeded", "repeated, charged once"
        assert (await subscription_state(stripe_provider, subscription_id)).latest_invoice_id == found.latest_invoice_id

    async def test_an_upgrade_that_is_not_paid_opens_nothing(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(low))).object_id
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_chargeCustomerFail")
        request = ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True)
        started = await stripe_provider.change(request)
        assert (started.status, started.code) == ("failed", "generic_decline")
        found = await subscription_state(stripe_provider, subscription_id)
        assert (found.status, found.tier_id, found.pending_tier_id) == ("active", low.tier_id, high.tier_id)
        await sandbox.advance(1)
        assert (await subscription_state(stripe_provider, subscription_id)).pending_tier_id is None, "given up after 23 hours"
        assert (await stripe_provider.change(request)).status == "pending", "asked again: it did not come about"

    async def test_an_upgrade_opens_after_authentication(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(low))).object_id
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_authenticationRequired")
        started = await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True))
        assert started.status == "needs_action"
        assert (await subscription_state(stripe_provider, subscription_id)).tier_id == low.tier_id
        await sandbox.authenticate(started.client_secret or "")
        assert (await subscription_state(stripe_provider, subscription_id)).tier_id == high.tier_id

    async def test_an_upgrade_ends_a_trial_and_charges_in_full(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(low, trial_days=7))).object_id
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True))
        found = await subscription_state(stripe_provider, subscription_id)
        [bill] = await stripe_provider.observe(found.latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        assert (found.status, found.tier_id, bill.amount_minor) == ("active", high.tier_id, 3_000)

    async def test_a_downgrade_keeps_what_is_paid_until_the_period_ends(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(high))).object_id
        paid = (await subscription_state(stripe_provider, subscription_id)).latest_invoice_id
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=low, now=False))
        held = await subscription_state(stripe_provider, subscription_id)
        assert (held.tier_id, held.pending_tier_id, held.latest_invoice_id) == (high.tier_id, low.tier_id, paid)
        await sandbox.advance(31.5)
        after = await subscription_state(stripe_provider, subscription_id)
        assert (after.tier_id, after.amount_minor, after.pending_tier_id) == (low.tier_id, 1_000, None)

    async def test_a_downgrade_that_is_asked_for_again_stays(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(high))).object_id
        request = ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=low, now=False)
        for _ in range(3):
            assert (await stripe_provider.change(request)).status == "succeeded"
            held = await subscription_state(stripe_provider, subscription_id)
            assert (held.tier_id, held.amount_minor, held.pending_tier_id) == (high.tier_id, 1_000, low.tier_id)
        await sandbox.advance(31.5)
        after = await subscription_state(stripe_provider, subscription_id)
        assert (after.tier_id, after.amount_minor, after.pending_tier_id) == (low.tier_id, 1_000, None)

    async def test_a_downgrade_is_taken_back_without_a_charge(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(high))).object_id
        paid = (await subscription_state(stripe_provider, subscription_id)).latest_invoice_id
        await sandbox.advance(3)
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=low, now=False))
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True))
        found = await subscription_state(stripe_provider, subscription_id)
        assert (found.tier_id, found.amount_minor, found.pending_tier_id, found.latest_invoice_id) == (high.tier_id, 3_000, None, paid)

    async def test_another_interval_begins_at_once_or_not_at_all(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        monthly = price(1_000)
        yearly = price(10_000, interval="year", tier_id=monthly.tier_id)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(monthly))).object_id
        with pytest.raises(CapabilityMissing):
            await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=yearly, now=False))
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=yearly, now=True))
        found = await subscription_state(stripe_provider, subscription_id)
        assert (found.interval, (found.period_end - found.period_start).days) in {("year", 365), ("year", 366)}

    async def test_cancelling_ends_with_the_period_and_can_be_taken_back(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(price(1_000)))).object_id
        await stripe_provider.cancel_at_period_end(new_id(), subscription_id)
        assert (await subscription_state(stripe_provider, subscription_id)).cancel_at_period_end
        await stripe_provider.resume(new_id(), subscription_id)
        assert not (await subscription_state(stripe_provider, subscription_id)).cancel_at_period_end
        await stripe_provider.cancel_at_period_end(new_id(), subscription_id)
        await sandbox.advance(31.5)
        ended = await subscription_state(stripe_provider, subscription_id)
        assert (ended.status, ended.ended_at) == ("expired", ended.period_end)
        with pytest.raises(ProviderRefused):
            await stripe_provider.resume(new_id(), subscription_id)
        assert (await stripe_provider.end_now(new_id(), subscription_id)).status == "succeeded", "ended is ended"

    async def test_a_renewal_that_fails_is_tried_again_and_then_given_up(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(price(1_000)))).object_id
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_chargeCustomerFail")
        first = await subscription_state(stripe_provider, subscription_id)
        await sandbox.advance((first.period_end - first.as_of).total_seconds() / 86_400 + 0.2)
        late = await subscription_state(stripe_provider, subscription_id)
        assert late.status == "past_due"
        [failed] = await stripe_provider.observe(late.latest_invoice_id or "")
        assert isinstance(failed, InvoiceFailed)
        assert failed.attempt == 1
        assert failed.next_attempt_at is not None
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_visa")
        await sandbox.advance(1)
        assert (await subscription_state(stripe_provider, subscription_id)).status == "active"
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_chargeCustomerFail")
        await sandbox.advance(45)
        assert (await subscription_state(stripe_provider, subscription_id)).status == "expired"

    async def test_what_is_stopped_past_due_ends_at_once_and_is_charged_no_more(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(price(1_000)))).object_id
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_chargeCustomerFail")
        first = await subscription_state(stripe_provider, subscription_id)
        await sandbox.advance((first.period_end - first.as_of).total_seconds() / 86_400 + 0.2)
        assert (await subscription_state(stripe_provider, subscription_id)).status == "past_due"
        request = new_id()
        for _ in range(2):
            [told] = (await stripe_provider.cancel_at_period_end(request, subscription_id)).facts
            assert isinstance(told, SubscriptionState)
            assert told.status == "expired"
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_visa")
        await sandbox.advance(10)
        assert await self._bills(sandbox, subscription_id) == [("paid", 1_000), ("void", 0)]

    async def test_the_bill_of_a_checkout_that_was_ended_cannot_be_paid(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        method = await sandbox.save_card(stripe_provider, pair.customer_id, "pm_card_authenticationRequired")
        started = await stripe_provider.subscribe(pair.subscribe(price(1_000), payment_method_id=method))
        assert started.status == "needs_action"
        for _ in range(2):
            await stripe_provider.end_now(new_id(), started.object_id)
        assert await self._bills(sandbox, started.object_id) == [("void", 0)]

    async def _bills(self, sandbox: SandboxDriver, subscription_id: str) -> list[tuple[str, int]]:
        return sorted(
            (bill["status"], bill["amount_paid"]) for bill in await sandbox.objects("invoice")
            if bill["parent"]["subscription_details"]["subscription"] == subscription_id
        )

    async def test_a_first_payment_that_fails_leaves_nothing_active(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        method = await sandbox.save_card(stripe_provider, pair.customer_id, "pm_card_chargeCustomerFail")
        started = await stripe_provider.subscribe(pair.subscribe(price(1_000), payment_method_id=method))
        assert (started.status, started.code) == ("failed", "generic_decline")
        assert (await subscription_state(stripe_provider, started.object_id)).status == "incomplete"
        await sandbox.advance(1)
        assert (await subscription_state(stripe_provider, started.object_id)).status == "expired"

    async def test_a_price_never_changes_under_its_revision(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        first = price(1_000)
        await stripe_provider.subscribe(pair.subscribe(first))
        with pytest.raises(RequestConflict):
            await stripe_provider.subscribe(pair.subscribe(price(2_000, tier_id=first.tier_id)))
        await stripe_provider.subscribe(pair.subscribe(price(2_000, tier_id=first.tier_id, revision=2)))

    async def test_a_forgotten_payer_pays_no_more(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(price(1_000)))).object_id
        await stripe_provider.forget_customer(pair.customer_id)
        assert (await subscription_state(stripe_provider, subscription_id)).status == "expired"
        with pytest.raises((ObjectUnknown, PaymentMethodUnusable)):
            await stripe_provider.pay(pair.pay())
        await stripe_provider.forget_customer(pair.customer_id)
