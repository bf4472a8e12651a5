"""An authenticator in software (WebAuthn level 3, sections 6 and 7): makes credentials and signs with them."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

ORIGIN = "http://localhost:8000"
USER_PRESENT, USER_VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Authenticator:
    """One discoverable credential. ``counts`` False: it has no signature counter, as synced passkeys."""

    def __init__(self, *, counts: bool = True, verifies: bool = True) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.credential_id = secrets.token_bytes(32)
        self.counter = 0
        self.counts, self.verifies = counts, verifies
        self.handle = b""
        self.domain = ""

    def _flags(self, more: int = 0) -> bytes:
        return bytes([USER_PRESENT | (USER_VERIFIED if self.verifies else 0) | more])

    def _count(self) -> bytes:
        self.counter += int(self.counts)
        return self.counter.to_bytes(4, "big")

    def _client_data(self, kind: str, challenge: str, origin: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False}).encode()

    def create(self, options: dict[str, Any], *, origin: str = ORIGIN) -> dict[str, Any]:
        """``navigator.credentials.create``."""
        self.domain = options["rp"]["id"]
        self.handle = base64.urlsafe_b64decode(options["user"]["id"] + "==")
        numbers = self.key.public_key().public_numbers()
        public = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})
        data = (
            hashlib.sha256(self.domain.encode()).digest() + self._flags(ATTESTED) + self._count() + bytes(16)
            + len(self.credential_id).to_bytes(2, "big") + self.credential_id + public
        )
        response = {
            "clientDataJSON": text(self._client_data("webauthn.create", options["challenge"], origin)),
            "attestationObject": text(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
        }
        return {"id": text(self.credential_id), "rawId": text(self.credential_id), "type": "public-key", "response": response}

    def get(self, options: dict[str, Any], *, origin: str = ORIGIN, domain: str | None = None) -> dict[str, Any]:
        """``navigator.credentials.get``."""
        client = self._client_data("webauthn.get", options["challenge"], origin)
        data = hashlib.sha256((domain or self.domain).encode()).digest() + self._flags() + self._count()
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": text(client), "authenticatorData": text(data), "signature": text(signature),
            "userHandle": text(self.handle),
        }
        return {"id": text(self.credential_id), "rawId": text(self.credential_id), "type": "public-key", "response": response}
