"""Signed URLs for reading stored objects: computed without asking the store, in microseconds, for every page of a feed.

A URL lives between one window and two (at most 10 minutes); within a window the same object has the same URL. Only what is
read bit by bit gets one that lasts as long as that takes.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

from configs.contracts.errors import ConfigurationError
from configs.settings import Media, Settings

CACHE_CONTROL: Final = "private, no-store"


class UrlSigner(Protocol):
    """Signs URLs for reading."""

    def get(self, key: str, now_s: float) -> str:
        """A URL under which the object can be read, also by ranges, until ``expires_s``."""
        ...

    def lasting(self, key: str, now_s: float, lasts_s: int) -> str:
        """A URL of the object that works for so long, whatever its window."""
        ...

    def expires_s(self, now_s: float) -> int:
        """When URLs that are signed now end, in Unix seconds."""
        ...

    def renewed_s(self, now_s: float) -> int:
        """When the same object gets another URL than now, in Unix seconds."""
        ...


def url_signer(settings: Settings) -> UrlSigner:
    """The signer of the configured store. Raises ConfigurationError: keys are missing."""
    media = settings.media
    if media.s3_endpoint:
        return S3Signer(media)
    return LocalSigner(media.local_url, local_key(media), media.url_ttl_s)


def local_key(media: Media) -> bytes:
    """The key of the local store's URLs. Raises ConfigurationError: there is none."""
    key = media.url_key.get_secret_value()
    if not key:
        raise ConfigurationError("media.url_key is empty")
    return bytes.fromhex(key)


def window_end(now_s: float, ttl_s: int) -> int:
    """The end of a URL that lives at most ``ttl_s`` and at least half of it."""
    half = ttl_s // 2
    return (int(now_s) // half + 2) * half


def signature(key: bytes, method: str, path: str, *facts: str) -> str:
    """What the local store's URLs are signed with."""
    text = "\n".join((method, path, *facts))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class LocalSigner:
    """URLs of the embedded store."""

    def __init__(self, base_url: str, key: bytes, ttl_s: int) -> None:
        self._base = base_url.rstrip("/")
        self._key = key
        self._ttl_s = ttl_s

    def expires_s(self, now_s: float) -> int:
        return window_end(now_s, self._ttl_s)

    def renewed_s(self, now_s: float) -> int:
        return window_end(now_s, self._ttl_s) - self._ttl_s // 2

    def get(self, key: str, now_s: float) -> str:
        return self._signed(key, window_end(now_s, self._ttl_s))

    def lasting(self, key: str, now_s: float, lasts_s: int) -> str:
        return self._signed(key, int(now_s) + lasts_s)

    def _signed(self, key: str, expires_s: int) -> str:
        expires = str(expires_s)
        return f"{self._base}/{key}?expires={expires}&signature={signature(self._key, 'GET', key, expires)}"


class S3Signer:
    """AWS Signature Version 4 in the query, as S3, R2 and their like check it.

    botocore would take 50 times as long and a second of import in every replica; tests compare both.
    """

    def __init__(self, media: Media) -> None:
        self._ttl_s = media.url_ttl_s
        self._region = media.s3_region
        self._access = media.s3_access_key_id
        self._secret = media.s3_secret_access_key.get_secret_value()
        parts = urlsplit(media.s3_endpoint)
        self._host = parts.netloc
        self._path = f"{parts.path.rstrip('/')}/{media.s3_bucket}/"
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._key_of_day = lru_cache(maxsize=4)(self._signing_key)

    def expires_s(self, now_s: float) -> int:
        return window_end(now_s, self._ttl_s)

    def renewed_s(self, now_s: float) -> int:
        return window_end(now_s, self._ttl_s) - self._ttl_s // 2

    def get(self, key: str, now_s: float) -> str:
        return self._signed(key, window_end(now_s, self._ttl_s) - self._ttl_s // 2 * 2, self._ttl_s)

    def lasting(self, key: str, now_s: float, lasts_s: int) -> str:
        return self._signed(key, int(now_s), lasts_s)

    def _signed(self, key: str, begins: int, lasts_s: int) -> str:
        at = datetime.fromtimestamp(begins, UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{at[:8]}/{self._region}/s3/aws4_request"
        path = quote(self._path + key, safe="/-_.~")
        query = (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256"
            f"&X-Amz-Credential={quote(f'{self._access}/{scope}', safe='-_.~')}"
            f"&X-Amz-Date={at}&X-Amz-Expires={lasts_s}&X-Amz-SignedHeaders=host"
            f"&response-cache-control={quote(CACHE_CONTROL, safe='-_.~')}"
        )
        request = f"GET\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signed = hmac.new(self._key_of_day(at[:8]), text.encode(), hashlib.sha256).hexdigest()
        return f"{self._base}{path}?{query}&X-Amz-Signature={signed}"

    def _signing_key(self, day: str) -> bytes:
        key = b"AWS4" + self._secret.encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key
