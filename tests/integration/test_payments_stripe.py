"""The Stripe adapter and the sandbox, over real HTTP with the official client."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
import stripe
from payments_world import KEY, Pair, SandboxDriver, price

from cluster.connections.payments.stripe import StripeProvider
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import (
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
)
from configs.contracts.payments import (
    CapabilityMissing,
    ChangeSubscription,
    Discount,
    ObjectUnknown,
    PaymentMethodUnusable,
    Payout,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderUnavailable,
    Refund,
    RequestConflict,
)

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module")
async def stripe_provider(sandbox: SandboxDriver) -> AsyncIterator[StripeProvider]:
    provider = sandbox.provider()
    yield provider
    await provider.close()


@pytest_asyncio.fixture
async def pair(sandbox: SandboxDriver, stripe_provider: StripeProvider) -> Pair:
    return await sandbox.pair(stripe_provider)


async def state(provider: StripeProvider, subscription_id: str) -> SubscriptionState:
    [found] = await provider.observe(subscription_id)
    assert isinstance(found, SubscriptionState)
    return found


class TestSinglePayments:
    async def test_a_payment_is_split_and_says_who_paid_whom_for_what(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        request = pair.pay(1_000)
        started = await stripe_provider.pay(request)
        [paid] = started.facts
        assert isinstance(paid, PaymentSucceeded)
        assert (started.status, paid.livemode, paid.currency) == ("succeeded", False, "USD")
        assert (paid.amount_minor, paid.fee_minor, paid.processor_fee_minor) == (1_000, 200, 59)
        assert (paid.payer_id, paid.payee_id, paid.request_id) == (pair.payer_id, pair.creator_id, request.request_id)

    async def test_a_repeated_request_charges_once_even_at_the_same_time(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        request = pair.pay()
        answers = await asyncio.gather(*(stripe_provider.pay(request) for _ in range(8)))
        assert len({answer.object_id for answer in answers}) == 1
        reports = [report async for report in stripe_provider.list_since(BEGINNING) if report.object_id == answers[0].object_id]
        assert [report.kind for report in reports] == ["payment_intent.succeeded"]

    async def test_a_request_id_with_other_contents_is_refused_and_charges_nothing(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        request = pair.pay(500)
        await stripe_provider.pay(request)
        with pytest.raises(RequestConflict):
            await stripe_provider.pay(pair.pay(600, request_id=request.request_id))

    async def test_a_payment_without_decimals_counts_whole_units(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        [paid] = (await stripe_provider.pay(pair.pay(500, currency="JPY"))).facts
        assert isinstance(paid, PaymentSucceeded)
        assert (paid.amount_minor, paid.currency, paid.fee_minor) == (500, "JPY", 100)

    @pytest.mark.parametrize(("card", "code"), [
        ("pm_card_chargeCustomerFail", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
    ])
    async def test_a_declined_card_fails_with_its_code(
        self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair, card: str, code: str
    ) -> None:
        method = await sandbox.save_card(stripe_provider, pair.customer_id, card)
        request = pair.pay(payment_method_id=method)
        started = await stripe_provider.pay(request)
        assert (started.status, started.code) == ("failed", code)
        assert await stripe_provider.pay(request) == started, "a repetition does not try again"
        [failed] = await stripe_provider.observe(started.object_id)
        assert isinstance(failed, PaymentFailed)
        assert (failed.code, failed.final) == (code, False)

    async def test_a_card_that_wants_authentication_is_charged_after_it(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        method = await sandbox.save_card(stripe_provider, pair.customer_id, "pm_card_authenticationRequired")
        started = await stripe_provider.pay(pair.pay(payment_method_id=method))
        assert started.status == "needs_action"
        assert await stripe_provider.observe(started.object_id) == (), "nothing is true before it"
        assert started.client_secret is not None
        await sandbox.authenticate(started.client_secret)
        [paid] = await stripe_provider.observe(started.object_id)
        assert isinstance(paid, PaymentSucceeded)

    async def test_a_failed_authentication_charges_nothing(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        method = await sandbox.save_card(stripe_provider, pair.customer_id, "pm_card_authenticationRequired")
        started = await stripe_provider.pay(pair.pay(payment_method_id=method))
        assert started.client_secret is not None
        await sandbox.authenticate(started.client_secret, succeeds=False)
        [failed] = await stripe_provider.observe(started.object_id)
        assert isinstance(failed, PaymentFailed)

    async def test_somebody_elses_and_a_detached_card_are_refused(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        other = await sandbox.pair(stripe_provider)
        with pytest.raises(PaymentMethodUnusable):
            await stripe_provider.pay(pair.pay(payment_method_id=other.method_id))
        with pytest.raises(PaymentMethodUnusable):
            await stripe_provider.subscribe(pair.subscribe(price(900), payment_method_id=other.method_id))
        with pytest.raises(ObjectUnknown):
            await stripe_provider.detach_payment_method(pair.customer_id, other.method_id)
        await stripe_provider.detach_payment_method(pair.customer_id, pair.method_id)
        with pytest.raises(PaymentMethodUnusable):
            await stripe_provider.pay(pair.pay())
        assert await stripe_provider.payment_methods(pair.customer_id) == []

    async def test_one_card_has_one_fingerprint_whoever_saved_it(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        other = await sandbox.pair(stripe_provider)
        [one], [same] = [await stripe_provider.payment_methods(of.customer_id) for of in (pair, other)]
        assert one.payment_method_id != same.payment_method_id
        assert (one.fingerprint, one.last4) == (same.fingerprint, "4242")


class TestMoneyBack:
    async def test_refunds_take_both_shares_back_in_proportion_and_tell_totals(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        payment_id = (await stripe_provider.pay(pair.pay(1_001))).object_id
        first = await stripe_provider.refund(Refund(request_id=new_id(), payment_id=payment_id, amount_minor=300))
        [part] = first.facts
        assert isinstance(part, Refunded)
        assert (part.refunded_minor, part.fee_refunded_minor, part.payment_id) == (300, 200 * 300 // 1_001, payment_id)
        [whole] = (await stripe_provider.refund(Refund(request_id=new_id(), payment_id=payment_id))).facts
        assert isinstance(whole, Refunded)
        assert (whole.refunded_minor, whole.fee_refunded_minor) == (1_001, 200)
        assert whole.order > part.order
        with pytest.raises(ProviderRefused):
            await stripe_provider.refund(Refund(request_id=new_id(), payment_id=payment_id))

    async def test_a_refund_beyond_what_is_left_changes_nothing(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        payment_id = (await stripe_provider.pay(pair.pay(500))).object_id
        with pytest.raises(ProviderRefused):
            await stripe_provider.refund(Refund(request_id=new_id(), payment_id=payment_id, amount_minor=501))
        [paid] = await stripe_provider.observe(payment_id)
        assert isinstance(paid, PaymentSucceeded)

    async def test_a_subscriptions_payment_is_refunded_in_the_subscribers_name(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        started = await stripe_provider.subscribe(pair.subscribe(price(2_000)))
        [bill] = await stripe_provider.observe((await state(stripe_provider, started.object_id)).latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        [back] = (await stripe_provider.refund(Refund(request_id=new_id(), payment_id=bill.payment_id))).facts
        assert isinstance(back, Refunded)
        assert (back.payer_id, back.payee_id, back.subscription_id) == (pair.payer_id, pair.creator_id, started.object_id)
        assert (back.payment_id, back.fee_refunded_minor) == (bill.payment_id, 400)

    @pytest.mark.parametrize("won", [True, False])
    async def test_a_dispute_is_opened_and_decided(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair, won: bool) -> None:
        method = await sandbox.save_card(stripe_provider, pair.customer_id, "pm_card_createDispute")
        payment_id = (await stripe_provider.pay(pair.pay(700, payment_method_id=method))).object_id
        dispute_id = next(found["id"] for found in await sandbox.objects("dispute") if found["payment_intent"] == payment_id)
        [opened] = await stripe_provider.observe(dispute_id)
        assert isinstance(opened, DisputeOpened)
        assert (opened.payment_id, opened.amount_minor, opened.fee_minor) == (payment_id, 700, 1_500)
        with pytest.raises(ProviderRefused):
            await stripe_provider.refund(Refund(request_id=new_id(), payment_id=payment_id))
        await sandbox.command("close-dispute", dispute=dispute_id, won=won)
        _, closed = await stripe_provider.observe(dispute_id)
        assert isinstance(closed, DisputeClosed)
        assert closed.won is won


class TestSubscriptions:
    async def test_the_first_period_is_paid_and_split_and_the_state_is_whole(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        request = pair.subscribe(price(1_000))
        started = await stripe_provider.subscribe(request)
        found = await state(stripe_provider, started.object_id)
        assert (started.status, found.status) == ("succeeded", "active")
        assert (found.subscriber_id, found.creator_id, found.request_id) == (pair.payer_id, pair.creator_id, request.request_id)
        assert (found.tier_id, found.interval, found.amount_minor) == (request.price.tier_id, "month", 1_000)
        assert 28 <= (found.period_end - found.period_start).days <= 31
        [bill] = await stripe_provider.observe(found.latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        assert (bill.amount_minor, bill.fee_minor, bill.reason, bill.tier_id) == (1_000, 200, "first", request.price.tier_id)
        assert (await stripe_provider.subscribe(request)).object_id == started.object_id, "repeated, one subscription"

    async def test_a_trial_costs_nothing_and_then_renews(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        started = await stripe_provider.subscribe(pair.subscribe(price(1_000), trial_days=7))
        found = await state(stripe_provider, started.object_id)
        assert (found.status, found.trial_end) == ("trialing", found.period_end)
        [free] = await stripe_provider.observe(found.latest_invoice_id or "")
        assert isinstance(free, InvoicePaid)
        assert (free.amount_minor, free.fee_minor, free.payment_id) == (0, 0, free.object_id)
        await sandbox.advance(7.1)
        after = await state(stripe_provider, started.object_id)
        assert (after.status, after.period_start) == ("active", found.period_end)
        [bill] = await stripe_provider.observe(after.latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        assert (bill.amount_minor, bill.reason) == (1_000, "renewal")

    async def test_a_promo_takes_its_share_off_for_its_months_only(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        discount = Discount(promo_id=new_id(), percent=50, months=2)
        started = await stripe_provider.subscribe(pair.subscribe(price(1_000), discount=discount))
        amounts = []
        for _ in range(3):
            [bill] = await stripe_provider.observe((await state(stripe_provider, started.object_id)).latest_invoice_id or "")
            assert isinstance(bill, InvoicePaid)
            amounts.append((bill.amount_minor, bill.fee_minor))
            await sandbox.advance(31)
        assert amounts == [(500, 100), (500, 100), (1_000, 200)]
        await stripe_provider.subscribe(pair.subscribe(price(1_000), discount=discount))

    async def test_an_upgrade_is_prorated_and_opens_at_once(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(low))).object_id
        before = await state(stripe_provider, subscription_id)
        await sandbox.advance((before.period_end - before.period_start).days / 2)
        request = ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True)
        assert (await stripe_provider.change(request)).status == "succeeded"
        found = await state(stripe_provider, subscription_id)
        assert (found.tier_id, found.period_end) == (high.tier_id, before.period_end)
        [bill] = await stripe_provider.observe(found.latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        assert (bill.reason, bill.tier_id) == ("change", high.tier_id)
        assert abs(bill.amount_minor - 1_000) <= 40, "half a month's difference"
        assert (await stripe_provider.change(request)).status == "succeeded", "repeated, charged once"
        assert (await state(stripe_provider, subscription_id)).latest_invoice_id == found.latest_invoice_id

    async def test_an_upgrade_that_is_not_paid_opens_nothing(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(low))).object_id
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_chargeCustomerFail")
        started = await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True))
        assert (started.status, started.code) == ("failed", "generic_decline")
        found = await state(stripe_provider, subscription_id)
        assert (found.status, found.tier_id, found.pending_tier_id) == ("active", low.tier_id, high.tier_id)
        await sandbox.advance(1)
        assert (await state(stripe_provider, subscription_id)).pending_tier_id is None, "given up after 23 hours"

    async def test_an_upgrade_opens_after_authentication(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(low))).object_id
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_authenticationRequired")
        started = await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True))
        assert started.status == "needs_action"
        assert (await state(stripe_provider, subscription_id)).tier_id == low.tier_id
        await sandbox.authenticate(started.client_secret or "")
        assert (await state(stripe_provider, subscription_id)).tier_id == high.tier_id

    async def test_an_upgrade_ends_a_trial_and_charges_in_full(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(low, trial_days=7))).object_id
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True))
        found = await state(stripe_provider, subscription_id)
        [bill] = await stripe_provider.observe(found.latest_invoice_id or "")
        assert isinstance(bill, InvoicePaid)
        assert (found.status, found.tier_id, bill.amount_minor) == ("active", high.tier_id, 3_000)

    async def test_a_downgrade_keeps_what_is_paid_until_the_period_ends(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(high))).object_id
        paid = (await state(stripe_provider, subscription_id)).latest_invoice_id
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=low, now=False))
        held = await state(stripe_provider, subscription_id)
        assert (held.tier_id, held.pending_tier_id, held.latest_invoice_id) == (high.tier_id, low.tier_id, paid)
        await sandbox.advance(31.5)
        after = await state(stripe_provider, subscription_id)
        assert (after.tier_id, after.amount_minor, after.pending_tier_id) == (low.tier_id, 1_000, None)

    async def test_a_downgrade_is_taken_back_without_a_charge(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        low, high = price(1_000), price(3_000)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(high))).object_id
        paid = (await state(stripe_provider, subscription_id)).latest_invoice_id
        await sandbox.advance(3)
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=low, now=False))
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=high, now=True))
        found = await state(stripe_provider, subscription_id)
        assert (found.tier_id, found.amount_minor, found.pending_tier_id, found.latest_invoice_id) == (high.tier_id, 3_000, None, paid)

    async def test_another_interval_begins_at_once_or_not_at_all(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        monthly = price(1_000)
        yearly = price(10_000, interval="year", tier_id=monthly.tier_id)
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(monthly))).object_id
        with pytest.raises(CapabilityMissing):
            await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=yearly, now=False))
        await stripe_provider.change(ChangeSubscription(request_id=new_id(), subscription_id=subscription_id, price=yearly, now=True))
        found = await state(stripe_provider, subscription_id)
        assert (found.interval, (found.period_end - found.period_start).days) in {("year", 365), ("year", 366)}

    async def test_cancelling_ends_with_the_period_and_can_be_taken_back(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(price(1_000)))).object_id
        await stripe_provider.cancel_at_period_end(new_id(), subscription_id)
        assert (await state(stripe_provider, subscription_id)).cancel_at_period_end
        await stripe_provider.resume(new_id(), subscription_id)
        assert not (await state(stripe_provider, subscription_id)).cancel_at_period_end
        await stripe_provider.cancel_at_period_end(new_id(), subscription_id)
        await sandbox.advance(31.5)
        ended = await state(stripe_provider, subscription_id)
        assert (ended.status, ended.ended_at) == ("expired", ended.period_end)
        with pytest.raises(ProviderRefused):
            await stripe_provider.resume(new_id(), subscription_id)
        assert (await stripe_provider.end_now(new_id(), subscription_id)).status == "succeeded", "ended is ended"

    async def test_a_renewal_that_fails_is_tried_again_and_then_given_up(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(price(1_000)))).object_id
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_chargeCustomerFail")
        first = await state(stripe_provider, subscription_id)
        await sandbox.advance((first.period_end - first.as_of).total_seconds() / 86_400 + 0.2)
        late = await state(stripe_provider, subscription_id)
        assert late.status == "past_due"
        [failed] = await stripe_provider.observe(late.latest_invoice_id or "")
        assert isinstance(failed, InvoiceFailed)
        assert failed.attempt == 1
        assert failed.next_attempt_at is not None
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_visa")
        await sandbox.advance(1)
        assert (await state(stripe_provider, subscription_id)).status == "active"
        await sandbox.command("card", payment_method=pair.method_id, behaves_like="pm_card_chargeCustomerFail")
        await sandbox.advance(45)
        assert (await state(stripe_provider, subscription_id)).status == "expired"

    async def test_a_first_payment_that_fails_leaves_nothing_active(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        method = await sandbox.save_card(stripe_provider, pair.customer_id, "pm_card_chargeCustomerFail")
        started = await stripe_provider.subscribe(pair.subscribe(price(1_000), payment_method_id=method))
        assert (started.status, started.code) == ("failed", "generic_decline")
        assert (await state(stripe_provider, started.object_id)).status == "incomplete"
        await sandbox.advance(1)
        assert (await state(stripe_provider, started.object_id)).status == "expired"

    async def test_a_price_never_changes_under_its_revision(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        first = price(1_000)
        await stripe_provider.subscribe(pair.subscribe(first))
        with pytest.raises(RequestConflict):
            await stripe_provider.subscribe(pair.subscribe(price(2_000, tier_id=first.tier_id)))
        await stripe_provider.subscribe(pair.subscribe(price(2_000, tier_id=first.tier_id, revision=2)))


    async def test_a_forgotten_payer_pays_no_more(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        subscription_id = (await stripe_provider.subscribe(pair.subscribe(price(1_000)))).object_id
        await stripe_provider.forget_customer(pair.customer_id)
        assert (await state(stripe_provider, subscription_id)).status == "expired"
        with pytest.raises((ObjectUnknown, PaymentMethodUnusable)):
            await stripe_provider.pay(pair.pay())
        await stripe_provider.forget_customer(pair.customer_id)


class TestCreators:
    async def test_a_creator_is_paid_only_after_onboarding(self, stripe_provider: StripeProvider, sandbox: SandboxDriver, pair: Pair) -> None:
        creator_id = new_id()
        onboarding = await stripe_provider.onboard(new_id(), creator_id, "US", "http://app/return", "http://app/refresh")
        found = await stripe_provider.account(onboarding.account_id)
        assert (found.creator_id, found.charges_enabled, found.details_submitted) == (creator_id, False, False)
        assert found.due
        with pytest.raises(ProviderRefused):
            await stripe_provider.pay(pair.pay(account_id=onboarding.account_id))
        async with httpx.AsyncClient(timeout=60) as client:
            assert (await client.post(onboarding.url)).status_code == 303
            assert (await client.post(onboarding.url)).status_code == 404, "a link works once"
        found = await stripe_provider.account(onboarding.account_id)
        assert (found.charges_enabled, found.payouts_enabled, found.due) == (True, True, ())

    async def test_a_repeated_onboarding_makes_one_account_and_a_new_link(self, stripe_provider: StripeProvider) -> None:
        request_id, creator_id = new_id(), new_id()
        first, second = [await stripe_provider.onboard(request_id, creator_id, "US", "http://a", "http://b") for _ in range(2)]
        assert first.account_id == second.account_id
        assert first.url != second.url

    @pytest.mark.parametrize(("bank", "kind"), [("works", PayoutPaid), ("fails", PayoutFailed)])
    async def test_a_payout_takes_available_money_only_and_its_end_is_told(
        self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair, bank: str, kind: type
    ) -> None:
        await stripe_provider.pay(pair.pay(1_000))
        request = Payout(request_id=new_id(), creator_id=pair.creator_id, account_id=pair.account_id, amount_minor=800, currency="USD")
        with pytest.raises(ProviderRefused):
            await stripe_provider.payout(request)
        await sandbox.advance(2.1)
        await sandbox.command("bank", account=pair.account_id, behaves=bank)
        later = Payout(request_id=new_id(), creator_id=pair.creator_id, account_id=pair.account_id, amount_minor=800, currency="USD")
        started = await stripe_provider.payout(later)
        assert (started.status, await stripe_provider.observe(started.object_id)) == ("pending", ())
        await sandbox.advance(2.1)
        [end] = await stripe_provider.observe(started.object_id)
        assert isinstance(end, kind)
        assert (end.amount_minor, end.creator_id, end.request_id) == (800, pair.creator_id, later.request_id)  # type: ignore[attr-defined]
        assert started.object_id in {report.object_id async for report in stripe_provider.list_since(BEGINNING)}


class TestTheSandboxItself:
    async def raw(self, sandbox: SandboxDriver, method: str, path: str, *, key: str = KEY, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=sandbox.url, timeout=60) as client:
            return await client.request(method, path, headers={"Authorization": f"Bearer {key}", **options.pop("headers", {})}, **options)

    @pytest.mark.parametrize(("path", "form", "code", "param"), [
        ("/v1/customers", {"colour": "red"}, "parameter_unknown", "colour"),
        ("/v1/payment_intents", {"amount": "5"}, "parameter_missing", "currency"),
        ("/v1/payment_intents", {"amount": "5.5", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ("/v1/payment_intents", {"amount": "-5", "currency": "usd"}, "amount_too_small", "amount"),
        ("/v1/payment_intents", {"amount": "500", "currency": "usd", "payment_method_types[]": "card"}, "parameter_unknown", "payment_method_types"),
        ("/v1/payment_intents", {"amount": "500", "currency": "usd", "transfer_data[account]": "x"}, "parameter_unknown", "transfer_data[account]"),
        ("/v1/subscriptions", {"customer": "cus_none", "items[0][price]": "p"}, "resource_missing", "customer"),
        ("/v1/subscriptions", {"proration_behavior": "sometimes"}, None, "proration_behavior"),
        ("/v1/refunds", {"reverse_transfer": "yes"}, None, "reverse_transfer"),
    ])
    async def test_parameters_are_checked_against_the_clients_own_types(
        self, sandbox: SandboxDriver, path: str, form: dict[str, str], code: str | None, param: str
    ) -> None:
        answer = await self.raw(sandbox, "POST", path, data=form)
        error = answer.json()["error"]
        assert (answer.status_code in (400, 404), error.get("code"), error["param"]) == (True, code, param)

    async def test_unknown_keys_paths_and_versions_are_refused(self, sandbox: SandboxDriver) -> None:
        assert (await self.raw(sandbox, "GET", "/v1/customers", key="sk_test_wrong")).status_code == 401
        assert (await self.raw(sandbox, "POST", "/sandbox/clock", key="sk_test_wrong", json={"advance_s": 1})).status_code == 401
        assert (await self.raw(sandbox, "GET", "/v1/moons")).status_code == 404
        assert (await self.raw(sandbox, "GET", "/v1/customers", headers={"Stripe-Version": "2024-06-20"})).status_code == 400
        assert (await self.raw(sandbox, "POST", "/sandbox/clock", json={"advance_s": -1})).status_code == 400

    async def test_everything_it_answers_has_names_that_the_client_knows(self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair) -> None:
        """A field that only the sandbox has would make code that works here fail at Stripe."""
        await stripe_provider.refund(Refund(request_id=new_id(), payment_id=(await stripe_provider.pay(pair.pay())).object_id))
        await stripe_provider.subscribe(pair.subscribe(price(1_000), trial_days=3))
        seen = 0
        for kind, of in {
            "customer": stripe.Customer, "payment_method": stripe.PaymentMethod, "setup_intent": stripe.SetupIntent,
            "payment_intent": stripe.PaymentIntent, "charge": stripe.Charge, "refund": stripe.Refund, "dispute": stripe.Dispute,
            "price": stripe.Price, "product": stripe.Product, "coupon": stripe.Coupon, "subscription": stripe.Subscription,
            "invoice": stripe.Invoice, "invoice_payment": stripe.InvoicePayment, "account": stripe.Account, "payout": stripe.Payout,
            "event": stripe.Event, "transfer": stripe.Transfer, "application_fee": stripe.ApplicationFee,
        }.items():
            for found in (await sandbox.objects(kind))[:5]:
                known = set(typing.cast(Any, of).__annotations__)
                assert set(found) <= known, f"{kind}: {set(found) - known}"
                assert found.get("livemode", False) is False
                seen += 1
        assert seen >= 15, "what this test made is looked at, whichever ran before"

    async def test_a_killed_sandbox_comes_back_with_everything(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        driver = SandboxDriver(tmp_path_factory.mktemp("killed"))
        try:
            provider = driver.provider()
            pair = await driver.pair(provider)
            request = pair.pay()
            paid = await provider.pay(request)
            await driver.advance(3)
            driver.server.kill()
            with pytest.raises(ProviderUnavailable):
                await provider.pay(pair.pay())
            driver.server.start()
            assert (await provider.pay(request)).object_id == paid.object_id
            async with httpx.AsyncClient(timeout=60) as client:
                there = (await client.get(f"{driver.url}/sandbox")).json()
            assert there["livemode"] is False
            assert there["now"] > datetime.now(UTC).timestamp() + 2.9 * 86_400
            await provider.close()
        finally:
            driver.stop()

    async def test_a_wrong_key_is_the_operators_matter(self, sandbox: SandboxDriver) -> None:
        provider = sandbox.provider(key="sk_test_wrong")
        with pytest.raises(ProviderMisconfigured):
            await provider.create_customer(new_id(), new_id())
        await provider.close()


def test_the_adapter_has_everything_that_the_protocol_asks_for() -> None:
    from configs.contracts.payments import PaymentProvider

    for name, method in inspect.getmembers(PaymentProvider, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(StripeProvider, name)).parameters.keys() == inspect.signature(method).parameters.keys()
