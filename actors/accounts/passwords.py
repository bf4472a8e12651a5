"""Passwords, and the mailed tokens that prove an address: pure decisions. A token works once."""

from __future__ import annotations

from datetime import datetime

from actors.accounts import addresses
from actors.accounts.answers import AccountAnswer, NotSignedIn, Rehashed, TokenInvalid, TokenRequested
from actors.accounts.commands import Rehash, RequestToken, ResetPassword, SetPassword, VerifyAddress
from actors.accounts.decisions import answered, changed, changed_to, decided
from actors.sharding.memory import Decision
from configs.contracts.accounts import AccountRow, Pending
from configs.contracts.events import AddressTokenRequested, AddressVerified, PasswordRehashed, PasswordSet


def request_token(command: RequestToken, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    return decided(_token_requested(command, row), now, lambda version: TokenRequested())


def verify(command: VerifyAddress, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None:
        return answered(TokenInvalid())
    if row.verified_at is not None and row.security.verified_by == command.token_id:
        return answered(changed(row, 0))
    if not _usable(row.security.verification, command.token_id, now):
        return answered(TokenInvalid())
    verified = AddressVerified(user_id=row.user_id, email_hash=row.email_hash, token_id=command.token_id)
    return decided(verified, now, lambda version: changed_to(row, row.password_hash, True, version))


def reset(command: ResetPassword, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None or not _usable(row.security.reset, command.token_id, now):
        return answered(TokenInvalid())
    password = PasswordSet(
        user_id=row.user_id, email_hash=row.email_hash, password_hash=command.password_hash, token_id=command.token_id
    )
    return decided(password, now, lambda version: changed_to(row, command.password_hash, True, version))


def set_password(command: SetPassword, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    if row.password_hash != command.stored or not row.admits(command.user_id, command.sessions_from, command.family_id):
        return answered(NotSignedIn())
    password = PasswordSet(
        user_id=row.user_id, email_hash=row.email_hash, password_hash=command.password_hash,
        kept_family_id=command.family_id,
    )
    verified = row.verified_at is not None
    return decided(password, now, lambda version: changed_to(row, command.password_hash, verified, version))


def rehash(command: Rehash, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    if row.password_hash != command.stored:
        return answered(Rehashed(0))
    rehashed = PasswordRehashed(
        user_id=command.user_id, email_hash=command.email_hash, password_hash=command.password_hash
    )
    return decided(rehashed, now, Rehashed)


def _token_requested(command: RequestToken, row: AccountRow | None) -> AddressTokenRequested:
    """Whoever asks to confirm an address that two have registered gets what takes the account over."""
    if row is not None and (row.vacant or not addresses.is_account_of(row, command.email_hash, command.address_hash)):
        row = None
    contested = row is not None and row.security.contested and command.purpose == "verify"
    return AddressTokenRequested(
        user_id=None if row is None else row.user_id, email_hash=command.email_hash,
        purpose="reset" if contested else command.purpose, cause="registration" if contested else "asked",
        expires_at=command.expires_at,
    )


def _usable(pending: Pending | None, token_id: str, now: datetime) -> bool:
    return pending is not None and pending.token_id == token_id and now < pending.expires_at
