"""Access tokens: EdDSA JWTs, verified once and then known by their text until they expire."""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from configs.contracts.errors import ConfigurationError
from configs.settings import Auth

ALGORITHM: Final = "EdDSA"
INTERNAL_AUDIENCE: Final = "internal"
CACHED_TOKENS: Final = 100_000
"""Verified tokens remembered in one replica: one for each person online, about 40 MB."""
PARTS: Final = 64
"""Tables in which they are kept. Python makes a table anew each time as many have come and gone as it has room for: one of all of
them would stop the replica for milliseconds, and take 7 MiB and give them back by turns."""
LONGEST_TOKEN: Final = 4_096
HEADERS: Final = 64
"""Headers of which the key is remembered."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified token speaks for, until ``expires_at`` (Unix seconds).

    ``email_hash``: the account; ``sessions_from``: its state when the session began; ``signed_in_at`` (Unix seconds): when
    the person last proved who they are, 0 when the token does not say.
    """

    user_id: str
    family_id: str
    permission_role: str
    expires_at: float
    email_hash: str = ""
    sessions_from: int = 0
    signed_in_at: float = 0.0


def _public_bytes(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _thumbprint(key: Ed25519PublicKey) -> str:
    """The key's RFC 7638 thumbprint: its ``kid``."""
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{_base64url(_public_bytes(key))}"}}'
    return _base64url(hashlib.sha256(members.encode()).digest())


class AccessTokens:
    """Issues and verifies tokens of people (the configured audience) and of services (audience ``internal``).

    Raises ConfigurationError: a key is missing or is not Ed25519.
    """

    def __init__(self, settings: Auth, *, clock: Callable[[], float] = time) -> None:
        self._settings = settings
        self._clock = clock
        try:
            private = load_pem_private_key(settings.signing_key_pem.get_secret_value().encode(), password=None)
            previous = [load_pem_public_key(pem.encode()) for pem in settings.previous_public_keys_pem]
        except (ValueError, TypeError) as error:
            raise ConfigurationError("auth.signing_key_pem cannot be read") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigurationError("auth.signing_key_pem must be an Ed25519 key")
        self._private = private
        self._public: dict[str, Ed25519PublicKey] = {}
        for key in (private.public_key(), *previous):
            if not isinstance(key, Ed25519PublicKey):
                raise ConfigurationError("auth.previous_public_keys_pem must hold Ed25519 keys")
            self._public[_thumbprint(key)] = key
        self.key_id = _thumbprint(private.public_key())
        self._by_header: dict[str, Ed25519PublicKey] = {}
        self._known: tuple[OrderedDict[str, Identity], ...] = tuple(OrderedDict() for _ in range(PARTS))
        self.verified = 0

    def issue(
        self, user_id: str, family_id: str, *, permission_role: str = "user", email_hash: str = "", sessions_from: int = 0,
        signed_in_at: float = 0.0,
    ) -> str:
        """A person's access token, valid for ``access_ttl_s``."""
        claims: dict[str, Any] = {
            "aud": self._settings.audience, "sub": user_id, "sid": family_id, "permissionRole": permission_role,
        }
        if email_hash:
            claims |= {"acc": email_hash, "from": sessions_from, "auth_time": int(signed_in_at)}
        return self._sign(claims, self._settings.access_ttl_s)

    def issue_service(self, service: str, ttl_s: int) -> str:
        """A service's token: audience ``internal``, refused on every public route."""
        return self._sign({"aud": INTERNAL_AUDIENCE, "sub": service}, ttl_s)

    def _sign(self, claims: dict[str, Any], ttl_s: int) -> str:
        now = int(self._clock())
        return jwt.encode(
            {"iss": self._settings.issuer, "iat": now, "exp": now + ttl_s, **claims},
            self._private, algorithm=ALGORITHM, headers={"kid": self.key_id},
        )

    def verify(self, text: str) -> Identity | None:
        """The person whose valid token this is; None for every other text."""
        part = self._known[hash(text) % PARTS]
        known = part.get(text)
        if known is not None:
            if known.expires_at <= self._clock():
                del part[text]
                return None
            part.move_to_end(text)
            return known
        claims = self._claims(text, self._settings.audience)
        if claims is None or not isinstance(claims.get("sid"), str):
            return None
        identity = Identity(
            claims["sub"], claims["sid"], str(claims.get("permissionRole", "user")), float(claims["exp"]),
            str(claims.get("acc", "")), int(claims.get("from", 0)), float(claims.get("auth_time", 0)),
        )
        part[text] = identity
        if len(part) > CACHED_TOKENS // PARTS:
            part.popitem(last=False)
        return identity

    def verify_service(self, text: str) -> str | None:
        """The name of the service whose valid token this is; None for every other text."""
        claims = self._claims(text, INTERNAL_AUDIENCE)
        return None if claims is None else str(claims["sub"])

    def _claims(self, text: str, audience: str) -> dict[str, Any] | None:
        if len(text) > LONGEST_TOKEN:
            return None
        self.verified += 1
        try:
            key = self._key_of(text)
            if key is None:
                return None
            claims: dict[str, Any] = jwt.decode(
                text, key, algorithms=[ALGORITHM], audience=audience, issuer=self._settings.issuer,
                options={"require": ["exp", "iat", "sub", "aud", "iss"], "verify_exp": False, "verify_iat": False},
            )
            expires_at, issued_at = float(claims["exp"]), float(claims["iat"])
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError, AttributeError):
            return None
        if not issued_at - 60 <= self._clock() < expires_at or not isinstance(claims["sub"], str):
            return None
        return claims

    def _key_of(self, text: str) -> Ed25519PublicKey | None:
        """The key that the token names. Our own tokens have few headers, so that one is read once."""
        header = text.partition(".")[0]
        key = self._by_header.get(header)
        if key is None:
            key = self._public.get(jwt.get_unverified_header(text).get("kid", ""))
            if key is not None and len(self._by_header) < HEADERS:
                self._by_header[header] = key
        return key

    def jwks(self) -> list[dict[str, str]]:
        """The public keys as JWKs: the signing key first, then those still accepted."""
        return [
            {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": ALGORITHM, "kid": kid, "x": _base64url(_public_bytes(key))}
            for kid, key in self._public.items()
        ]
