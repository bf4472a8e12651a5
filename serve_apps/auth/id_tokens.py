"""OpenID Connect id tokens (OpenID Connect Core 1.0, section 3.1.3.7): who a provider says somebody is."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any, Final

import jwt

from configs.settings import Oidc, Provider
from serve_apps.auth.keys import ALGORITHMS, Fetch, ProviderKeys, fetch
from serve_apps.problems import Refused

SKEW_S: Final = 60
LONGEST: Final = 8_192


@dataclass(frozen=True, slots=True)
class IdToken:
    """What a valid token says. ``email`` is None unless the provider vouches for it."""

    issuer: str
    subject: str
    email: str | None
    name: str | None
    used_until: float
    """Unix seconds until which the token would be taken."""


class IdTokens:
    """Verifies the id tokens of one provider."""

    def __init__(
        self, provider: Provider, settings: Oidc, *, get: Fetch | None = None, clock: Callable[[], float] = time
    ) -> None:
        self._provider = provider
        self._age_s = settings.token_age_s
        self._clock = clock
        timeout_s = settings.fetch_timeout_s
        self.keys = ProviderKeys(provider.jwks_url, get or (lambda url: fetch(url, timeout_s)))

    @property
    def configured(self) -> bool:
        return bool(self._provider.audiences)

    async def verify(self, text: str, nonce: str) -> IdToken:
        """What the token says. Raises Refused: it is not valid. DependencyUnavailable: the provider is away."""
        try:
            header = jwt.get_unverified_header(text)
        except jwt.PyJWTError as error:
            raise Refused("identity_token_invalid") from error
        kid, algorithm = header.get("kid"), header.get("alg")
        if len(text) > LONGEST or not isinstance(kid, str) or algorithm not in ALGORITHMS:
            raise Refused("identity_token_invalid")
        key = await self.keys.key(kid)
        if key is None or key.algorithm_name != algorithm:
            raise Refused("identity_token_invalid")
        try:
            claims: dict[str, Any] = jwt.decode(
                text, key.key, algorithms=[key.algorithm_name], audience=list(self._provider.audiences),
                issuer=list(self._provider.issuers),
                options={"require": ["iss", "aud", "exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
            )
            used_until = self._used_until(claims)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, AttributeError) as error:
            raise Refused("identity_token_invalid") from error
        if used_until is None or not self._is_ours(claims) or not _fits(claims.get("nonce"), nonce):
            raise Refused("identity_token_invalid")
        return IdToken(claims["iss"], claims["sub"], _vouched(claims), _text(claims.get("name"), 100), used_until)

    def _used_until(self, claims: dict[str, Any]) -> float | None:
        """Until when the token is taken; None: not now."""
        now, issued_at = self._clock(), float(claims["iat"])
        until = min(float(claims["exp"]), issued_at + self._age_s) + SKEW_S
        return until if issued_at - SKEW_S <= now < until else None

    def _is_ours(self, claims: dict[str, Any]) -> bool:
        """An authorised party, where there is one, must be one of our apps; without one only one audience may be named."""
        party, audience = claims.get("azp"), claims["aud"]
        if party is None:
            return isinstance(audience, str) or len(audience) == 1
        return party in self._provider.audiences


def _fits(claimed: Any, nonce: str) -> bool:
    """The nonce itself, or (Apple's apps) its SHA-256 in hex."""
    if not isinstance(claimed, str):
        return False
    hashed = hashlib.sha256(nonce.encode()).hexdigest()
    return any(hmac.compare_digest(claimed.encode(), wanted.encode()) for wanted in (nonce, hashed))


def _vouched(claims: dict[str, Any]) -> str | None:
    """Apple says "true" where others say true."""
    return _text(claims.get("email"), 254) if claims.get("email_verified") in (True, "true") else None


def _text(value: Any, longest: int) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= longest else None
