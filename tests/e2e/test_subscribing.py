"""A creator opens a shop and somebody subscribes, on a whole platform: sandbox, webhooks, writers and shards together."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from running import Platform, eventually

from cluster.connections.postgres import connect

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]

PASSWORD = "correct horse battery"
MONTH_S = 32 * 86_400


class Somebody:
    """A person at the API."""

    def __init__(self, client: httpx.Client, role: str, number: str) -> None:
        body = {"email": f"{number}@example.com", "password": PASSWORD, "role": role, "displayName": role, "birthDate": "1994-05-17"}
        made = client.post("/auth/register", json=body).json()
        self.user_id, self._client = made["userId"], client
        self._headers = {"Authorization": f"Bearer {made['accessToken']}"}

    def ok(self, method: str, path: str, *, key: str = "", **options: Any) -> Any:
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        answer = self._client.request(method, path, headers=headers, **options)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()


def test_a_subscription_is_paid_renewed_and_stopped_by_a_block(platform: Platform) -> None:
    platform.wait_well()
    settings = platform.settings
    sandbox = httpx.Client(
        base_url=settings.payments.stripe_url, headers={"Authorization": f"Bearer {settings.payments.stripe_key.get_secret_value()}"},
        timeout=60.0,
    )
    with platform.client() as client, sandbox:
        creator, fan = Somebody(client, "sugar_baby", "shop-creator"), Somebody(client, "sugar_daddy", "shop-fan")
        check = creator.ok("POST", "/users/me/verification")
        assert httpx.post(check["url"], data={"outcome": "verified"}, timeout=30.0).status_code < 400
        eventually(lambda: creator.ok("GET", "/users/me/verification")["status"] == "verified", 30.0)
        back = f"http://localhost:{platform.port}/"
        link = creator.ok("POST", "/payments/connect/onboarding", json={"country": "US", "returnUrl": back, "refreshUrl": back})
        assert httpx.post(link["url"], timeout=30.0).status_code == 303
        assert creator.ok("GET", "/payments/connect/account")["chargesEnabled"] is True
        tier = creator.ok("POST", "/subscriptions/tiers", json={"rank": 1, "name": "Gold", "currency": "USD", "priceMonthly": "9.99"})

        setup = fan.ok("POST", "/payments/methods/setup")
        saved = httpx.post(
            f"{settings.payments.stripe_url}/v1/setup_intents/{setup['id']}/confirm", headers={"Authorization": "Bearer pk_test_sandbox"},
            data={"client_secret": setup["clientSecret"], "payment_method": "pm_card_visa"}, timeout=30.0,
        ).json()
        made = fan.ok("POST", "/subscriptions", key="one", json={
            "tierId": tier["tierId"], "interval": "month", "paymentMethodId": saved["payment_method"],
        })
        assert (made["status"], made["livemode"]) == ("active", False)
        own = f"/subscriptions/{made['id']}"
        first = fan.ok("GET", own)["currentPeriodEnd"]
        eventually(lambda: [one["userId"] for one in creator.ok("GET", "/subscriptions/subscribers")["subscribers"]] == [fan.user_id], 30.0)

        # A month on the sandbox's clock: the renewal is its own doing, and webhooks alone tell of it.
        assert sandbox.post("/sandbox/clock", json={"advance_s": MONTH_S}).status_code == 200
        eventually(lambda: first < (shown := fan.ok("GET", own))["entitledUntil"] == shown["currentPeriodEnd"], 60.0)

        creator.ok("POST", f"/users/{fan.user_id}/block")
        eventually(lambda: [
            found for found in sandbox.get("/sandbox/objects/subscription").json()["data"]
            if found["metadata"]["requestId"] == made["id"] and found["cancel_at_period_end"]
        ], 60.0)
        with connect(settings, "test") as conn:
            eventually(lambda: conn.execute(
                "SELECT 1 FROM subscriptions WHERE id = %s AND cancel_at_period_end AND NOT unsettled", (made["id"],)
            ).fetchone(), 60.0)
