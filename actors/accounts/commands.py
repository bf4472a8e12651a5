"""What an account shard is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from actors.idempotency import IdempotencyConflict
from configs.contracts.events import Role

__all__ = ["SERVICE", "AddressTaken", "IdempotencyConflict", "Register", "Registered", "Rehash", "Rehashed"]

SERVICE = "accounts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Claim an address for a new person.

    ``user_id`` and ``family_id`` are made by the caller for this request; sending the same command again is a retry.
    """

    user_id: str
    email: str
    email_hash: str
    password_hash: str | None
    role: Role
    display_name: str
    birth_date: str
    family_id: str | None = None
    session_expires_at: datetime | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehash:
    """Renew the stored hash of an unchanged password; ignored unless the address belongs to ``user_id``."""

    email_hash: str
    user_id: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class Registered:
    """The address belongs to ``user_id``: by this request, or by an earlier one that this one repeats.

    ``user_id``, ``event_id`` and ``family_id`` are the first request's. ``family_id`` is None when the registration
    started no session, or when only the rows remember it (``replayed``): start a fresh family then.
    When ``replayed``, the caller's own password hash is not the stored one: write nothing through.
    """

    user_id: str
    event_id: str
    version: int
    family_id: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class AddressTaken:
    """Another request registered the address; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Rehashed:
    """``version`` of the renewal; 0 when nothing was recorded."""

    version: int
