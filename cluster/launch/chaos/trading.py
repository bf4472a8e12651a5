"""What people of a run buy and give, and who sells: creators with posts for sale, payers with saved cards in the sandbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import httpx

CREATORS: Final = 2
POSTS: Final = 12
"""Of each creator, one of which each payer buys once."""
PRICE_MINOR: Final = 500
CURRENCY: Final = "USD"
VERIFIED_S: Final = 60.0
PAGE: Final = 100
CARD: Final = "pm_card_visa"
BACK: Final = "http://localhost/back"

Ask = Callable[[str, str, dict[str, Any] | None], Awaitable[httpx.Response | None]]
"""(method, path, body) as one person."""


class Market:
    """Who sells what, and with which card each payer pays. The sandbox delivers every webhook twice."""

    def __init__(self, sandbox_url: str, key: str) -> None:
        self._sandbox = httpx.AsyncClient(base_url=sandbox_url, timeout=30.0)
        self._key = key
        self.creators: list[str] = []
        self.posts: list[str] = []
        self.cards: dict[str, str] = {}

    async def open(self, creators: Mapping[str, Ask], payers: Mapping[str, Ask]) -> None:
        """Makes all of it, while nothing is wrong yet. Raises RuntimeError: something was refused."""
        await self._command("webhooks", {"duplicate": 1})
        for user_id, ask in creators.items():
            await self._sell(user_id, ask)
        for user_id, ask in payers.items():
            setup = await _ok(ask("POST", "/payments/methods/setup", {}))
            confirmed = await self._sandbox.post(
                f"/v1/setup_intents/{setup['id']}/confirm", headers={"Authorization": "Bearer pk_test_sandbox"},
                data={"client_secret": setup["clientSecret"], "payment_method": CARD},
            )
            self.cards[user_id] = str(confirmed.raise_for_status().json()["payment_method"])

    async def _sell(self, user_id: str, ask: Ask) -> None:
        """The local stand-ins check the age and open the account."""
        check = await _ok(ask("POST", "/users/me/verification", {}))
        link = None
        async with httpx.AsyncClient(timeout=30.0) as outside:
            (await outside.post(check["url"], data={"outcome": "verified"}, follow_redirects=False)).read()
            deadline = time.monotonic() + VERIFIED_S
            while (await _ok(ask("GET", "/users/me/verification", None)))["status"] != "verified":
                if time.monotonic() > deadline:
                    raise RuntimeError("a creator's age was not verified")
                await asyncio.sleep(0.5)
            link = await _ok(ask("POST", "/payments/connect/onboarding", {"country": "US", "returnUrl": BACK, "refreshUrl": BACK}))
            await outside.post(link["url"], follow_redirects=False)
        self.creators.append(user_id)
        access = {"visibility": "ppv", "price": {"amount": f"{PRICE_MINOR // 100}.00", "currency": CURRENCY}}
        for number in range(POSTS):
            made = await _ok(ask("POST", "/content/posts", {
                "contentType": "text", "caption": f"post {number}", "access": access, "state": "published",
            }))
            self.posts.append(made["postId"])

    async def charges(self) -> dict[str, tuple[str, int]]:
        """What the processor charged: its payment -> (payer, minor units)."""
        charged: dict[str, tuple[str, int]] = {}
        page: dict[str, str | int] = {"limit": PAGE}
        while True:
            answer = await self._sandbox.get("/v1/payment_intents", params=page, headers={"Authorization": f"Bearer {self._key}"})
            told = answer.raise_for_status().json()
            for found in told["data"]:
                if found["status"] == "succeeded":
                    charged[found["id"]] = found["metadata"]["payerId"], int(found["amount"])
            if not told["has_more"]:
                return charged
            page["starting_after"] = told["data"][-1]["id"]

    async def _command(self, name: str, wanted: dict[str, Any]) -> None:
        answer = await self._sandbox.post(f"/sandbox/{name}", json=wanted, headers={"Authorization": f"Bearer {self._key}"})
        answer.raise_for_status()

    async def close(self) -> None:
        await self._sandbox.aclose()


async def _ok(answering: Awaitable[httpx.Response | None]) -> Any:
    answer = await answering
    if answer is None or not answer.is_success:
        raise RuntimeError(f"the market cannot open: {answer and answer.text[:200]}")
    return answer.json()
