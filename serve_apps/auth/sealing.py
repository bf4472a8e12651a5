"""What the account key seals: secrets at rest, ceremonies that clients carry, names that tell nobody anything."""

from __future__ import annotations

import base64
import hmac
import os
from contextlib import suppress
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


class _Keys:
    """Each use has a key of its own, derived from an account key (HKDF, RFC 5869)."""

    def __init__(self, key: bytes) -> None:
        def derived(use: str, size: int = 32) -> bytes:
            return HKDF(SHA256(), size, salt=None, info=b"sugar account " + use.encode()).derive(key)

        self.secrets = AESGCM(derived("secrets"))
        self.ceremonies = AESGCM(derived("ceremonies"))
        self.names = AESSIV(derived("names", 64))
        self.codes = derived("codes")


class AccountSeals:
    """Seals with the present account key, and opens what that or a previous one sealed."""

    def __init__(self, present: bytes, *previous: bytes) -> None:
        self._keys = tuple(_Keys(key) for key in (present, *previous))
        self._present = self._keys[0]

    def ceremony(
        self, use: str, *, email_hash: str = "", user_id: str = "", sessions_from: int = 0, secret: bytes = b""
    ) -> tuple[Ceremony, str]:
        """A new ceremony and its encrypted text, which the client hands back."""
        until = datetime.now(UTC) + timedelta(seconds=CEREMONY_S)
        made = Ceremony(use, new_id(), until, email_hash, user_id, sessions_from, secret)
        nonce = os.urandom(_NONCE)
        return made, _text(nonce + self._present.ceremonies.encrypt(nonce, msgspec.msgpack.encode(made), use.encode()))

    def opened(self, use: str, text: str) -> Ceremony | None:
        """The ceremony of a text that ``ceremony`` made for this use and that has not expired."""
        raw = _raw(text)
        for keys in self._keys:
            try:
                made = _CEREMONIES.decode(keys.ceremonies.decrypt(raw[:_NONCE], raw[_NONCE:], use.encode()))
            except (InvalidTag, ValueError, msgspec.MsgspecError):
                continue
            return made if made.use == use and datetime.now(UTC) < made.until else None
        return None

    def seal(self, secret: bytes, owner: str) -> str:
        """An encrypted secret that only ``unseal`` with the same owner reads."""
        nonce = os.urandom(_NONCE)
        return _text(nonce + self._present.secrets.encrypt(nonce, secret, owner.encode()))

    def unseal(self, text: str, owner: str) -> bytes:
        """Raises InvalidTag: no key that is known here sealed it for that owner."""
        raw = _raw(text)
        for keys in self._keys[:-1]:
            with suppress(InvalidTag):
                return keys.secrets.decrypt(raw[:_NONCE], raw[_NONCE:], owner.encode())
        return self._keys[-1].secrets.decrypt(raw[:_NONCE], raw[_NONCE:], owner.encode())

    def handle(self, email_hash: str) -> bytes:
        """What an authenticator keeps instead of the account: the same as long as the key is, and opaque."""
        return self._present.names.encrypt(bytes.fromhex(email_hash), [b"handle"])

    def account_of(self, handle: bytes) -> str | None:
        """The address hash of a handle that ``handle`` made."""
        for keys in self._keys:
            with suppress(InvalidTag, ValueError):
                return keys.names.decrypt(handle, [b"handle"]).hex()
        return None

    def code_hash(self, owner: str, code: str) -> str:
        """What is remembered of a recovery code."""
        return self.code_hashes(owner, code)[0]

    def code_hashes(self, owner: str, code: str) -> tuple[str, ...]:
        """What may be remembered of it: by the present key, then by previous ones."""
        return tuple(hmac.digest(keys.codes, f"{owner} {code}".encode(), "sha256").hex() for keys in self._keys)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
