"""What a session shard is asked, and what it answers. A session is a token family."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

SERVICE = "sessions"

RevocationReason = Literal["logout", "reuse", "password_changed", "administrator"]
InvalidReason = Literal["unknown", "expired", "revoked", "reused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSession:
    """Begin a family whose first refresh token has counter 0.

    ``parent_event_id`` names the registration that the session follows from; None for a sign-in, whose ``family_id``
    must be new. Repeating either changes nothing. ``email_hash`` and ``sessions_from``: the account, as it signed in.
    """

    family_id: str
    user_id: str
    token_hash: str
    expires_at: datetime
    email_hash: str
    sessions_from: int = 0
    signed_in_at: datetime
    client: str | None = None
    parent_event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindSession:
    """Whose is the family? Appends nothing."""

    family_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateSession:
    """Replace refresh token number ``counter``, whose signature the caller has checked, by the next one."""

    family_id: str
    counter: int
    next_token_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSession:
    """End a family for good, also one that is not known yet. ``user_id`` is its owner, from a verified token.

    ``only_own``: the caller named the family; one that is not known, or another person's, stays (SessionInvalid).
    """

    family_id: str
    user_id: str
    reason: RevocationReason
    only_own: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The family exists; ``version`` is its newest event's. ``revoked``: a repeated start, of a family that has ended since."""

    version: int
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class SessionFound:
    """The family's owner, and the account as it was when they signed in; it is neither revoked nor expired."""

    user_id: str
    email_hash: str | None
    sessions_from: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """The family's present refresh token has number ``counter`` and is valid until ``expires_at``.

    The same answer to the predecessor within the grace time: its holder gets the same successor.
    """

    user_id: str
    counter: int
    expires_at: datetime
    version: int
    email_hash: str | None
    sessions_from: int
    signed_in_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionInvalid:
    """The token, or the family, is refused. ``reused``: an old token was presented, and the family is revoked because of it.

    ``user_id`` is None for an unknown family. ``revoked_now`` tells whether this very request revoked it.
    """

    reason: InvalidReason
    user_id: str | None = None
    revoked_now: bool = False


@dataclass(frozen=True, slots=True)
class Revoked:
    """The family is revoked since ``at_ms`` (Unix milliseconds; the present when only the rows remember when)."""

    user_id: str
    at_ms: int
    version: int
