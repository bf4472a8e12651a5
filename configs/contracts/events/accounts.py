"""Addresses, passwords, identities and sessions."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from configs.contracts import topics
from configs.contracts.events.base import Instant, Payload, PermissionRole, Role, Standing
from configs.contracts.topics import Topic


class ProviderIdentity(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """Who an identity provider said somebody is, with the token's nonce, which works once, until ``nonce_until``."""

    issuer: str
    subject: str
    nonce_hash: str
    nonce_until: Instant


class AddressClaim(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """An address that an account signs in with although it was registered with another; ``token_id``: what proved it."""

    address_hash: str
    token_id: str


class AddressMove(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """An account signs in with ``address`` instead of ``former_address``; ``token_id`` was mailed to the new one."""

    token_id: str
    address: str
    address_hash: str
    former_address: str
    former_claim: AddressClaim | None = None
    """None: the account was registered with ``former_address``."""
    kept_family_id: str | None = None


class AccountRegistered(Payload, frozen=True, kw_only=True):
    """The one event of a registration: claim on the address, identity, credential and first session."""

    TYPE: ClassVar[str] = "account_registered"
    user_id: str
    email: str
    email_hash: str
    password_hash: str | None = None
    role: Role
    display_name: str
    birth_date: str
    family_id: str | None = None
    session_expires_at: Instant | None = None
    verification_expires_at: Instant | None = None
    """Set: a token to confirm the address is mailed; until then nobody signs in. Its id is the event's."""
    address_verified: bool = False
    identity: ProviderIdentity | None = None
    """Registered by way of a provider, which vouches for the address."""
    displaces: str | None = None
    """The person whose unconfirmed claim on the address ends by this one."""
    idempotency_key: str | None = None
    body_digest: str | None = None


class PasswordRehashed(Payload, frozen=True, kw_only=True):
    """The stored hash was renewed with today's parameters after a successful sign-in."""

    TYPE: ClassVar[str] = "password_rehashed"
    user_id: str
    email_hash: str
    password_hash: str


class AddressTokenRequested(Payload, frozen=True, kw_only=True):
    """A single-use token is to be mailed to an address, if somebody holds it: whether or not, the event is the same.

    The token's id is the event's. The token itself is in no event: whoever mails or checks it derives it from a key.
    """

    TYPE: ClassVar[str] = "address_token_requested"
    user_id: str | None = None
    email_hash: str
    purpose: Literal["verify", "reset"]
    cause: Literal["asked", "registration"] = "asked"
    """``registration``: somebody tried to register the address."""
    expires_at: Instant


class AddressVerified(Payload, frozen=True, kw_only=True):
    """Whoever holds the account has read mail that was sent to its address."""

    TYPE: ClassVar[str] = "address_verified"
    user_id: str
    email_hash: str
    token_id: str


class PasswordSet(Payload, frozen=True, kw_only=True):
    """Another password from now on. Every session has ended, except ``kept_family_id``.

    ``token_id``: it was set with a mailed token, which is used up and proves the address.
    """

    TYPE: ClassVar[str] = "password_set"
    user_id: str
    email_hash: str
    password_hash: str
    token_id: str | None = None
    kept_family_id: str | None = None


class SessionsEnded(Payload, frozen=True, kw_only=True):
    """Every session of the account has ended, except ``kept_family_id``."""

    TYPE: ClassVar[str] = "sessions_ended"
    user_id: str
    email_hash: str
    kept_family_id: str | None = None


class IdentityLinked(Payload, frozen=True, kw_only=True):
    """The account can be signed in to by way of a provider that vouches for its address."""

    TYPE: ClassVar[str] = "identity_linked"
    user_id: str
    email_hash: str
    identity: ProviderIdentity


class AddressChangeRequested(Payload, frozen=True, kw_only=True):
    """A single-use token, whose id is the event's, is to be mailed to ``address``, with which the account may sign in then.

    The event is the same whether or not somebody holds that address.
    """

    TYPE: ClassVar[str] = "address_change_requested"
    user_id: str
    email_hash: str
    address: str
    address_hash: str
    expires_at: Instant
    idempotency_key: str | None = None
    body_digest: str | None = None


class AddressClaimed(Payload, frozen=True, kw_only=True):
    """The address is the account's that was registered with ``home``; ``AddressChanged`` of that account follows."""

    TYPE: ClassVar[str] = "address_claimed"
    user_id: str
    email_hash: str
    home: str
    move: AddressMove
    displaces: str | None = None
    """The person whose unconfirmed claim on the address ends by this one."""


class AddressChanged(Payload, frozen=True, kw_only=True):
    """The account signs in with another address, if ``move`` is what it asked for last.

    Its key stays that of the address it was registered with. Every session has ended, except the one that is kept, and no
    token that was mailed before works.
    """

    TYPE: ClassVar[str] = "address_changed"
    user_id: str
    email_hash: str
    move: AddressMove


class AddressReleased(Payload, frozen=True, kw_only=True):
    """The address is nobody's any more, unless another token than ``token_id`` claimed it since."""

    TYPE: ClassVar[str] = "address_released"
    user_id: str
    email_hash: str
    token_id: str


class TotpEnabled(Payload, frozen=True, kw_only=True):
    """Signing in needs a time-based code (RFC 6238) from now on.

    ``sealed_secret`` is encrypted with a key that is in no event; ``step`` is that of the code that proved the device.
    """

    TYPE: ClassVar[str] = "totp_enabled"
    user_id: str
    email_hash: str
    sealed_secret: str
    step: int
    recovery_hashes: tuple[str, ...]


class TotpDisabled(Payload, frozen=True, kw_only=True):
    """Signing in needs no code any more."""

    TYPE: ClassVar[str] = "totp_disabled"
    user_id: str
    email_hash: str


class SecondFactorUsed(Payload, frozen=True, kw_only=True):
    """A sign-in was completed by a code (of ``step``) or a recovery code; it, and the challenge, are used up."""

    TYPE: ClassVar[str] = "second_factor_used"
    user_id: str
    email_hash: str
    challenge_id: str
    challenge_until: Instant
    step: int | None = None
    recovery_hash: str | None = None


class PasskeyAdded(Payload, frozen=True, kw_only=True):
    """A WebAuthn credential signs in to the account from now on; the challenge of its ceremony is used up."""

    TYPE: ClassVar[str] = "passkey_added"
    user_id: str
    email_hash: str
    credential_id: str
    public_key: str
    sign_count: int
    name: str
    challenge_id: str
    challenge_until: Instant


class PasskeyUsed(Payload, frozen=True, kw_only=True):
    """Somebody signed in with a passkey; the challenge is used up."""

    TYPE: ClassVar[str] = "passkey_used"
    user_id: str
    email_hash: str
    credential_id: str
    sign_count: int
    challenge_id: str
    challenge_until: Instant


class PasskeyRemoved(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "passkey_removed"
    user_id: str
    email_hash: str
    credential_id: str


class RoleGranted(Payload, frozen=True, kw_only=True):
    """The account's ``permissionRole`` from now on. Every session has ended: tokens carry the role."""

    TYPE: ClassVar[str] = "role_granted"
    user_id: str
    email_hash: str
    role: PermissionRole
    granted_by: str
    """``person:`` and an id, or ``service:`` and a name."""


class StandingSet(Payload, frozen=True, kw_only=True):
    """The account's standing from now on; unless it is active every session has ended and none begins.

    ``number``: the person's decisions and erasure are counted, and of two standings the one with the higher number
    counts, in whatever order they come. ``deleted`` also takes the address and everything that signs in away.
    """

    TYPE: ClassVar[str] = "standing_set"
    user_id: str
    email_hash: str
    status: Standing
    number: int
    cause_id: str
    """The decision, or the request to erase, that it follows from."""
    claim: AddressClaim | None = None
    """Of one that is deleted: the address besides its key that becomes free."""


class IdentityClaimed(Payload, frozen=True, kw_only=True):
    """A provider's identity belongs to an account; the first in the log counts. Derived from what linked it."""

    TYPE: ClassVar[str] = "identity_claimed"
    identity_hash: str
    user_id: str
    email_hash: str
    identity: ProviderIdentity
    replaces: str = ""
    """Somebody who was erased, whose claim ends by this one; anybody else's stays."""


class IdentityUsed(Payload, frozen=True, kw_only=True):
    """Somebody signed in with a provider's token; its nonce is used up."""

    TYPE: ClassVar[str] = "identity_used"
    identity_hash: str
    user_id: str
    identity: ProviderIdentity


class SessionStarted(Payload, frozen=True, kw_only=True):
    """A token family exists; ``counter`` 0 is its first refresh token.

    ``sessions_from``: the account's when the person signed in (``contracts.accounts``), which tells a session that
    began before all were ended from one that began after.
    """

    TYPE: ClassVar[str] = "session_started"
    family_id: str
    user_id: str
    token_hash: str
    expires_at: Instant
    email_hash: str | None = None
    sessions_from: int = 0
    signed_in_at: Instant | None = None
    client: str | None = None


class SessionRotated(Payload, frozen=True, kw_only=True):
    """The family's refresh token number ``counter`` replaced its predecessor."""

    TYPE: ClassVar[str] = "session_rotated"
    family_id: str
    user_id: str
    counter: int
    token_hash: str
    expires_at: Instant


class SessionRevoked(Payload, frozen=True, kw_only=True):
    """No token of the family is valid any more."""

    TYPE: ClassVar[str] = "session_revoked"
    family_id: str
    user_id: str
    reason: Literal["logout", "reuse", "password_changed", "administrator"]


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.AUTH_ACCOUNTS, AccountRegistered),
    (topics.AUTH_ACCOUNTS, PasswordRehashed),
    (topics.AUTH_ACCOUNTS, AddressTokenRequested),
    (topics.AUTH_ACCOUNTS, AddressVerified),
    (topics.AUTH_ACCOUNTS, PasswordSet),
    (topics.AUTH_ACCOUNTS, SessionsEnded),
    (topics.AUTH_ACCOUNTS, AddressChangeRequested),
    (topics.AUTH_ACCOUNTS, AddressClaimed),
    (topics.AUTH_ACCOUNTS, AddressChanged),
    (topics.AUTH_ACCOUNTS, AddressReleased),
    (topics.AUTH_ACCOUNTS, IdentityLinked),
    (topics.AUTH_ACCOUNTS, TotpEnabled),
    (topics.AUTH_ACCOUNTS, TotpDisabled),
    (topics.AUTH_ACCOUNTS, SecondFactorUsed),
    (topics.AUTH_ACCOUNTS, PasskeyAdded),
    (topics.AUTH_ACCOUNTS, PasskeyUsed),
    (topics.AUTH_ACCOUNTS, PasskeyRemoved),
    (topics.AUTH_ACCOUNTS, RoleGranted),
    (topics.AUTH_ACCOUNTS, StandingSet),
    (topics.AUTH_IDENTITIES, IdentityClaimed),
    (topics.AUTH_IDENTITIES, IdentityUsed),
    (topics.AUTH_SESSIONS, SessionStarted),
    (topics.AUTH_SESSIONS, SessionRotated),
    (topics.AUTH_SESSIONS, SessionRevoked),
)
