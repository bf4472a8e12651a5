"""Sending a batch until it is decided: at once to many, again to those a provider could not take, never for ever."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from writers.push.provider import LONGEST_WAIT_S, PAYLOAD_BYTES, Message, Outcome, Provider, Target, cut

log = structlog.get_logger(__name__)

AT_ONCE: Final = 64
REMEMBERED: Final = 100_000
"""Pushes of this process that are not sent again when their batch comes again."""
ATTEMPTS: Final = 5
"""For one device while others are served; while nobody is, a push is tried until it is too old."""
CREDENTIALS_WAIT_S: Final = 300.0
"""Between two attempts with keys that were refused: one message each."""
SHORTEST_WAIT_S: Final = 1.0
POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Push:
    """One message for one device."""

    target: Target
    message: Message

    @property
    def key(self) -> tuple[str, str]:
        return self.message.push_id, self.target.device_id


class Stopping(Exception):
    """The process is about to end; what is left is sent by the next."""


class Delivery:
    """Delivers through one provider, on one event loop."""

    def __init__(self, provider: Provider, stopping: Callable[[], bool], *, wait_s: float | None = None) -> None:
        """``wait_s``: the pause after refused keys; None: five minutes."""
        self._provider = provider
        self._stopping = stopping
        self._wait_s = CREDENTIALS_WAIT_S if wait_s is None else wait_s
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.counts: Counter[str] = Counter()
        self.stopped = ""
        """Why nothing is sent: the platform's own keys are refused."""
        self.waits_s = 0.0

    async def deliver(self, pushes: Sequence[Push]) -> list[tuple[Push, Outcome]]:
        """Those that can never be delivered again (``unregistered``), once every push is decided.

        Raises Stopping: some are not decided.
        """
        pending = [push for push in pushes if push.key not in self._done]
        attempts: Counter[tuple[str, str]] = Counter()
        gone: list[tuple[Push, Outcome]] = []
        rounds_in_vain = 0
        while pending:
            pending = [push for push in pending if self._worth(push)]
            # While the keys are refused one message asks whether they still are.
            batch = pending[: 1 if self.stopped else len(pending)]
            if not batch:
                break
            if self._stopping():
                raise Stopping
            outcomes = await self._round(batch)
            refused = next((outcome for outcome in outcomes if outcome.what == "credentials"), None)
            self._note_credentials(refused)
            left: list[Push] = []
            waits: list[float | None] = []
            served = any(outcome.what == "sent" for outcome in outcomes)
            for push, outcome in zip(batch, outcomes, strict=True):
                attempts[push.key] += served
                if outcome.what == "wait" and attempts[push.key] < ATTEMPTS:
                    left.append(push)
                    waits.append(outcome.retry_after_s)
                elif outcome.what == "credentials":
                    left.append(push)
                else:
                    self._decided(push, outcome)
                    if outcome.what == "unregistered":
                        gone.append((push, outcome))
            pending = left + pending[len(batch):]
            rounds_in_vain = 0 if served else rounds_in_vain + 1
            if refused is not None:
                await self._pause(self._wait_s)
            elif waits:
                backoff_s = min(LONGEST_WAIT_S, SHORTEST_WAIT_S * 2 ** min(rounds_in_vain, 8))
                await self._pause(max(backoff_s if wait_s is None else wait_s for wait_s in waits))
        return gone

    async def _round(self, pushes: Sequence[Push]) -> list[Outcome]:
        limit = asyncio.Semaphore(AT_ONCE)

        async def send(push: Push) -> Outcome:
            async with limit:
                try:
                    return await self._send(push)
                except Exception:
                    log.exception("push_failed", provider=self._provider.name, device=push.target.device_id)
                    return Outcome("rejected", "failed")

        return await asyncio.gather(*(send(push) for push in pushes))

    async def _send(self, push: Push) -> Outcome:
        """What becomes of a push; one that is too large is cut, once."""
        outcome = await self._provider.send(push.target, push.message)
        shorter = cut(push.message, 2 * PAYLOAD_BYTES, PAYLOAD_BYTES) if outcome.what == "too_large" else None
        if shorter is not None:
            self.counts["cut"] += 1
            outcome = await self._provider.send(push.target, shorter)
        return Outcome("rejected", outcome.reason) if outcome.what == "too_large" else outcome

    def _worth(self, push: Push) -> bool:
        worth = push.message.expires_at > datetime.now(UTC)
        self.counts["too_old"] += not worth
        return worth

    def _decided(self, push: Push, outcome: Outcome) -> None:
        self.counts["gave_up" if outcome.what == "wait" else outcome.what] += 1
        if outcome.what != "sent":
            log.info("push_not_delivered", provider=self._provider.name, what=outcome.what, reason=outcome.reason, device=push.target.device_id)
        self._done[push.key] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    def _note_credentials(self, refused: Outcome | None) -> None:
        if refused is not None and not self.stopped:
            log.error("push_stopped", provider=self._provider.name, reason=refused.reason)
        elif refused is None and self.stopped:
            log.info("push_resumed", provider=self._provider.name)
        self.counts["credentials_refused"] += refused is not None
        self.stopped = "" if refused is None else refused.reason

    async def _pause(self, seconds: float) -> None:
        """Raises Stopping."""
        self.counts["waits"] += 1
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stopping():
                raise Stopping
            await asyncio.sleep(min(left, POLL_S))
