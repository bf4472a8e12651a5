"""What an account shard is asked (``answers``: what it answers).

Where a command has ``family_id`` and ``sessions_from``, they are the session that asks (as its access token says): of a
session that has ended nothing is taken (NotSignedIn), also where a replica has not heard yet that it has.

``email_hash`` is the hash of the address that the account was registered with, its key for good. Where somebody names an
account by an address, ``address_hash`` is that one's ("": the same), and only the account that signs in with it is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from configs.contracts.events import AddressMove, PermissionRole, ProviderIdentity, Role, Standing

SERVICE = "accounts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Claim an address for a new person.

    ``user_id`` and ``family_id`` are made by the caller for this request; sending the same command again is a retry.
    ``verification_expires_at``: the address must be confirmed first. Then every answer is AwaitsConfirmation and every
    request appends one event, whoever holds the address, so that nobody learns whether it is registered.
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
    verification_expires_at: datetime | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None
    address_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinIdentity:
    """A provider vouches that ``email`` is ``identity``'s: sign in to the account of the address, or register.

    An account whose address nobody confirmed gives way to a new person. ``role``, ``display_name`` and ``birth_date`` are
    needed for a new one (``user_id``, made by the caller); without one of them the answer is Incomplete.
    """

    email: str
    email_hash: str
    identity: ProviderIdentity
    user_id: str
    role: Role | None
    display_name: str | None
    birth_date: str | None
    address_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehash:
    """Renew the stored hash of an unchanged password; ignored unless ``user_id`` has exactly ``stored`` now."""

    email_hash: str
    user_id: str
    stored: str
    password_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestToken:
    """Have a single-use token mailed to whoever holds the address. Appends the same event when nobody does."""

    email_hash: str
    purpose: Literal["verify", "reset"]
    expires_at: datetime
    address_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyAddress:
    """Use up a mailed token of purpose ``verify``; the one that verified the address may be presented again."""

    email_hash: str
    token_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPassword:
    """Use up a mailed token of purpose ``reset``: another password, the address proven, all sessions ended."""

    email_hash: str
    token_id: str
    password_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPassword:
    """Another password, for whoever proved to know ``stored``; ends all sessions but the one that asks."""

    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int
    stored: str
    password_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FindHome:
    """Which account signs in with the address, or may be registered with it? Appends nothing."""

    email_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAddressChange:
    """Have a token mailed to another address, whether or not somebody holds that one; nothing where it is the present one."""

    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int
    address: str
    new_hash: str
    expires_at: datetime
    idempotency_key: str | None = None
    body_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindChange:
    """The change of the address that a mailed token is for, if the account asked for it last. Appends nothing."""

    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int
    token_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAddress:
    """Claim ``email_hash``, the new address's, for the account with the key ``home``.

    An account whose address nobody confirmed gives way. A claim that the account's row does not come to know is given up.
    """

    email_hash: str
    user_id: str
    home: str
    move: AddressMove


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAddress:
    """Carry out a change of the address, claimed before, that the account asked for last; ends all sessions but one."""

    email_hash: str
    user_id: str
    move: AddressMove


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSessions:
    """End every session of the account but the one that asks."""

    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRole:
    """Give whoever holds the address a ``permissionRole``; it ends their sessions. Having it already changes nothing."""

    email_hash: str
    role: PermissionRole
    granted_by: str
    address_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStanding:
    """Carry out a decision, or an erasure, on an account. ``event_id`` is derived from it, as ``derive`` does too.

    One with no higher number than was carried out changes nothing. ``family_id`` is None for a decision.
    """

    email_hash: str
    user_id: str
    status: Standing
    number: int
    cause_id: str
    event_id: str
    family_id: str | None = None
    sessions_from: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """May ``user_id``, who proved to know the password of ``stored``, or to be ``identity_hash``, begin a session?

    ``confirmed``: only when the address is verified. AccountGone is answered to identities only. Appends nothing.
    """

    email_hash: str
    user_id: str
    stored: str = ""
    identity_hash: str | None = None
    confirmed: bool = False
    address_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetFactors:
    """What else the account of ``user_id`` (None: of whoever holds the address) signs in with. Appends nothing."""

    email_hash: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """One ceremony: it can be completed once, until ``until``."""

    challenge_id: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EnableTotp:
    """Ask for codes from now on; refused (NotSignedIn) while codes are asked for already."""

    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int
    sealed_secret: str
    step: int
    recovery_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableTotp:
    """Ask for no codes any more."""

    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCode:
    """Complete a sign-in that began under ``sessions_from`` by a code of ``step``, or a recovery code, once."""

    email_hash: str
    user_id: str
    challenge: Challenge
    sessions_from: int
    step: int | None = None
    recovery_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPasskey:
    """Add a verified credential; refused when there are too many, or its ceremony was completed before."""

    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int
    challenge: Challenge
    credential_id: str
    public_key: str
    sign_count: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsePasskey:
    """Sign in with a passkey whose signature the caller has checked. A counter that does not grow is a copied key's."""

    email_hash: str
    user_id: str
    challenge: Challenge
    credential_id: str
    sign_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePasskey:
    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int
    credential_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSession:
    """Is a session, begun when the account's ``sessions_from`` was that, still one? Appends nothing."""

    email_hash: str
    user_id: str
    family_id: str
    sessions_from: int
