"""Who may sign in and which sessions stand: pure decisions on roles, standings and the end of sessions."""

from __future__ import annotations

from datetime import datetime

from actors.accounts import addresses
from actors.accounts.answers import AccountAnswer, AccountGone, NotSignedIn, SignedIn
from actors.accounts.commands import EndSessions, GrantRole, SetStanding, SignIn
from actors.accounts.decisions import answered, changed, decided
from actors.sharding.memory import Decision
from configs.contracts.accounts import AccountRow
from configs.contracts.events import RoleGranted, SessionsEnded, StandingSet


def sign_in(command: SignIn, row: AccountRow) -> AccountAnswer:
    if command.identity_hash is not None:
        if row.vacant:
            return AccountGone()
        if row.status != "active" or command.identity_hash not in dict(row.security.identities):
            return NotSignedIn()
        return _admitted(row)
    if row.status != "active" or row.password_hash != command.stored or (command.confirmed and row.verified_at is None):
        return NotSignedIn()
    if not addresses.is_account_of(row, command.email_hash, command.address_hash):
        return NotSignedIn()
    return _admitted(row)


def end_sessions(command: EndSessions, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    """Whoever is kept is admitted for good: a session that has ended must not keep itself."""
    if not row.admits(command.user_id, command.sessions_from, command.family_id):
        return answered(NotSignedIn())
    ended = SessionsEnded(user_id=row.user_id, email_hash=row.email_hash, kept_family_id=command.family_id)
    return decided(ended, now, lambda version: changed(row, version))


def grant_role(command: GrantRole, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None or row.status != "active" or not addresses.is_account_of(row, command.email_hash, command.address_hash):
        return answered(NotSignedIn())
    if row.permission_role == command.role:
        return answered(changed(row, 0))
    granted = RoleGranted(
        user_id=row.user_id, email_hash=row.email_hash, role=command.role, granted_by=command.granted_by
    )
    return decided(granted, now, lambda version: changed(row, version))


def set_standing(command: SetStanding, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    if command.number <= row.standing_number:
        return answered(changed(row, row.sessions_from))
    if command.family_id is not None and not row.admits(command.user_id, command.sessions_from, command.family_id):
        return answered(NotSignedIn())
    standing = StandingSet(
        user_id=row.user_id, email_hash=row.email_hash, status=command.status, number=command.number,
        cause_id=command.cause_id, claim=row.security.claim if command.status == "deleted" else None,
    )
    return decided(standing, now, lambda version: changed(row, version), event_id=command.event_id)


def _admitted(row: AccountRow) -> SignedIn:
    return SignedIn(
        row.user_id, row.sessions_from, second_factor=row.security.totp is not None, permission_role=row.permission_role
    )
