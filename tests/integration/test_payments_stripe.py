"""Single payments, money back and creators through the Stripe adapter, over real HTTP with the official client."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from local_http import local_client
from payments_world import Pair, SandboxDriver, price, subscription_state

from cluster.connections.payments.hosted_form import HostedFormProvider
from cluster.connections.payments.stripe import StripeProvider
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import (
    DisputeClosed,
    DisputeOpened,
    InvoicePaid,
    PaymentFailed,
    PaymentSucceeded,
    PayoutFailed,
    PayoutPaid,
    Refunded,
)
from configs.contracts.payments import (
    Capabilities,
    ObjectUnknown,
    PaymentMethodUnusable,
    PaymentProvider,
    Payout,
    ProviderRefused,
    Refund,
    RequestConflict,
)

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def pair(sandbox: SandboxDriver, stripe_provider: StripeProvider) -> Pair:
    return await sandbox.pair(stripe_provider)


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
        request = pair.pay(payment_method_id=method)
        started = await stripe_provider.pay(request)
        assert started.status == "needs_action"
        assert await stripe_provider.observe(started.object_id) == (), "nothing is true before it"
        assert started.client_secret is not None
        await sandbox.authenticate(started.client_secret)
        [paid] = await stripe_provider.observe(started.object_id)
        assert isinstance(paid, PaymentSucceeded)
        again = await stripe_provider.pay(request)
        assert (again.status, again.object_id) == ("succeeded", started.object_id)
        assert [type(fact) for fact in again.facts] == [PaymentSucceeded], "asked again: what is true now"

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

    async def test_a_refund_that_fails_later_is_told_as_the_total_that_stands_and_may_be_made_again(
        self, sandbox: SandboxDriver, stripe_provider: StripeProvider, pair: Pair
    ) -> None:
        payment_id = (await stripe_provider.pay(pair.pay(1_000))).object_id
        part = await stripe_provider.refund(Refund(request_id=new_id(), payment_id=payment_id, amount_minor=300))
        rest = Refund(request_id=new_id(), payment_id=payment_id)
        made = await stripe_provider.refund(rest)
        for refund_id, left, fee_left in ((made.object_id, 300, 60), (part.object_id, 0, 0)):
            await sandbox.command("fail-refund", refund=refund_id)
            report, *_ = [item async for item in stripe_provider.list_since(BEGINNING) if item.kind == "refund.failed"]
            [fact] = await stripe_provider.facts(report)
            assert isinstance(fact, Refunded)
            assert (fact.payment_id, fact.refunded_minor, fact.fee_refunded_minor) == (payment_id, left, fee_left)
        assert (await stripe_provider.refund(rest)).status == "failed", "the same request stays what it was"
        [again] = (await stripe_provider.refund(Refund(request_id=new_id(), payment_id=payment_id))).facts
        assert isinstance(again, Refunded)
        assert (again.refunded_minor, again.fee_refunded_minor) == (1_000, 200)
        [transfer] = [item for item in await sandbox.objects("transfer") if item["destination"] == pair.account_id]
        assert transfer["amount_reversed"] == 1_000, "the creator's share is taken back once"

    async def test_a_subscriptions_payment_is_refunded_in_the_subscribers_name(self, stripe_provider: StripeProvider, pair: Pair) -> None:
        started = await stripe_provider.subscribe(pair.subscribe(price(2_000)))
        [bill] = await stripe_provider.observe((await subscription_state(stripe_provider, started.object_id)).latest_invoice_id or "")
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


class TestCreators:
    async def test_a_creator_is_paid_only_after_onboarding(self, stripe_provider: StripeProvider, sandbox: SandboxDriver, pair: Pair) -> None:
        creator_id = new_id()
        onboarding = await stripe_provider.onboard(new_id(), creator_id, "US", "http://app/return", "http://app/refresh")
        found = await stripe_provider.account(onboarding.account_id)
        assert (found.creator_id, found.charges_enabled, found.details_submitted) == (creator_id, False, False)
        assert found.due
        with pytest.raises(ProviderRefused):
            await stripe_provider.pay(pair.pay(account_id=onboarding.account_id))
        async with local_client(timeout=60) as client:
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


@pytest.mark.parametrize("provider", [StripeProvider, HostedFormProvider])
def test_the_adapter_has_everything_that_the_protocol_asks_for(provider: type[StripeProvider | HostedFormProvider]) -> None:
    asked = {name: method for name, method in inspect.getmembers(PaymentProvider, inspect.isfunction) if not name.startswith("_")}
    assert asked
    for name, method in asked.items():
        assert inspect.signature(getattr(provider, name)).parameters.keys() == inspect.signature(method).parameters.keys(), name
    assert isinstance(provider.capabilities, Capabilities)
    assert provider.name
