"""Firebase Cloud Messaging, HTTP v1: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode

httpx with google-auth's service account, not firebase-admin: that one fixes the address of the service in its code and
brings gRPC, Firestore and Storage into every writer. Promise: none against repetition; a repetition has the same
``collapse_key`` and ``tag``, so a waiting message is replaced, and so is what the device shows.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec

from configs.contracts.errors import ConfigurationError
from configs.settings import Push
from writers.push.http import TIMEOUT_S, answer_json, client, retry_after_s, unreachable
from writers.push.provider import SENT, Message, Outcome, Target, fitted

SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
QUOTA_WAIT_S: Final = 60.0
"""What FCM asks for when a 429 names no time."""


def encode(message: Message) -> bytes:
    """What counts against FCM's limit: notification and data."""
    return msgspec.json.encode([_notification(message), _data(message)])


def _notification(message: Message) -> dict[str, str]:
    return {"title": message.title} | ({"body": message.body} if message.body else {})


def _data(message: Message) -> dict[str, str]:
    return {**message.data, "pushId": message.push_id}


class Fcm:
    """Sends to FCM. Raises ConfigurationError: the service account cannot be used."""

    name = "fcm"
    platforms = frozenset({"fcm"})

    def __init__(self, settings: Push) -> None:
        from google.oauth2.service_account import Credentials

        try:
            account = json.loads(settings.fcm_service_account.get_secret_value())
            self._credentials = Credentials.from_service_account_info(account, scopes=[SCOPE])
            self._url = f"{settings.fcm_url}/v1/projects/{account['project_id']}/messages:send"
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError("push.fcm_service_account cannot be used") from error
        self._settings = settings
        self._client = client(settings, http2=True)
        self._renewing = asyncio.Lock()

    async def send(self, target: Target, message: Message) -> Outcome:
        refused = await self._sign_in()
        if refused is not None:
            return refused
        message, _ = fitted(message, encode)
        seconds = f"{max(0, int((message.expires_at - datetime.now(UTC)).total_seconds()))}s"
        body = {"message": {
            "token": target.token, "notification": _notification(message), "data": _data(message),
            "android": {
                "priority": "HIGH", "ttl": seconds, "collapse_key": message.collapse, "notification": {"tag": message.collapse},
            },
            "apns": {"headers": {"apns-collapse-id": message.collapse}},
        }}
        try:
            answer = await self._client.post(
                self._url, content=msgspec.json.encode(body),
                headers={"authorization": f"Bearer {self._credentials.token}", "content-type": "application/json"},
            )
        except httpx.HTTPError as error:
            return unreachable(error)
        return _outcome(answer)

    async def _sign_in(self) -> Outcome | None:
        """Renews the access token when it is about to expire; what went wrong, or None."""
        from google.auth.exceptions import RefreshError, TransportError

        async with self._renewing:
            if self._credentials.valid:
                return None
            try:
                await asyncio.to_thread(self._credentials.refresh, _transport(self._settings))
            except TransportError:
                return Outcome("wait", "token_endpoint")
            except RefreshError as error:
                return Outcome("wait" if error.retryable else "credentials", "token_refused")
        return None

    async def close(self) -> None:
        await self._client.aclose()


def _transport(settings: Push) -> Any:
    """google-auth's idea of a request, over httpx."""
    import ssl

    from google.auth.exceptions import TransportError

    class Answered:
        def __init__(self, answer: httpx.Response) -> None:
            self.status, self.headers, self.data = answer.status_code, answer.headers, answer.content

    def request(url: str, method: str = "GET", body: Any = None, headers: Any = None, **_: Any) -> Answered:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        try:
            with httpx.Client(verify=context, timeout=TIMEOUT_S, trust_env=False) as made:
                return Answered(made.request(method, url, content=body, headers=headers))
        except httpx.HTTPError as error:
            raise TransportError(type(error).__name__) from error

    return request


def _outcome(answer: httpx.Response) -> Outcome:
    if answer.status_code == 200:
        return SENT
    error = answer_json(answer).get("error")
    error = error if isinstance(error, dict) else {}
    details = [detail for detail in error.get("details") or () if isinstance(detail, dict)]
    code = next((str(detail["errorCode"]) for detail in details if "errorCode" in detail), str(error.get("status", answer.status_code)))[:64]
    fields = {
        violation.get("field") for detail in details for violation in detail.get("fieldViolations") or ()
        if isinstance(violation, dict)
    }
    if code == "UNREGISTERED" or (code == "INVALID_ARGUMENT" and "message.token" in fields):
        return Outcome("unregistered", code)
    if code in ("SENDER_ID_MISMATCH", "THIRD_PARTY_AUTH_ERROR"):
        return Outcome("rejected", code)
    if answer.status_code in (401, 403):
        return Outcome("credentials", code)
    if answer.status_code == 429:
        wait_s = retry_after_s(answer)
        return Outcome("wait", code, QUOTA_WAIT_S if wait_s is None else wait_s)
    if answer.status_code >= 500:
        return Outcome("wait", code, retry_after_s(answer))
    if answer.status_code == 413 or "too big" in str(error.get("message", "")).lower():
        return Outcome("too_large", code)
    return Outcome("rejected", code)
