"""Changing the address of an account: pure decisions of both addresses' shards.

An account keeps the key of the address it was registered with, and with it its row, sessions and standing; another address
is a claim in its own shard that names that key. The claim comes first, so that an address has one holder; the account's row
says which of its claims counts, and one that does not is given up (``writers.consumers.derive_addresses``).
"""

from __future__ import annotations

from datetime import datetime

from actors.accounts.answers import (
    AccountChanged,
    AddressTaken,
    Changing,
    Claimed,
    NotSignedIn,
    TokenInvalid,
    TokenRequested,
)
from actors.accounts.commands import ChangeAddress, ClaimAddress, FindChange, RequestAddressChange
from configs.contracts.accounts import AccountRow
from configs.contracts.events import AddressChanged, AddressChangeRequested, AddressClaimed, AddressMove


def is_account_of(row: AccountRow, email_hash: str, address_hash: str) -> bool:
    """Whether an address names the account: whether it signs in with it."""
    return row.security.home is None and row.address_hash == (address_hash or email_hash)


def requested(command: RequestAddressChange, row: AccountRow) -> AddressChangeRequested | TokenRequested | NotSignedIn:
    if not row.admits(command.user_id, command.sessions_from, command.family_id):
        return NotSignedIn()
    if command.new_hash == row.address_hash:
        return TokenRequested()
    return AddressChangeRequested(
        user_id=row.user_id, email_hash=row.email_hash, address=command.address, address_hash=command.new_hash,
        expires_at=command.expires_at, idempotency_key=command.idempotency_key, body_digest=command.body_digest,
    )


def found(command: FindChange, row: AccountRow, now: datetime) -> Changing | TokenInvalid | NotSignedIn:
    if not row.admits(command.user_id, command.sessions_from, command.family_id):
        return NotSignedIn()
    if row.security.changed_by == command.token_id:
        return Changing(None)
    change = row.security.change
    if change is None or change.token_id != command.token_id or now >= change.expires_at:
        return TokenInvalid()
    return Changing(AddressMove(
        token_id=change.token_id, address=change.address, address_hash=change.address_hash, former_address=row.email,
        former_claim=row.security.claim, kept_family_id=command.family_id,
    ))


def claimed(command: ClaimAddress, row: AccountRow | None) -> AddressClaimed | Claimed | AddressTaken:
    displaces = None
    if row is not None and not row.vacant:
        if row.security.home is not None:
            if (row.security.home, row.user_id) != (command.home, command.user_id):
                return AddressTaken()
            if row.security.claim is not None and row.security.claim.token_id == command.move.token_id:
                return Claimed(row.version)
        elif row.verified_at is not None:
            return AddressTaken()
        else:
            displaces = row.user_id
    return AddressClaimed(
        user_id=command.user_id, email_hash=command.email_hash, home=command.home, move=command.move, displaces=displaces
    )


def changed(command: ChangeAddress, row: AccountRow) -> AddressChanged | AccountChanged | TokenInvalid:
    """Expired or not: the claim was made in time."""
    token_id = command.move.token_id
    if row.security.changed_by == token_id:
        claim = row.security.claim
        return AccountChanged(row.user_id, row.password_hash, True, 0, None if claim is None else claim.address_hash)
    if row.status != "active" or not row.changes_to(token_id):
        return TokenInvalid()
    return AddressChanged(user_id=row.user_id, email_hash=row.email_hash, move=command.move)
