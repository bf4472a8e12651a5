"""Web Push (RFC 8030), encrypted for the subscription (RFC 8291) and signed by VAPID (RFC 8292).

Promise: none against repetition. A repetition has the same ``Topic``, which replaces a message that still waits at the
push service; one that was shown already is replaced by the page's service worker, which gets the same ``tag``.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import msgspec

from configs.contracts.errors import ConfigurationError
from configs.settings import Push
from writers.push.http import client, retry_after_s, unreachable
from writers.push.provider import SENT, Message, Outcome, Target, fitted

PLAIN_BYTES: Final = 3_993
"""What fits into the 4,096 bytes that every push service takes (RFC 8291 section 4)."""
SIGNATURE_LIFE_S: Final = 6 * 3_600
"""At most 24 hours are allowed."""
ORIGINS: Final = 64
"""Signatures remembered; with more they are made anew."""


def encode(message: Message) -> bytes:
    return msgspec.json.encode({
        "title": message.title, "body": message.body, "tag": message.collapse,
        "data": {**message.data, "pushId": message.push_id},
    })


def is_known(endpoint: str, hosts: tuple[str, ...]) -> bool:
    """Whether the endpoint is a push service's that this platform may post to."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    return parts.scheme == "https" and any(host == name or (name.startswith(".") and host.endswith(name)) for name in hosts)


class WebPush:
    """Sends to the push services of browsers. Raises ConfigurationError: the key cannot be used.

    A refused signature (401, 403) is the subscription's: it may have been made for another key, by anybody. So it is
    counted and stops nobody else.
    """

    name = "webpush"
    platforms = frozenset({"webpush"})

    def __init__(self, settings: Push, *, clock: Callable[[], float] = time.time) -> None:
        from py_vapid import Vapid02, VapidException

        try:
            self._vapid: Any = Vapid02.from_pem(settings.vapid_key_pem.get_secret_value().encode())
        except (ValueError, TypeError, VapidException) as error:
            raise ConfigurationError("push.vapid_key_pem cannot be used") from error
        self._settings = settings
        self._clock = clock
        self._client = client(settings)
        self._signatures: dict[str, tuple[float, dict[str, str]]] = {}

    async def send(self, target: Target, message: Message) -> Outcome:
        from pywebpush import WebPusher, WebPushException

        if not is_known(target.token, self._settings.webpush_hosts):
            return Outcome("rejected", "unknown_host")
        keys = {"p256dh": target.public_key or "", "auth": target.auth_secret or ""}
        _, payload = fitted(message, encode, PLAIN_BYTES)
        try:
            sealed = WebPusher({"endpoint": target.token, "keys": keys}).encode(payload, content_encoding="aes128gcm")
        except (WebPushException, ValueError, TypeError):
            return Outcome("unregistered", "keys_unusable")
        seconds = max(0, int((message.expires_at - datetime.now(UTC)).total_seconds()))
        headers = {
            "ttl": str(seconds), "content-encoding": "aes128gcm", "content-type": "application/octet-stream", "urgency": "high",
            "topic": base64.urlsafe_b64encode(UUID(message.collapse).bytes).rstrip(b"=").decode(), **self._signature(target.token),
        }
        try:
            answer = await self._client.post(target.token, content=sealed["body"], headers=headers)
        except httpx.HTTPError as error:
            return unreachable(error)
        except httpx.InvalidURL:
            return Outcome("unregistered", "not_an_address")
        return _outcome(answer)

    def _signature(self, endpoint: str) -> dict[str, str]:
        parts = urlsplit(endpoint)
        origin, now = f"{parts.scheme}://{parts.netloc}", self._clock()
        made_at, headers = self._signatures.get(origin, (float("-inf"), {}))
        if now - made_at > SIGNATURE_LIFE_S / 2:
            claims = {"aud": origin, "exp": str(int(now) + SIGNATURE_LIFE_S), "sub": self._settings.vapid_subject}
            headers = {name.lower(): value for name, value in self._vapid.sign(claims).items()}
            if len(self._signatures) >= ORIGINS:
                self._signatures.clear()
            self._signatures[origin] = now, headers
        return headers

    async def close(self) -> None:
        await self._client.aclose()


def _outcome(answer: httpx.Response) -> Outcome:
    status = answer.status_code
    if status in (200, 201, 202):
        return SENT
    if status in (404, 410):
        return Outcome("unregistered", str(status))
    if status == 413:
        return Outcome("too_large", str(status))
    if status == 429 or status >= 500:
        return Outcome("wait", str(status), retry_after_s(answer))
    return Outcome("rejected", "signature_refused" if status in (401, 403) else str(status))
