"""What Stripe reports: webhooks that it signed, and its own list of events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from cluster.connections.payments.stripe_calls import Calls, Object
from cluster.connections.payments.stripe_looking import moment
from configs.contracts.payments import Report, WebhookForged, WebhookStale, WebhookUnreadable

if TYPE_CHECKING:
    from stripe import RequestOptions, StripeClient

PLATFORM_KINDS: Final = (
    "customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted",
    "customer.subscription.paused", "customer.subscription.resumed", "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired", "invoice.paid", "invoice.payment_failed", "invoice.payment_action_required",
    "payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled", "charge.refunded", "refund.failed",
    "charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed", "account.updated",
)
ACCOUNT_KINDS: Final = ("payout.paid", "payout.failed", "payout.canceled", "account.updated")
"""What happens in creators' own accounts."""
KINDS: Final = frozenset((*PLATFORM_KINDS, *ACCOUNT_KINDS))
PAGE: Final = 100
LISTED_TYPES: Final = 20
"""Stripe's limit for ``types``."""
FUTURE_S: Final = 300


class Reports:
    """``secrets``: whose signatures are believed; older than ``tolerance_s`` they are replays."""

    def __init__(self, client: StripeClient, calls: Calls, *, provider: str, secrets: Sequence[str], tolerance_s: int) -> None:
        self._v1 = client.v1
        self._ask = calls
        self._provider = provider
        self._secrets = tuple(secrets)
        self._tolerance_s = tolerance_s

    async def listed(self, since: datetime, *, accounts: bool = True) -> AsyncIterator[Report]:
        async for report in self._events(since, PLATFORM_KINDS, None):
            yield report
        if not accounts:
            return
        async for account_id in self._accounts():
            async for report in self._events(since, ACCOUNT_KINDS, account_id):
                yield report

    async def _events(self, since: datetime, kinds: tuple[str, ...], account_id: str | None) -> AsyncIterator[Report]:
        assert len(kinds) <= LISTED_TYPES
        after: str | None = None
        options: RequestOptions = {"stripe_account": account_id}
        while True:
            listed = await self._ask(self._v1.events.list_async({
                "created": {"gte": int(since.timestamp())}, "types": list(kinds), "limit": PAGE,
                **({"starting_after": after} if after else {}),
            }, options))
            for event in listed["data"]:
                report = report_of(event, self._provider)
                if report is not None:
                    yield report
            if not listed["has_more"]:
                return
            after = listed["data"][-1]["id"]

    async def _accounts(self) -> AsyncIterator[str]:
        after: str | None = None
        while True:
            listed = await self._ask(self._v1.accounts.list_async({"limit": PAGE, **({"starting_after": after} if after else {})}))
            for account in listed["data"]:
                yield account["id"]
            if not listed["has_more"]:
                return
            after = listed["data"][-1]["id"]

    def verified(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report | None:
        """See ``PaymentProvider.verify``."""
        from stripe import SignatureVerificationError, WebhookSignature

        header = headers.get("stripe-signature", "")
        if not header.isascii():
            raise WebhookForged("a signature is ASCII")  # Stripe's client would raise TypeError
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise WebhookForged("the body is no text") from error
        for secret in self._secrets:
            try:
                WebhookSignature.verify_header(text, header, secret)
                break
            except SignatureVerificationError:
                continue
        else:
            raise WebhookForged("no secret of ours signed this")
        signed_at = int(next(part[2:] for part in header.split(",") if part.startswith("t=")))
        if not -FUTURE_S <= now.timestamp() - signed_at <= self._tolerance_s:
            raise WebhookStale("signed too long ago", age_s=round(now.timestamp() - signed_at))
        try:
            event = json.loads(text)
            return report_of(event, self._provider, text)
        except (ValueError, KeyError, TypeError) as error:
            raise WebhookUnreadable("not an event of Stripe", kind=type(error).__name__) from error


def report_of(event: Object, provider: str, text: str | None = None) -> Report | None:
    """The report in an event; None: of a kind that concerns nobody. Raises KeyError, TypeError: not an event."""
    kind, found = str(event["type"]), event["data"]["object"]
    if kind not in KINDS:
        return None
    object_id = str(found["charge"] if kind == "refund.failed" else found["id"])
    if object_id.startswith("po_"):
        object_id = f"{event['account']}/{object_id}"
    return Report(
        provider=provider, event_id=str(event["id"]), object_id=object_id, kind=kind, livemode=bool(event["livemode"]),
        created_at=moment(int(event["created"])), body=text if text is not None else json.dumps(
            {name: value for name, value in event.items() if not name.startswith("_")}
        ),
    )
