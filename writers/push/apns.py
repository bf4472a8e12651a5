"""Apple's push service, by tokens (ES256) over HTTP/2.

https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
Promise: none against repetition. ``apns-id`` only names a request; ``apns-collapse-id`` (64 bytes at most) makes a
repetition replace what the device shows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import httpx
import jwt
import msgspec

from configs.contracts.errors import ConfigurationError
from configs.contracts.ids import derived_id
from configs.settings import Push
from writers.push.http import answer_json, client, retry_after_s, unreachable
from writers.push.provider import SENT, Message, Outcome, Target, fitted

_TOKEN: Final = re.compile("[0-9a-f]{64,200}")
TOKEN_LIFE_S: Final = 2_400.0
"""Apple takes tokens that are under an hour old and refuses renewals within 20 minutes."""
SOONEST_RENEWAL_S: Final = 1_200.0

UNREGISTERED: Final = frozenset({"Unregistered", "ExpiredToken", "BadDeviceToken"})
"""A device whose token was for another environment registers again when the app starts."""
CREDENTIALS: Final = frozenset({
    "InvalidProviderToken", "MissingProviderToken", "ExpiredProviderToken", "BadCertificate", "BadCertificateEnvironment",
    "Forbidden", "TopicDisallowed", "MissingTopic", "BadTopic",
})


def encode(message: Message) -> bytes:
    alert = {"title": message.title} | ({"body": message.body} if message.body else {})
    aps = {"alert": alert, "sound": "default", "thread-id": message.collapse}
    return msgspec.json.encode({**message.data, "pushId": message.push_id, "aps": aps})


class Apns:
    """Sends to APNs. Raises ConfigurationError: the key cannot be used."""

    name = "apns"
    platforms = frozenset({"apns"})

    def __init__(self, settings: Push, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._client = client(settings, http2=True)
        self._token = ""
        self._made_at = float("-inf")
        try:
            self._provider_token()
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise ConfigurationError("push.apns_key_pem cannot be used") from error

    def _provider_token(self, *, refused: bool = False) -> str:
        age_s = self._clock() - self._made_at
        if age_s > TOKEN_LIFE_S or (refused and age_s > SOONEST_RENEWAL_S):
            self._made_at = self._clock()
            self._token = jwt.encode(
                {"iss": self._settings.apns_team_id, "iat": int(self._made_at)},
                self._settings.apns_key_pem.get_secret_value(), algorithm="ES256",
                headers={"kid": self._settings.apns_key_id},
            )
        return self._token

    async def send(self, target: Target, message: Message) -> Outcome:
        if _TOKEN.fullmatch(target.token) is None:
            return Outcome("unregistered", "not_a_token")
        _, payload = fitted(message, encode)
        headers = {
            "apns-topic": self._settings.apns_topic, "apns-push-type": "alert", "apns-priority": "10",
            "apns-id": derived_id(message.push_id, target.device_id), "apns-collapse-id": message.collapse,
            "apns-expiration": str(int(message.expires_at.timestamp())), "content-type": "application/json",
        }
        token, again = self._provider_token(), False
        while True:
            try:
                answer = await self._client.post(
                    f"{self._settings.apns_url}/3/device/{target.token}", content=payload,
                    headers={**headers, "authorization": f"bearer {token}"},
                )
            except httpx.HTTPError as error:
                return unreachable(error)
            if again or answer_json(answer).get("reason") != "ExpiredProviderToken":
                return _outcome(answer)
            token, again = self._provider_token(refused=True), True

    async def close(self) -> None:
        await self._client.aclose()


def _outcome(answer: httpx.Response) -> Outcome:
    if answer.status_code == 200:
        return SENT
    said = answer_json(answer)
    reason = str(said.get("reason", answer.status_code))[:64]
    if answer.status_code == 410 or reason in UNREGISTERED:
        at = said.get("timestamp")
        since = datetime.fromtimestamp(at / 1_000, UTC) if isinstance(at, int) and 0 < at < 1 << 45 else None
        return Outcome("unregistered", reason, since=since)
    if reason == "PayloadTooLarge" or answer.status_code == 413:
        return Outcome("too_large", reason)
    if answer.status_code == 429 or answer.status_code >= 500 or reason == "IdleTimeout":
        return Outcome("wait", reason, retry_after_s(answer))
    if reason in CREDENTIALS or answer.status_code == 403:
        return Outcome("credentials", reason)
    return Outcome("rejected", reason)
