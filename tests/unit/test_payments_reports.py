"""Who is believed when a payment provider reports something, and what a hosted form's postbacks prove."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe import WebhookSignature

from cluster.connections.payments.hosted_form import HostedFormProvider, signed
from cluster.connections.payments.stripe import StripeProvider
from cluster.connections.payments.stripe_reports import ACCOUNT_KINDS, LISTED_TYPES, PLATFORM_KINDS
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import (
    DisputeClosed,
    InvoicePaid,
    PaymentSucceeded,
    Refunded,
    SubscriptionState,
)
from configs.contracts.payments import (
    CapabilityMissing,
    Discount,
    Pay,
    Price,
    Refund,
    Subscribe,
    WebhookForged,
    WebhookStale,
    WebhookUnreadable,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OLD, NEW = "whsec_old", "whsec_new"


def event(**changes: Any) -> bytes:
    return json.dumps({
        "id": "evt_1", "object": "event", "type": "customer.subscription.updated", "created": int(NOW.timestamp()), "livemode": False,
        "data": {"object": {"id": "sub_1"}},
    } | changes).encode()


def headers(body: bytes, secret: str = NEW, at: datetime = NOW) -> dict[str, str]:
    return {"stripe-signature": WebhookSignature.generate_signature_header(body.decode(), secret, int(at.timestamp()))}


@pytest.fixture(scope="module")
def stripe() -> StripeProvider:
    return StripeProvider("sk_test_x", webhook_secrets=[NEW, OLD], url="http://127.0.0.1:9", tolerance_s=300)


class TestStripe:
    @pytest.mark.parametrize("secret", [NEW, OLD])
    def test_both_secrets_count_while_they_are_changed(self, stripe: StripeProvider, secret: str) -> None:
        report = stripe.verify(event(), headers(event(), secret), NOW)
        assert report is not None
        assert (report.event_id, report.object_id, report.created_at, report.body) == ("evt_1", "sub_1", NOW, event().decode())

    def test_a_signature_by_nobody_of_ours_or_over_another_body_is_refused(self, stripe: StripeProvider) -> None:
        for body, signature in (
            (event(), headers(event(), "whsec_other")), (event(id="evt_2"), headers(event())), (event(), {}),
            (event(), {"stripe-signature": "t=,v1="}), (event(), {"stripe-signature": "v1=00"}), (b"\xff", headers(event())),
        ):
            with pytest.raises(WebhookForged):
                stripe.verify(body, signature, NOW)

    @pytest.mark.parametrize("age_s", [301, 86_400, -301])
    def test_a_replay_and_a_signature_of_the_future_are_refused(self, stripe: StripeProvider, age_s: int) -> None:
        with pytest.raises(WebhookStale):
            stripe.verify(event(), headers(event(), at=NOW - timedelta(seconds=age_s)), NOW)

    @pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b'{"type": "invoice.paid"}', b"no json"])
    def test_what_is_signed_and_no_event_is_unreadable(self, stripe: StripeProvider, body: bytes) -> None:
        with pytest.raises(WebhookUnreadable):
            stripe.verify(body, headers(body), NOW)

    def test_kinds_that_concern_nobody_are_taken_and_forgotten(self, stripe: StripeProvider) -> None:
        body = event(type="customer.created")
        assert stripe.verify(body, headers(body), NOW) is None

    def test_a_payout_names_the_account_in_which_it_lives(self, stripe: StripeProvider) -> None:
        body = event(type="payout.paid", account="acct_1", data={"object": {"id": "po_1"}})
        report = stripe.verify(body, headers(body), NOW)
        assert report is not None
        assert report.object_id == "acct_1/po_1"

    def test_no_more_kinds_are_listed_than_the_api_takes(self) -> None:
        assert max(len(PLATFORM_KINDS), len(ACCOUNT_KINDS)) <= LISTED_TYPES

    async def test_reports_of_the_other_mode_prove_nothing(self, stripe: StripeProvider) -> None:
        body = event(livemode=True)
        report = stripe.verify(body, headers(body), NOW)
        assert report is not None
        assert await stripe.facts(report) == (), "not even looked up"


PAYER, PAYEE, REQUEST, TIER = new_id(), new_id(), new_id(), new_id()
FORM = HostedFormProvider(url="https://pay.example/form", account="a-1", form_key="form", postback_keys=["new", "old"])


def postback(key: str = "new", **changes: str) -> bytes:
    fields = {
        "event": "sale", "eventId": "e1", "saleId": "s1", "transactionId": "t1", "timestamp": str(int(NOW.timestamp())), "sequence": "1",
        "test": "1", "payerId": PAYER, "payeeId": PAYEE, "requestId": REQUEST, "currency": "USD", "amount": "9.99", "fee": "1.99",
    } | changes
    return urlencode(fields | {"digest": signed(fields, key)}).encode()


def renewal(**changes: str) -> bytes:
    return postback(**{
        "event": "renewal", "tierId": TIER, "interval": "month", "feePercent": "20", "recurringPrice": "9.99", "status": "active",
        "periodStart": str(int(NOW.timestamp())), "periodEnd": str(int(NOW.timestamp()) + 30 * 86_400),
    } | changes)


async def facts(body: bytes) -> Any:
    report = FORM.verify(body, {}, NOW)
    assert report is not None
    return await FORM.facts(report)


class TestHostedForm:
    async def test_what_is_paid_for_is_signed_into_the_address(self) -> None:
        pay = Pay(
            request_id=REQUEST, payer_id=PAYER, payee_id=PAYEE, customer_id="", payment_method_id="", account_id="", amount_minor=999,
            currency="USD", fee_minor=199, purpose="tip",
        )
        form = await FORM.hosted_form(pay, "https://app/return", NOW)
        fields = dict(parse_qsl(urlsplit(form.url).query))
        assert (fields["price"], fields["currency"], fields["payerId"], fields["requestId"]) == ("9.99", "USD", PAYER, REQUEST)
        assert fields["digest"] == signed(fields, "form")
        assert fields["digest"] != signed(fields | {"price": "0.01"}, "form")
        assert (fields["expires"], form.expires_at) == (str(int(NOW.timestamp())), NOW)
        assert form.url == (await FORM.hosted_form(pay, "https://app/return", NOW)).url

    async def test_a_trial_costs_nothing_at_first(self) -> None:
        price = Price(tier_id=TIER, revision=1, name="Gold", interval="month", amount_minor=999, currency="USD")
        form = await FORM.hosted_form(Subscribe(
            request_id=REQUEST, subscriber_id=PAYER, creator_id=PAYEE, customer_id="", payment_method_id="", account_id="", price=price,
            fee_percent=20, trial_days=7,
        ), "https://app/return", NOW)
        fields = dict(parse_qsl(urlsplit(form.url).query))
        assert (fields["price"], fields["periodDays"], fields["recurringPrice"], fields["recurringDays"]) == ("0.00", "7", "9.99", "30")

    async def test_a_bundle_is_charged_for_all_its_months_each_time(self) -> None:
        price = Price(tier_id=TIER, revision=1, name="Gold", interval="month", interval_count=3, amount_minor=2_398, currency="USD")
        form = await FORM.hosted_form(Subscribe(
            request_id=REQUEST, subscriber_id=PAYER, creator_id=PAYEE, customer_id="", payment_method_id="", account_id="", price=price,
            fee_percent=20,
        ), "https://app/return", NOW)
        fields = dict(parse_qsl(urlsplit(form.url).query))
        assert (fields["price"], fields["periodDays"], fields["recurringPrice"], fields["recurringDays"]) == ("23.98", "90", "23.98", "90")
        [state] = [fact for fact in await facts(renewal(intervalCount="3", recurringPrice="23.98")) if isinstance(fact, SubscriptionState)]
        assert (state.interval, state.interval_count, state.amount_minor) == ("month", 3, 2_398)

    @pytest.mark.parametrize(("months", "signed_months"), [(None, "1"), (3, "3")])
    async def test_a_discount_is_signed_with_the_time_for_which_it_counts(self, months: int | None, signed_months: str) -> None:
        price = Price(tier_id=TIER, revision=1, name="Gold", interval="month", amount_minor=999, currency="USD")
        form = await FORM.hosted_form(Subscribe(
            request_id=REQUEST, subscriber_id=PAYER, creator_id=PAYEE, customer_id="", payment_method_id="", account_id="", price=price,
            fee_percent=20, discount=Discount(promo_id=new_id(), percent=50, months=months),
        ), "https://app/return", NOW)
        fields = dict(parse_qsl(urlsplit(form.url).query))
        assert (fields["price"], fields["recurringPrice"]) == ("4.99", "9.99")
        assert (fields["discountPercent"], fields["discountMonths"]) == ("50", signed_months)
        assert fields["digest"] != signed(fields | {"discountMonths": "12"}, "form")

    async def test_a_sale_proves_a_payment(self) -> None:
        [paid] = await facts(postback())
        assert isinstance(paid, PaymentSucceeded)
        assert (paid.amount_minor, paid.fee_minor, paid.payer_id, paid.livemode) == (999, 199, PAYER, False)

    async def test_a_renewal_proves_a_bill_and_the_subscriptions_state(self) -> None:
        bill, state = await facts(renewal())
        assert isinstance(bill, InvoicePaid)
        assert isinstance(state, SubscriptionState)
        assert (bill.amount_minor, bill.fee_minor, bill.reason, bill.subscription_id) == (999, 199, "renewal", "s1")
        assert (state.status, state.tier_id, (state.period_end - state.period_start).days) == ("active", TIER, 30)

    async def test_money_back_is_told_as_a_total(self) -> None:
        [back] = await facts(postback(event="refund", refundedTotal="5.00"))
        assert isinstance(back, Refunded)
        assert (back.refunded_minor, back.fee_refunded_minor) == (500, 199 * 500 // 999)
        _, closed = await facts(postback(event="chargeback_closed", won="0"))
        assert isinstance(closed, DisputeClosed)
        assert not closed.won

    def test_both_keys_count_and_no_others(self) -> None:
        assert FORM.verify(postback("old"), {}, NOW) is not None
        for body in (postback("other"), postback() + b"&amount=1.00", postback().replace(b"9.99", b"0.01"), b"", b"\xff"):
            with pytest.raises(WebhookForged):
                FORM.verify(body, {}, NOW)

    def test_a_replay_is_refused(self) -> None:
        with pytest.raises(WebhookStale):
            FORM.verify(postback(), {}, NOW + timedelta(seconds=301))

    @pytest.mark.parametrize("changes", [
        {"amount": "-1"}, {"amount": "9.999"}, {"currency": "XXX"}, {"sequence": "first"}, {"timestamp": "soon"}, {"timestamp": "9" * 30},
    ])
    def test_a_signed_postback_with_wrong_fields_is_unreadable(self, changes: dict[str, str]) -> None:
        with pytest.raises((WebhookUnreadable, WebhookStale)):
            FORM.verify(postback(**changes), {}, NOW)

    async def test_what_it_cannot_do_it_says(self) -> None:
        assert not FORM.capabilities.change_subscription
        assert FORM.capabilities.hosted_form
        with pytest.raises(CapabilityMissing):
            await FORM.cancel_at_period_end(REQUEST, "s1")
        with pytest.raises(CapabilityMissing):
            await FORM.refund(Refund(request_id=REQUEST, payment_id="t1"))

    @settings(max_examples=60, deadline=None)
    @given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=4))
    async def test_any_order_with_repetitions_ends_in_the_same_state(self, order: list[int], again: list[int]) -> None:
        bodies = [
            renewal(event="sale", sequence="1", eventId="e1"),
            renewal(sequence="2", eventId="e2", transactionId="t2"),
            renewal(event="cancellation", sequence="3", eventId="e3", cancelling="1"),
            renewal(event="expiration", sequence="4", eventId="e4", status="expired"),
        ]
        newest: SubscriptionState | None = None
        for at in [*order, *again]:
            for fact in await facts(bodies[at]):
                if isinstance(fact, SubscriptionState) and (newest is None or fact.order > newest.order):
                    newest = fact
        assert newest is not None
        assert newest.status == "expired"
