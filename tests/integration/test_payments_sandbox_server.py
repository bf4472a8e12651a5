"""The sandbox itself: that it refuses what the provider would, and comes back after a kill."""

from __future__ import annotations

import typing
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
import stripe
from local_http import local_client
from payments_world import KEY, Pair, SandboxDriver, price

from cluster.connections.payments.stripe import StripeProvider
from configs.contracts.ids import new_id
from configs.contracts.payments import (
    ProviderMisconfigured,
    ProviderUnavailable,
    Refund,
)


@pytest_asyncio.fixture
async def pair(sandbox: SandboxDriver, stripe_provider: StripeProvider) -> Pair:
    return await sandbox.pair(stripe_provider)


class TestTheSandboxItself:
    async def raw(self, sandbox: SandboxDriver, method: str, path: str, *, key: str = KEY, **options: Any) -> httpx.Response:
        async with local_client(base_url=sandbox.url, timeout=60) as client:
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
            async with local_client(timeout=60) as client:
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
