"""Registering an address: pure decisions.

A registration's event id is derived from the person it makes, so a repeated command is the same event, and a remembered
request can be checked against the claim that it is said to have made.
"""

from __future__ import annotations

from datetime import datetime

from actors.accounts import addresses
from actors.accounts.account import Account
from actors.accounts.answers import AccountAnswer, AddressTaken, AwaitsConfirmation, Registered
from actors.accounts.commands import Register
from actors.accounts.decisions import answered, decided
from actors.idempotency import IdempotencyConflict, request_key
from actors.sharding.memory import Decision
from configs.contracts.accounts import AccountRow
from configs.contracts.events import AccountRegistered, AddressTokenRequested
from configs.contracts.ids import derived_id

SCOPE = "register"


def registration_id(user_id: str) -> str:
    """The id of the event that registered this person."""
    return derived_id(user_id, "registered")


def register(command: Register, account: Account, now: datetime) -> Decision[AccountAnswer]:
    confirming, row = command.verification_expires_at, account.row
    # Of somebody who is erased, a claim may stand for a moment longer: it is not registered under their key.
    claimed = command.address_hash not in ("", command.email_hash)
    if claimed or (row is not None and not row.vacant):
        its_own = row is not None and addresses.is_account_of(row, command.email_hash, command.address_hash)
        repeated = _repeated(command, account, row, now) if row is not None and its_own else AddressTaken()
        if confirming is None:
            changed = row is not None and isinstance(repeated, Registered) and not _still_as_registered(row)
            return answered(AddressTaken() if changed else repeated)
        # Whoever asks learns nothing, and one event is appended as for a free address; its holder gets a mail.
        payload = AddressTokenRequested(
            user_id=row.user_id if row is not None and its_own else None, email_hash=command.email_hash, purpose="reset",
            cause="registration", expires_at=confirming,
        )
        if isinstance(repeated, Registered):
            return answered(AwaitsConfirmation())
        return decided(payload, now, lambda version: AwaitsConfirmation())
    key = None if command.idempotency_key is None else request_key(SCOPE, command.idempotency_key)
    event_id = registration_id(command.user_id)
    registered = AccountRegistered(
        user_id=command.user_id,
        email=command.email,
        email_hash=command.email_hash,
        password_hash=command.password_hash,
        role=command.role,
        display_name=command.display_name,
        birth_date=command.birth_date,
        family_id=command.family_id,
        session_expires_at=command.session_expires_at,
        verification_expires_at=confirming,
        idempotency_key=key,
        body_digest=command.body_digest,
    )
    return decided(
        registered, now,
        lambda version: AwaitsConfirmation() if confirming is not None
        else Registered(command.user_id, event_id, version, command.family_id, replayed=False),
        event_id=event_id,
    )


def _repeated(command: Register, account: Account, row: AccountRow, now: datetime) -> AccountAnswer:
    user_id = row.user_id
    event_id, claim = registration_id(user_id), account.registrations.get(user_id)
    version = row.version if claim is None else claim[0]
    if command.user_id == user_id:
        return Registered(user_id, event_id, version, command.family_id, replayed=True)
    if command.idempotency_key is None or account.requests is None:
        return AddressTaken()
    request = account.requests.find(request_key(SCOPE, command.idempotency_key), now)
    if request is None or request.event_id != event_id:
        return AddressTaken()
    if request.body_digest != (command.body_digest or ""):
        return IdempotencyConflict()
    return Registered(user_id, event_id, version, None if claim is None else claim[1], replayed=True)


def _still_as_registered(row: AccountRow) -> bool:
    """Whether a repeated registration may sign in as the first did: no standing, password or code has come between."""
    return row.status == "active" and not row.sessions_from and row.security.totp is None
