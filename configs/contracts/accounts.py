"""What an address's events add up to: one fold, for the shard that decides and for the rows that remember."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from configs.contracts.events import (
    AccountRegistered,
    AddressChanged,
    AddressChangeRequested,
    AddressClaim,
    AddressClaimed,
    AddressReleased,
    AddressTokenRequested,
    AddressVerified,
    Event,
    IdentityClaimed,
    IdentityLinked,
    IdentityUsed,
    PasskeyAdded,
    PasskeyRemoved,
    PasskeyUsed,
    PasswordRehashed,
    PasswordSet,
    PermissionRole,
    ProviderIdentity,
    RoleGranted,
    SecondFactorUsed,
    SessionsEnded,
    Standing,
    StandingSet,
    TotpDisabled,
    TotpEnabled,
)
from configs.contracts.ids import derived_id, identity_hash

IDENTITIES: Final = 8
PASSKEYS: Final = 10
SPENT: Final = 32
"""Challenges of one account that are remembered; they live for minutes, and past this many sign-ins wait."""
NONCES: Final = 32
"""Nonces of one identity that are remembered; they live for minutes, and past this many sign-ins wait."""
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Pending(msgspec.Struct, frozen=True, rename="camel"):
    """A single-use token that was mailed: the id of the event that asked for it, and when it expires."""

    token_id: str
    expires_at: datetime


class AddressChange(msgspec.Struct, frozen=True, rename="camel"):
    """The address that the account may sign in with, once the token that was mailed there is presented."""

    token_id: str
    expires_at: datetime
    address: str
    address_hash: str


class Totp(msgspec.Struct, frozen=True, rename="camel"):
    """The second factor: the encrypted secret, the last step whose code was used, hashes of recovery codes not used yet."""

    sealed_secret: str
    step: int
    recovery: tuple[str, ...]


class Passkey(msgspec.Struct, frozen=True, rename="camel"):
    """One WebAuthn credential; ids and keys are base64url."""

    credential_id: str
    public_key: str
    sign_count: int
    name: str
    added_at: datetime


class Security(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What signing in to one account needs beside the password; bounded, so that it travels and is stored whole."""

    verification: Pending | None = None
    verified_by: str | None = None
    """The token that verified the address, so that presenting it again is answered alike."""
    reset: Pending | None = None
    contested: bool = False
    """Somebody else may have registered the address before anybody confirmed it: only a token that sets another password
    confirms it."""
    home: str | None = None
    """Set: the row is only a claim on the address, ``claim``; the account's own row is the one with this hash."""
    claim: AddressClaim | None = None
    """The address that the account signs in with; None: the one it was registered with."""
    change: AddressChange | None = None
    changed_by: str | None = None
    """The token of the newest change of the address, so that presenting it again is answered alike."""
    identities: tuple[tuple[str, str], ...] = ()
    """(hash, event that linked it) of the providers' identities that sign in to the account; at most ``IDENTITIES``."""

    totp: Totp | None = None
    passkeys: tuple[Passkey, ...] = ()
    """At most ``PASSKEYS``."""
    spent: tuple[tuple[str, datetime], ...] = ()
    """(id, until) of challenges that were used up and have not expired."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """The claim on one address and its credentials, after all its events up to ``version``."""

    email_hash: str
    user_id: str
    password_hash: str | None
    version: int
    email: str = ""
    claimed_at: datetime = LONG_AGO
    status: Standing = "active"
    verified_at: datetime | None = None
    sessions_from: int = 0
    """Version of the newest event that ended all sessions; sessions that began under an older one have ended."""
    kept_family: str | None = None
    """The one session that this event spared."""
    security: Security = field(default_factory=Security)
    permission_role: PermissionRole = "user"
    standing_number: int = 0
    """Of the newest standing; see ``StandingSet``."""

    @property
    def vacant(self) -> bool:
        """Whether the account was erased, or the claim given up, so that the address may be registered anew."""
        return self.status == "deleted"

    @property
    def address_hash(self) -> str:
        """Hash of the address that the account signs in with."""
        return self.email_hash if self.security.claim is None else self.security.claim.address_hash

    def changes_to(self, token_id: str) -> bool:
        """Whether the token is the one of the change of the address that was asked for last."""
        return self.security.change is not None and self.security.change.token_id == token_id

    def admits(self, user_id: str, sessions_from: int, family_id: str) -> bool:
        """Whether a session of this account, begun when ``sessions_from`` was that, still is one."""
        return (
            self.status == "active" and self.user_id == user_id
            and (sessions_from >= self.sessions_from or family_id == self.kept_family)
        )


def after(row: AccountRow | None, event: Event, version: int) -> AccountRow | None:
    """The account after one more event of its address; events no newer than the row change nothing.

    The first registration, or claim, in the log holds the address.
    """
    payload = event.payload
    if row is not None and version <= row.version:
        return row
    if isinstance(payload, AccountRegistered | AddressClaimed):
        if row is None or row.vacant or _gives_way(row, payload):
            if isinstance(payload, AddressClaimed):
                return _claimed(payload, event, version)
            return _registered(payload, event, version)
        return replace(row, version=version)
    if row is None:
        return None
    changed = row
    if payload.user_id == row.user_id:
        changed = _changed(row, payload, event, version) if row.security.home is None else _claim_changed(row, payload)
    return replace(changed, version=version)


def _gives_way(row: AccountRow, payload: AccountRegistered | AddressClaimed) -> bool:
    """Whether the newer claim on the address is the one that counts."""
    if isinstance(payload, AddressClaimed) and row.security.home is not None:
        return (row.security.home, row.user_id) == (payload.home, payload.user_id)
    return payload.displaces == row.user_id and row.verified_at is None


def _claimed(payload: AddressClaimed, event: Event, version: int) -> AccountRow:
    claim = AddressClaim(address_hash=payload.email_hash, token_id=payload.move.token_id)
    return AccountRow(
        payload.email_hash, payload.user_id, None, version, claimed_at=event.occurred_at, verified_at=event.occurred_at,
        security=Security(home=payload.home, claim=claim),
    )


def _claim_changed(row: AccountRow, payload: Any) -> AccountRow:
    claim = row.security.claim
    if not isinstance(payload, AddressReleased) or claim is None or claim.token_id != payload.token_id:
        return row
    return replace(row, status="deleted", verified_at=None, security=Security())


def _registered(payload: AccountRegistered, event: Event, version: int) -> AccountRow:
    expires_at = payload.verification_expires_at
    return AccountRow(
        payload.email_hash, payload.user_id, payload.password_hash, version, email=payload.email,
        claimed_at=event.occurred_at, verified_at=event.occurred_at if payload.address_verified else None,
        security=Security(
            verification=None if expires_at is None else Pending(event.event_id, expires_at),
            identities=() if payload.identity is None else ((hash_of(payload.identity), event.event_id),),
        ),
    )


def address_claimed_id(token_id: str) -> str:
    """The id of the claim on an address that a mailed token makes."""
    return derived_id(token_id, "claimed")


def address_changed_id(token_id: str) -> str:
    """The id of the change of an address that a mailed token makes, whoever carries it out."""
    return derived_id(token_id, "changed")


def hash_of(identity: ProviderIdentity) -> str:
    return identity_hash(identity.issuer, identity.subject)


def _changed(row: AccountRow, payload: Any, event: Event, version: int) -> AccountRow:
    security = row.security
    if isinstance(payload, PasswordRehashed):
        return replace(row, password_hash=payload.password_hash)
    if isinstance(payload, AddressTokenRequested):
        return replace(row, security=_token_requested(row, payload, event))
    if isinstance(payload, AddressVerified):
        return replace(
            row, verified_at=row.verified_at or event.occurred_at,
            security=msgspec.structs.replace(security, verification=None, verified_by=payload.token_id),
        )
    if isinstance(payload, PasswordSet):
        return _password_set(row, payload, event, version)
    if isinstance(payload, AddressChangeRequested):
        change = AddressChange(event.event_id, payload.expires_at, payload.address, payload.address_hash)
        return replace(row, security=msgspec.structs.replace(security, change=change))
    if isinstance(payload, AddressChanged):
        return _address_changed(row, payload, event, version)
    if isinstance(payload, IdentityLinked):
        linked = {hash_of(payload.identity): event.event_id} | dict(security.identities)
        return replace(row, security=msgspec.structs.replace(security, identities=tuple(linked.items())))
    if isinstance(payload, TotpEnabled):
        totp = Totp(payload.sealed_secret, payload.step, payload.recovery_hashes)
        return replace(row, security=msgspec.structs.replace(security, totp=totp))
    if isinstance(payload, TotpDisabled):
        return replace(row, security=msgspec.structs.replace(security, totp=None))
    if isinstance(payload, SecondFactorUsed | PasskeyAdded | PasskeyUsed | PasskeyRemoved):
        return replace(row, security=_factor_used(security, payload, event))
    if isinstance(payload, RoleGranted):
        return _ended(replace(row, permission_role=payload.role), version, None)
    if isinstance(payload, StandingSet):
        return _standing_set(row, payload, version)
    if isinstance(payload, SessionsEnded):
        return _ended(row, version, payload.kept_family_id)
    return row


def _ended(row: AccountRow, version: int, kept_family: str | None) -> AccountRow:
    """All sessions have ended but one; with them a change of the address that one of them may have asked for."""
    security = msgspec.structs.replace(row.security, change=None)
    return replace(row, sessions_from=version, kept_family=kept_family, security=security)


def _address_changed(row: AccountRow, payload: AddressChanged, event: Event, version: int) -> AccountRow:
    """Nothing changes by a change that was not asked for last: another was, or all sessions have ended since."""
    move = payload.move
    if row.status != "active" or not row.changes_to(move.token_id):
        return row
    home = move.address_hash == row.email_hash
    claim = None if home else AddressClaim(address_hash=move.address_hash, token_id=move.token_id)
    # Whoever reads the former address's mail is not who reads the new one's.
    security = msgspec.structs.replace(
        row.security, claim=claim, changed_by=move.token_id, verification=None, verified_by=None, reset=None, contested=False
    )
    changed = replace(row, email=move.address, verified_at=event.occurred_at, security=security)
    return _ended(changed, version, move.kept_family_id)


def _token_requested(row: AccountRow, payload: AddressTokenRequested, event: Event) -> Security:
    pending, security = Pending(event.event_id, payload.expires_at), row.security
    if payload.purpose == "verify":
        return security if security.contested else msgspec.structs.replace(security, verification=pending)
    if payload.cause == "registration" and row.verified_at is None:
        # Two have registered the address, and the password is the first one's: no mail of theirs may confirm it.
        return msgspec.structs.replace(security, reset=pending, verification=None, contested=True)
    return msgspec.structs.replace(security, reset=pending)


def _standing_set(row: AccountRow, payload: StandingSet, version: int) -> AccountRow:
    if payload.number <= row.standing_number:
        return row
    changed = replace(row, status=payload.status, standing_number=payload.number)
    if payload.status == "active":
        return changed
    changed = _ended(changed, version, None)
    if payload.status != "deleted":
        return changed
    return replace(
        changed, email="", password_hash=None, verified_at=None, security=Security(), permission_role="user"
    )


def _factor_used(
    security: Security, payload: SecondFactorUsed | PasskeyAdded | PasskeyUsed | PasskeyRemoved, event: Event
) -> Security:
    totp, passkeys = security.totp, security.passkeys
    if isinstance(payload, PasskeyRemoved):
        left = tuple(key for key in passkeys if key.credential_id != payload.credential_id)
        return msgspec.structs.replace(security, passkeys=left)
    spent = tuple(held for held in security.spent if held[1] > event.occurred_at and held[0] != payload.challenge_id)
    if isinstance(payload, SecondFactorUsed) and totp is not None:
        totp = Totp(
            totp.sealed_secret, max(totp.step, payload.step or 0),
            tuple(code for code in totp.recovery if code != payload.recovery_hash),
        )
    elif isinstance(payload, PasskeyAdded):
        added = Passkey(payload.credential_id, payload.public_key, payload.sign_count, payload.name, event.occurred_at)
        passkeys = (*(key for key in passkeys if key.credential_id != added.credential_id), added)
    elif isinstance(payload, PasskeyUsed):
        passkeys = tuple(
            msgspec.structs.replace(key, sign_count=max(key.sign_count, payload.sign_count))
            if key.credential_id == payload.credential_id else key
            for key in passkeys
        )
    return msgspec.structs.replace(
        security, totp=totp, passkeys=passkeys, spent=(*spent, (payload.challenge_id, payload.challenge_until))[-SPENT:]
    )


def _password_set(row: AccountRow, payload: PasswordSet, event: Event, version: int) -> AccountRow:
    security = msgspec.structs.replace(row.security, reset=None)
    verified_at = row.verified_at
    if payload.token_id is not None and verified_at is None:
        # Whoever reads the address's mail holds the account from now on; nothing of an earlier claimant's stays.
        verified_at, security = event.occurred_at, Security()
    changed = replace(row, password_hash=payload.password_hash, verified_at=verified_at, security=security)
    return _ended(changed, version, payload.kept_family_id)


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """Whose a provider's identity is, and the nonces that were used lately, after all its events up to ``version``."""

    identity_hash: str
    user_id: str
    email_hash: str
    version: int
    issuer: str
    subject: str
    nonces: tuple[tuple[str, datetime], ...] = ()
    """(hash, until), oldest first."""


def identity_after(row: IdentityRow | None, event: Event, version: int) -> IdentityRow | None:
    """The identity after one more of its events; the first claim in the log counts, a nonce is used by any.

    A later claim counts where it names the person it replaces, who was erased, and the identity is still theirs. Nonces stay
    used whosever the identity is.
    """
    payload = event.payload
    if not isinstance(payload, IdentityClaimed | IdentityUsed) or (row is not None and version <= row.version):
        return row
    if row is None:
        if not isinstance(payload, IdentityClaimed):
            return None
        row = IdentityRow(
            payload.identity_hash, payload.user_id, payload.email_hash, version, payload.identity.issuer,
            payload.identity.subject,
        )
    elif isinstance(payload, IdentityClaimed) and payload.replaces == row.user_id:
        row = replace(row, user_id=payload.user_id, email_hash=payload.email_hash)
    used = (payload.identity.nonce_hash, payload.identity.nonce_until)
    nonces = [held for held in row.nonces if held[1] > event.occurred_at and held[0] != used[0]]
    return replace(row, version=version, nonces=(*nonces, used)[-NONCES:])
