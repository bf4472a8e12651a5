"""Calling Stripe: one client, its errors in our words, and the provider's time."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from configs.contracts.payments import (
    ObjectUnknown,
    PaymentDeclined,
    PaymentMethodUnusable,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderUnavailable,
    RequestConflict,
)

if TYPE_CHECKING:
    from stripe import HTTPXClient, StripeClient

Object = dict[str, Any]
METHOD_PARAMS: Final = ("payment_method", "default_payment_method")


def http_client(timeout_s: float) -> HTTPXClient:
    """Connections of one event loop; close them there."""
    import stripe

    return stripe.HTTPXClient(timeout=timeout_s)


def client(key: str, http: HTTPXClient, *, url: str, retries: int) -> StripeClient:
    """The official client. ``url``: another base address than Stripe's own."""
    import stripe

    # It would tell Stripe how long our calls take.
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        key, max_network_retries=retries, http_client=http,
        base_addresses={"api": url, "connect": url, "files": url} if url else None,
    )


class Calls:
    """Awaits calls of the client and gives back plain dicts."""

    def __init__(self) -> None:
        self._ahead_s = (float("-inf"), float("inf"))
        """Bounds of the provider's clock minus ours."""

    async def __call__(self, call: Awaitable[Any]) -> Object:
        """The answer, with the moment of which it is true at the latest under ``_read_at``.

        ``_replayed``: Stripe repeats what it answered to the same request before. What has happened since is not in it, so no
        fact may be made of it.

        Raises ProviderUnavailable, PaymentDeclined, ObjectUnknown, RequestConflict, ProviderRefused, ProviderMisconfigured.
        """
        import stripe

        asked_at = time.time()
        try:
            answer = await call
        except stripe.StripeError as error:
            raise translated(error) from error
        found: Object = answer.to_dict()
        response = answer.last_response
        found["_read_at"] = self._provider_time(asked_at, response)
        found["_replayed"] = response is not None and response.headers.get("idempotent-replayed") == "true"
        return found

    def _provider_time(self, asked_at: float, response: Any) -> datetime:
        """When the call began, on the provider's clock.

        Its Date header has whole seconds and our clock has not. While the headers allow that both clocks agree, they do, and
        while they allow that one was set ahead by whole seconds, as the sandbox's is, it was: order between processes is exact
        then. Else the least difference that the headers allow is added: order within this process is exact, between processes
        within a second.
        """
        stamp = response.headers.get("date") if response is not None else None
        if not stamp:
            return datetime.fromtimestamp(asked_at, UTC)
        second = parsedate_to_datetime(stamp).timestamp()
        told = second - time.time(), second + 1.0 - asked_at
        least, most = max(self._ahead_s[0], told[0]), min(self._ahead_s[1], told[1])
        if least > most:
            # A clock was set: what was learnt before is of no use.
            least, most = told
        self._ahead_s = least, most
        ahead_s = float(math.ceil(least)) if least >= 1.0 and math.ceil(least) <= most else max(least, min(0.0, most))
        return datetime.fromtimestamp(asked_at + ahead_s, UTC)


def translated(error: Any) -> Exception:
    """Stripe's error in our words; never its message, which may hold what people entered."""
    import stripe

    facts = {"code": error.code, "status": error.http_status, "request": error.request_id}
    if isinstance(error, stripe.CardError):
        body: Any = error.json_body or {}
        detail = body.get("error", {})
        return PaymentDeclined("the payment method was refused", **facts | {"code": detail.get("decline_code") or error.code})
    if isinstance(error, stripe.APIConnectionError | stripe.RateLimitError) or error.http_status == 409:
        return ProviderUnavailable("the payment provider does not answer", **facts)
    if isinstance(error, stripe.IdempotencyError):
        return RequestConflict("the request was made before with other contents", **facts)
    if error.code == "account_invalid":
        return ObjectUnknown("no such account at the payment provider", **facts)
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return ProviderMisconfigured("the payment provider refuses our key", **facts)
    if isinstance(error, stripe.InvalidRequestError):
        facts["param"] = error.param
        if error.param in METHOD_PARAMS:
            return PaymentMethodUnusable("the payment method cannot be used", **facts)
        if error.code == "resource_missing":
            return ObjectUnknown("no such object at the payment provider", **facts)
        return ProviderRefused("the payment provider finds the request wrong", **facts)
    return ProviderUnavailable("the payment provider failed", **facts)
