"""Second factors and passkeys of an account: pure decisions. A code, and a ceremony, work once."""

from __future__ import annotations

from datetime import datetime

from actors.accounts.answers import Factors, NotSignedIn, SignedIn
from actors.accounts.commands import (
    AddPasskey,
    Challenge,
    DisableTotp,
    EnableTotp,
    GetFactors,
    RemovePasskey,
    UseCode,
    UsePasskey,
)
from configs.contracts.accounts import PASSKEYS, SPENT, AccountRow, Passkey, Totp
from configs.contracts.events import (
    PasskeyAdded,
    PasskeyRemoved,
    PasskeyUsed,
    Payload,
    SecondFactorUsed,
    TotpDisabled,
    TotpEnabled,
)

FactorCommand = GetFactors | EnableTotp | DisableTotp | UseCode | AddPasskey | UsePasskey | RemovePasskey
FactorAnswer = Factors | SignedIn | NotSignedIn
FactorDecision = tuple[Payload | None, FactorAnswer]


def decide_factor(command: FactorCommand, row: AccountRow | None, now: datetime) -> FactorDecision:
    """(the event, if any, and the answer once it is durable)."""
    if row is None or row.status != "active" or command.user_id not in (None, row.user_id):
        return None, NotSignedIn()
    if isinstance(command, GetFactors):
        return None, _factors(row)
    if isinstance(command, UseCode):
        return _use_code(command, row, now)
    if isinstance(command, UsePasskey):
        return _use_passkey(command, row, now)
    if not row.admits(row.user_id, command.sessions_from, command.family_id):
        return None, NotSignedIn()
    if isinstance(command, AddPasskey):
        return _add_passkey(command, row, now)
    if isinstance(command, RemovePasskey):
        if not any(key.credential_id == command.credential_id for key in row.security.passkeys):
            return None, NotSignedIn()
        return PasskeyRemoved(
            user_id=row.user_id, email_hash=row.email_hash, credential_id=command.credential_id
        ), _factors(row)
    if isinstance(command, DisableTotp):
        if row.security.totp is None:
            return None, NotSignedIn()
        return TotpDisabled(user_id=row.user_id, email_hash=row.email_hash), _factors(row)
    if row.security.totp is not None:
        return None, NotSignedIn()
    return TotpEnabled(
        user_id=row.user_id, email_hash=row.email_hash, sealed_secret=command.sealed_secret, step=command.step,
        recovery_hashes=command.recovery_hashes,
    ), _factors(row)


def _factors(row: AccountRow) -> Factors:
    return Factors(row.user_id, row.email, row.security.totp, row.security.passkeys)


def _open(row: AccountRow, challenge: Challenge, now: datetime) -> bool:
    """Whether a ceremony can be completed: not expired, not completed, and few others were lately."""
    living = [name for name, until in row.security.spent if until > now]
    return now < challenge.until and challenge.challenge_id not in living and len(living) < SPENT


def _use_code(command: UseCode, row: AccountRow, now: datetime) -> FactorDecision:
    totp: Totp | None = row.security.totp
    if totp is None or command.sessions_from != row.sessions_from or not _open(row, command.challenge, now):
        return None, NotSignedIn()
    fresh = command.step is not None and command.step > totp.step
    if not fresh and (command.step is not None or command.recovery_hash not in totp.recovery):
        return None, NotSignedIn()
    return SecondFactorUsed(
        user_id=row.user_id, email_hash=row.email_hash, challenge_id=command.challenge.challenge_id,
        challenge_until=command.challenge.until, step=command.step, recovery_hash=command.recovery_hash,
    ), SignedIn(row.user_id, row.sessions_from, permission_role=row.permission_role)


def _add_passkey(command: AddPasskey, row: AccountRow, now: datetime) -> FactorDecision:
    known = any(key.credential_id == command.credential_id for key in row.security.passkeys)
    if known or len(row.security.passkeys) >= PASSKEYS or not _open(row, command.challenge, now):
        return None, NotSignedIn()
    return PasskeyAdded(
        user_id=row.user_id, email_hash=row.email_hash, credential_id=command.credential_id,
        public_key=command.public_key, sign_count=command.sign_count, name=command.name,
        challenge_id=command.challenge.challenge_id, challenge_until=command.challenge.until,
    ), _factors(row)


def _use_passkey(command: UsePasskey, row: AccountRow, now: datetime) -> FactorDecision:
    """Authenticators without a counter always say 0 (WebAuthn level 3, section 6.1.1)."""
    found: Passkey | None = next(
        (key for key in row.security.passkeys if key.credential_id == command.credential_id), None
    )
    if found is None or not _open(row, command.challenge, now):
        return None, NotSignedIn()
    if (command.sign_count or found.sign_count) and command.sign_count <= found.sign_count:
        return None, NotSignedIn()
    return PasskeyUsed(
        user_id=row.user_id, email_hash=row.email_hash, credential_id=command.credential_id,
        sign_count=command.sign_count, challenge_id=command.challenge.challenge_id,
        challenge_until=command.challenge.until,
    ), SignedIn(row.user_id, row.sessions_from, permission_role=row.permission_role)
