"""What an account shard answers."""

from __future__ import annotations

from dataclasses import dataclass

from actors.idempotency import IdempotencyConflict
from configs.contracts.accounts import Passkey, Totp
from configs.contracts.events import AddressMove, PermissionRole


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
class AwaitsConfirmation:
    """A mail follows, to the new person or to whoever holds the address."""


@dataclass(frozen=True, slots=True)
class Rehashed:
    """``version`` of the renewal; 0 when nothing was recorded."""

    version: int


@dataclass(frozen=True, slots=True)
class TokenRequested:
    """A mail follows if somebody holds the address."""


@dataclass(frozen=True, slots=True)
class TokenInvalid:
    """The token was used, replaced by a newer one, or is too old; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """The account's state after the event that was asked for; 0 as ``version`` when nothing had to change."""

    user_id: str
    password_hash: str | None
    verified: bool
    version: int
    address_hash: str | None = None
    """Of the address that signs in to it; None: the one it was registered with."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Begin a session with this ``sessions_from``."""

    user_id: str
    sessions_from: int
    second_factor: bool = False
    """A code is needed first."""
    permission_role: PermissionRole = "user"


@dataclass(frozen=True, slots=True)
class NotSignedIn:
    """The account is another person's, has another password by now, its address is not confirmed, or the session ended."""


@dataclass(frozen=True, slots=True)
class AccountGone:
    """The person whose identity it was is erased, for good: the identity may join another account."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The account that the identity signs in to; ``event_id`` of what linked it, now or before.

    ``displaced``: the person whose unconfirmed account gave way. ``version`` is the event's.
    """

    user_id: str
    event_id: str
    version: int
    displaced: str | None
    registered: bool = False
    email_hash: str = ""
    """The account's key."""


@dataclass(frozen=True, slots=True)
class Home:
    """The key of the account that signs in with an address, or of whoever will register it."""

    email_hash: str


@dataclass(frozen=True, slots=True)
class Changing:
    """A change of the address that may be carried out; None: it was."""

    move: AddressMove | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The address is the account's, by this request or by an earlier one of the same token.

    ``displaced``: the person whose unconfirmed account gave way.
    """

    version: int
    displaced: str | None = None


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A new person needs all of role, display name and birth date; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Factors:
    """What the account signs in with beside its password."""

    user_id: str
    email: str
    totp: Totp | None
    passkeys: tuple[Passkey, ...]


@dataclass(frozen=True, slots=True)
class SessionStands:
    """Whether the session is still one, and what its account may do by now."""

    stands: bool
    permission_role: PermissionRole = "user"


AccountAnswer = (
    Registered | AddressTaken | AwaitsConfirmation | IdempotencyConflict | Rehashed | TokenRequested | TokenInvalid
    | AccountChanged | SignedIn | NotSignedIn | AccountGone | SessionStands | Joined | Incomplete | Factors
    | Home | Changing | Claimed
)
