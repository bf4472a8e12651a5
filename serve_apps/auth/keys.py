"""A provider's public keys (RFC 7517), fetched when they are needed and kept for as long as the provider says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

import structlog
from jwt import PyJWK, PyJWTError

from configs.contracts.errors import DependencyUnavailable

log = structlog.get_logger(__name__)

ALGORITHMS: Final = ("RS256", "ES256")
"""What providers sign with. Anything else, `none` and HMAC among it, is refused whatever the token says."""
KEYS_BYTES: Final = 65_536
KEPT_S: Final = (60.0, 86_400.0)
"""Bounds of the provider's max-age."""
DEFAULT_KEPT_S: Final = 3_600.0
UNKNOWN_EVERY_S: Final = 30.0
"""Least time between two fetches for a key that is not known: forged tokens must not become requests to the provider."""
FAILED_S: Final = 1.0
"""After a failed fetch nobody waits for the next one for this long."""

Fetch = Callable[[str], Awaitable[tuple[bytes, str]]]
"""URL -> (body, Cache-Control). Raises DependencyUnavailable."""


async def fetch(url: str, timeout_s: float) -> tuple[bytes, str]:
    """The body of a small document. Raises DependencyUnavailable: no answer in time, or not 200."""
    import httpx

    try:
        async with asyncio.timeout(timeout_s), httpx.AsyncClient(timeout=timeout_s) as client, client.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise DependencyUnavailable("the provider does not give its keys", status=answer.status_code)
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > KEYS_BYTES:
                    raise DependencyUnavailable("the provider's keys are too long")
            return body, answer.headers.get("cache-control", "")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        raise DependencyUnavailable("the provider does not answer", kind=type(error).__name__) from error


class ProviderKeys:
    """Keys by their id. One fetch at a time, whoever waits."""

    def __init__(self, url: str, fetch: Fetch, *, clock: Callable[[], float] = monotonic) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at: float | None = None
        self._fresh_until = 0.0
        self._failed_at: float | None = None
        self._lock = asyncio.Lock()
        self.fetches = 0

    async def key(self, kid: str) -> PyJWK | None:
        """The key, None when the provider has none of this id.

        Raises DependencyUnavailable: the keys are not known, or too old, and the provider does not answer.
        """
        if self._wanted(kid):
            async with self._lock:
                if self._wanted(kid):
                    await self._renew()
        return self._keys.get(kid)

    def _wanted(self, kid: str) -> bool:
        now = self._clock()
        if self._fetched_at is None or now >= self._fresh_until:
            return True
        return kid not in self._keys and now - self._fetched_at >= UNKNOWN_EVERY_S

    async def _renew(self) -> None:
        if self._failed_at is not None and self._clock() - self._failed_at < FAILED_S:
            raise DependencyUnavailable("the provider has just not answered")
        self.fetches += 1
        try:
            body, caching = await self._fetch(self._url)
            keys = _read(body)
        except DependencyUnavailable:
            self._failed_at = self._clock()
            raise
        self._keys, self._fetched_at, self._failed_at = keys, self._clock(), None
        self._fresh_until = self._fetched_at + _kept_s(caching)


def _kept_s(caching: str) -> float:
    found = re.search(r"max-age=(\d{1,9})", caching)
    return min(max(float(found[1]), KEPT_S[0]), KEPT_S[1]) if found else DEFAULT_KEPT_S


def _read(body: bytes) -> dict[str, PyJWK]:
    """The signing keys of a key set by id; those that cannot be used are left out."""
    import msgspec

    try:
        entries: Any = msgspec.json.decode(body)["keys"]
        found = {str(entry["kid"]): entry for entry in entries if entry.get("use", "sig") == "sig"}
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise DependencyUnavailable("the provider's keys cannot be read") from error
    keys: dict[str, PyJWK] = {}
    for kid, entry in found.items():
        algorithm = entry.get("alg") or {"RSA": "RS256", "EC": "ES256"}.get(entry.get("kty"), "")
        if algorithm in ALGORITHMS:
            try:
                keys[kid] = PyJWK(entry, algorithm)
            except PyJWTError:
                log.warning("provider_key_unusable", kind=str(entry.get("kty"))[:16])
    return keys
