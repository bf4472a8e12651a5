"""Delivers events as signed webhooks, and badly when the switches say so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from typing import Final

import httpx

from cluster.embedded.sandbox_provider.events import public
from cluster.embedded.sandbox_provider.sandbox import Sandbox
from cluster.embedded.sandbox_provider.store import Document

TICK_S: Final = 0.05
IDLE_S: Final = 1.0
AT_ONCE: Final = 8
ATTEMPTS: Final = 20
RETRY_MOST_S: Final = 60.0
QUIET_S: Final = 0.3
"""With ``reorder``: how long nothing new must have come before a batch is shuffled and sent."""


class Sender:
    """Sends what waits, oldest first, several at once; order is not promised, as with Stripe."""

    def __init__(self, sandbox: Sandbox, url: str, secrets: tuple[str, ...]) -> None:
        self._sandbox = sandbox
        self.url = url
        self.secrets = secrets
        self._client = httpx.AsyncClient(timeout=10.0)
        self._random = random.Random(1)  # noqa: S311  not for secrets
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Looks when something happened, often while anything waits, and else once a second."""
        happened = asyncio.Event()
        self._sandbox.events.emitted = happened.set
        while True:
            happened.clear()
            await self.step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(happened.wait(), TICK_S if self._not_before else IDLE_S)

    def waiting(self) -> list[Document]:
        """Events that are to be sent, oldest first, those of connected accounts too."""
        return self._sandbox.store.waiting_events()

    async def step(self) -> int:
        """Sends a batch of what is due now; returns how many were tried."""
        switches, now = self._sandbox.switches, time.monotonic()
        waiting = self.waiting()
        if switches["drop"]:
            for event in waiting:
                self._save(event, state="dropped")
            return 0
        for event in waiting:
            self._not_before.setdefault(event["id"], now + (switches["delay_s"] or (QUIET_S if switches["reorder"] else 0.0)))
        if switches["reorder"]:
            if any(self._not_before[event["id"]] > now for event in waiting):
                return 0
            self._random.shuffle(waiting)
        due = [event for event in waiting if self._not_before[event["id"]] <= now][:AT_ONCE]
        if due:
            await asyncio.gather(*(self._send(event, 1 + switches["duplicate"]) for event in due))
        return len(due)

    async def _send(self, event: Document, copies: int) -> None:
        from stripe import WebhookSignature

        body = json.dumps(public(event))
        now = int(time.time())
        signatures = [WebhookSignature.generate_signature_header(body, secret, now).partition(",")[2] for secret in self.secrets]
        headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": ",".join([f"t={now}", *signatures])}
        for _ in range(copies):
            try:
                status = (await self._client.post(self.url, content=body.encode(), headers=headers)).status_code
            except httpx.HTTPError:
                status = 0
        attempts = event["_delivery"]["attempts"] + 1
        if 200 <= status < 300:
            self._save(event, state="delivered", attempts=attempts)
        elif attempts >= ATTEMPTS:
            self._save(event, state="given_up", attempts=attempts)
        else:
            self._not_before[event["id"]] = time.monotonic() + min(RETRY_MOST_S, 0.25 * 2 ** attempts)
            self._save(event, keep_place=True, state="waiting", attempts=attempts)

    def _save(self, event: Document, *, keep_place: bool = False, **delivery: object) -> None:
        if not keep_place:
            self._not_before.pop(event["id"], None)
        with self._sandbox.store.changing():
            self._sandbox.store.save(event | {"_delivery": event["_delivery"] | delivery, "pending_webhooks": int(delivery["state"] == "waiting")})

    async def close(self) -> None:
        await self._client.aclose()
