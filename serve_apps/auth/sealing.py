"""What the account key seals: secrets at rest, ceremonies that clients carry, names that tell nobody anything."""

from __future__ import annotations

import base64
import hmac
import os
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from actors.accounts.commands import Challenge
from configs.contracts.ids import new_id

CEREMONY_S: Final = 300
_NONCE: Final = 12


class Ceremony(msgspec.Struct, frozen=True, array_like=True):
    """One attempt to prove something, for five minutes. Clients hold it encrypted; ``secret`` is its challenge, or what is enrolled."""

    use: str
    ceremony_id: str
    until: datetime
    email_hash: str = ""
    user_id: str = ""
    sessions_from: int = 0
    secret: bytes = b""

    @property
    def challenge(self) -> Challenge:
        return Challenge(self.ceremony_id, self.until)


_CEREMONIES: Final = msgspec.msgpack.Decoder(Ceremony)


class AccountSeals:
    """Each use has a key of its own, derived from the account key (HKDF, RFC 5869)."""

    def __init__(self, key: bytes) -> None:
        def derived(use: str, size: int = 32) -> bytes:
            return HKDF(SHA256(), size, salt=None, info=b"sugar account " + use.encode()).derive(key)

        self._secrets = AESGCM(derived("secrets"))
        self._ceremonies = AESGCM(derived("ceremonies"))
        self._names = AESSIV(derived("names", 64))
        self._codes = derived("codes")

    def ceremony(
        self, use: str, *, email_hash: str = "", user_id: str = "", sessions_from: int = 0, secret: bytes = b""
    ) -> tuple[Ceremony, str]:
        """A new ceremony and its encrypted text, which the client hands back."""
        until = datetime.now(UTC) + timedelta(seconds=CEREMONY_S)
        made = Ceremony(use, new_id(), until, email_hash, user_id, sessions_from, secret)
        nonce = os.urandom(_NONCE)
        return made, _text(nonce + self._ceremonies.encrypt(nonce, msgspec.msgpack.encode(made), use.encode()))

    def opened(self, use: str, text: str) -> Ceremony | None:
        """The ceremony of a text that ``ceremony`` made for this use and that has not expired."""
        raw = _raw(text)
        try:
            made = _CEREMONIES.decode(self._ceremonies.decrypt(raw[:_NONCE], raw[_NONCE:], use.encode()))
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            return None
        return made if made.use == use and datetime.now(UTC) < made.until else None

    def seal(self, secret: bytes, owner: str) -> str:
        """An encrypted secret that only ``unseal`` with the same owner reads."""
        nonce = os.urandom(_NONCE)
        return _text(nonce + self._secrets.encrypt(nonce, secret, owner.encode()))

    def unseal(self, text: str, owner: str) -> bytes:
        raw = _raw(text)
        return self._secrets.decrypt(raw[:_NONCE], raw[_NONCE:], owner.encode())

    def handle(self, email_hash: str) -> bytes:
        """What an authenticator keeps instead of the account: always the same, and opaque."""
        return self._names.encrypt(bytes.fromhex(email_hash), [b"handle"])

    def account_of(self, handle: bytes) -> str | None:
        """The address hash of a handle that ``handle`` made."""
        try:
            return self._names.decrypt(handle, [b"handle"]).hex()
        except (InvalidTag, ValueError):
            return None

    def code_hash(self, owner: str, code: str) -> str:
        """What is remembered of a recovery code."""
        return hmac.digest(self._codes, f"{owner} {code}".encode(), "sha256").hex()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
