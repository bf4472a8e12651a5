"""Age assurance: asking a service whether somebody is an adult, and believing its signed answer.

The service looks at whatever it looks at (a document, a face, a card); the platform learns a result and never sees it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from time import time
from typing import Final, Literal, Protocol

import msgspec

from configs.contracts.errors import DependencyUnavailable
from configs.settings import Assurance, Settings

TOLERANCE_S: Final = 300
"""Seconds by which an answer's time of signing may be off; older ones are replays."""
ANSWER_BYTES: Final = 65_536


class Started(msgspec.Struct, frozen=True):
    """A check that the service is waiting to make: where the person goes for it."""

    id: str
    url: str


class Result(msgspec.Struct, frozen=True):
    """What the service found. ``reference`` is what it was given when the check began."""

    reference: str
    outcome: Literal["verified", "failed"]
    method: str = ""


class AgeAssurance(Protocol):
    """One service. ``name`` goes into the record of every assessment."""

    @property
    def name(self) -> str: ...

    async def begin(self, reference: str) -> Started:
        """Raises DependencyUnavailable: the service does not answer; nothing was begun, or nobody will go there."""
        ...

    def result(self, body: bytes, signature: str) -> Result | None:
        """The answer in a callback's raw body; None: the service did not sign it, or not lately."""
        ...


def signature(secret: bytes, body: bytes, at_s: int) -> str:
    """What a callback carries in ``Assurance-Signature``: the time, and the HMAC-SHA256 of time and body."""
    seal = hmac.new(secret, b"%d." % at_s + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={seal}"


_RESULTS: Final = msgspec.json.Decoder(Result)


@dataclass(frozen=True, slots=True)
class HttpAssurance:
    """A service that takes ``POST /checks`` with a bearer token and calls back with a signed body.

    The embedded one (``cluster.embedded.assurance``) speaks it; another service is another class with these methods.
    """

    settings: Assurance
    callback_url: str

    @property
    def name(self) -> str:
        return self.settings.provider

    async def begin(self, reference: str) -> Started:
        import httpx

        asked = {"reference": reference, "callbackUrl": self.callback_url}
        headers = {"Authorization": f"Bearer {self.settings.callback_key.get_secret_value()}"}
        try:
            async with httpx.AsyncClient(timeout=self.settings.timeout_s) as client:
                answer = await client.post(f"{self.settings.url}/checks", json=asked, headers=headers)
            if answer.status_code != 201 or len(answer.content) > ANSWER_BYTES:
                raise DependencyUnavailable("age assurance refused the check", status=answer.status_code)
            return msgspec.json.decode(answer.content, type=Started)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError) as error:
            raise DependencyUnavailable("age assurance does not answer", kind=type(error).__name__) from error

    def result(self, body: bytes, signature_header: str) -> Result | None:
        stated = dict(part.partition("=")[::2] for part in signature_header.split(","))
        at = stated.get("t", "")
        if not at.isdecimal() or len(at) > 12 or abs(time() - int(at)) > TOLERANCE_S:
            return None
        made = signature(self.settings.callback_key.get_secret_value().encode(), body, int(at))
        if not hmac.compare_digest(made.encode(), signature_header.encode()):
            return None
        try:
            return _RESULTS.decode(body)
        except msgspec.MsgspecError:
            return None


def assurance(settings: Settings) -> AgeAssurance | None:
    """The configured service; None: none is."""
    if not settings.assurance.url:
        return None
    base = settings.assurance.callback_base or f"http://127.0.0.1:{settings.port}"
    return HttpAssurance(settings.assurance, f"{base}/api/v1/users/verification/result")
