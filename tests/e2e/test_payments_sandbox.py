"""The payments' sandbox of a whole platform: supervised, in status, and its webhooks become facts in rows."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest
from local_http import local_client
from payments_world import Pair, price
from running import Platform, eventually, sugar

from cluster.connections.payments import Providers
from cluster.connections.payments.stripe import StripeProvider
from configs.contracts.ids import new_id
from writers.connections import open_rows

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]


async def subscribed(platform: Platform) -> str:
    """Somebody subscribes at the sandbox; who."""
    providers = Providers(platform.settings)
    provider = await providers.present()
    assert isinstance(provider, StripeProvider)
    url = platform.settings.payments.stripe_url
    payer_id, creator_id = new_id(), new_id()
    customer_id = await provider.create_customer(new_id(), payer_id)
    started = await provider.setup_payment_method(new_id(), customer_id)
    onboarding = await provider.onboard(new_id(), creator_id, "US", "http://app/return", "http://app/refresh")
    async with local_client(timeout=30.0) as client:
        saved = await client.post(
            f"{url}/v1/setup_intents/{started.object_id}/confirm", headers={"Authorization": "Bearer pk_test_sandbox"},
            data={"client_secret": started.client_secret, "payment_method": "pm_card_visa"},
        )
        assert (await client.post(onboarding.url)).status_code == 303
    pair = Pair(payer_id, creator_id, customer_id, saved.json()["payment_method"], onboarding.account_id)
    await provider.subscribe(pair.subscribe(price(1_000)))
    await providers.close()
    return payer_id


def kinds(platform: Platform, owner_id: str) -> list[str]:
    with open_rows(platform.settings, "test") as conn:
        rows = conn.execute("SELECT kind FROM provider_facts WHERE owner_id = %s ORDER BY kind", (owner_id,)).fetchall()
    return [kind for (kind,) in rows]


def test_what_happens_at_the_sandbox_gets_into_rows_and_a_killed_sandbox_comes_back(platform: Platform) -> None:
    status = platform.wait_well()
    assert status["payments_url"] == platform.settings.payments.stripe_url
    payer_id = asyncio.run(subscribed(platform))
    eventually(lambda: {"invoice_paid", "subscription_state"} <= set(kinds(platform, payer_id)), 60)
    before = json.loads(sugar("payments", "show", "--json", "--data-dir", str(platform.data_dir)).stdout)
    assert (before["livemode"], before["objects"]["subscription"] >= 1) == (False, True)
    server = next(found for found in status["servers"] if found["name"] == "payments")
    os.kill(server["pid"], signal.SIGKILL)
    platform.wait_well()
    advance = ("payments", "advance", "--days", "32", "--data-dir", str(platform.data_dir))
    eventually(lambda: sugar(*advance, check=False).returncode == 0, 60)
    eventually(lambda: kinds(platform, payer_id).count("invoice_paid") == 2, 60)
