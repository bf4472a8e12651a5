"""Refresh tokens and mailed tokens: base64url of what they name and the HMAC-SHA256 of it.

A refresh token is a pure function of its family (16 bytes), its counter (4 bytes) and the platform's refresh key, so the
derived first session and a repeated rotation name the same token without storing it. Rows and events hold only
``token_hash``. A mailed token is one of its address's hash, the id of the event that asked for it and the account key;
rows and events hold only the id, of which nobody without the key can make the token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final
from uuid import UUID

_COUNTER_BYTES: Final = 4
_BODY_BYTES: Final = 16 + _COUNTER_BYTES
_TOKEN_BYTES: Final = _BODY_BYTES + hashlib.sha256().digest_size
_MAIL_TEXT_LENGTH: Final = 86
_TEXT_LENGTH: Final = (_TOKEN_BYTES * 4 + 2) // 3


def refresh_token(key: bytes, family_id: str, counter: int) -> str:
    """The family's refresh token number ``counter`` (from 0), 70 characters of base64url."""
    body = UUID(family_id).bytes + counter.to_bytes(_COUNTER_BYTES, "big")
    return base64.urlsafe_b64encode(body + hmac.digest(key, body, "sha256")).decode().rstrip("=")


def mail_token(key: bytes, purpose: str, email_hash: str, token_id: str) -> str:
    """The single-use token that is mailed, 86 characters of base64url; of no use for another purpose."""
    body = UUID(email_hash).bytes + UUID(token_id).bytes
    return base64.urlsafe_b64encode(body + hmac.digest(key, purpose.encode() + b"\0" + body, "sha256")).decode().rstrip("=")


def parse_mail_token(key: bytes, purpose: str, text: str) -> tuple[str, str] | None:
    """(address hash, token id) of a token that ``mail_token`` made for this purpose; None for everything else."""
    if len(text) != _MAIL_TEXT_LENGTH or not text.isascii():
        return None
    try:
        body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)[:32]
    except (binascii.Error, ValueError):
        return None
    email_hash, token_id = body[:16].hex(), str(UUID(bytes=body[16:]))
    return (email_hash, token_id) if hmac.compare_digest(mail_token(key, purpose, email_hash, token_id), text) else None


def token_hash(token: str) -> str:
    """The sha256 of a refresh token in hex: all that rows, events and shards remember of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def parse_refresh_token(key: bytes, text: str) -> tuple[str, int] | None:
    """(family id, counter) of a token that was made with ``key``; None for everything else, in constant time."""
    if len(text) != _TEXT_LENGTH or not text.isascii():
        return None
    try:
        token = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    body, seal = token[:_BODY_BYTES], token[_BODY_BYTES:]
    if not hmac.compare_digest(seal, hmac.digest(key, body, "sha256")):
        return None
    family_id, counter = str(UUID(bytes=body[:16])), int.from_bytes(body[16:], "big")
    # The last character has four spare bits: only one spelling of a token is that token.
    return (family_id, counter) if refresh_token(key, family_id, counter) == text else None
