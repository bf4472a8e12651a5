"""Changing the address of an account: pure decisions of both addresses' shards.

An account keeps the key of the address it was registered with, and with it its row, sessions and standing; another address
is a claim in its own shard that names that key. The claim comes first, so that an address has one holder; the account's row
says which of its claims counts, and one that does not is given up (``writers.consumers.derive_addresses``).
"""

from __future__ import annotations

from datetime import datetime

from actors.accounts.account import Account
from actors.accounts.answers import (
    AccountAnswer,
    AccountChanged,
    AddressTaken,
    Changing,
    Claimed,
    NotSignedIn,
    TokenInvalid,
    TokenRequested,
)
from actors.accounts.commands import ChangeAddress, ClaimAddress, FindChange, RequestAddressChange
from actors.accounts.decisions import answered, changed_to, decided
from actors.idempotency import IdempotencyConflict, request_key
from actors.sharding.memory import Decision
from configs.contracts.accounts import AccountRow, address_changed_id, address_claimed_id
from configs.contracts.events import AddressChanged, AddressChangeRequested, AddressClaimed, AddressMove

CHANGE_SCOPE = "change-address"


def is_account_of(row: AccountRow, email_hash: str, address_hash: str) -> bool:
    """Whether an address names the account: whether it signs in with it."""
    return row.security.home is None and row.address_hash == (address_hash or email_hash)


def request_change(
    command: RequestAddressChange, account: Account, row: AccountRow, now: datetime
) -> Decision[AccountAnswer]:
    if not row.admits(command.user_id, command.sessions_from, command.family_id):
        return answered(NotSignedIn())
    if command.new_hash == row.address_hash:
        return answered(TokenRequested())
    key = None if command.idempotency_key is None else request_key(CHANGE_SCOPE, command.idempotency_key)
    known = None if key is None or account.requests is None else account.requests.find(key, now)
    if known is not None:
        return answered(TokenRequested() if known.body_digest == (command.body_digest or "") else IdempotencyConflict())
    requested = AddressChangeRequested(
        user_id=row.user_id, email_hash=row.email_hash, address=command.address, address_hash=command.new_hash,
        expires_at=command.expires_at, idempotency_key=key, body_digest=command.body_digest,
    )
    return decided(requested, now, lambda version: TokenRequested())


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


def claim(command: ClaimAddress, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    displaces = None
    if row is not None and not row.vacant:
        if row.security.home is not None:
            if (row.security.home, row.user_id) != (command.home, command.user_id):
                return answered(AddressTaken())
            if row.security.claim is not None and row.security.claim.token_id == command.move.token_id:
                return answered(Claimed(row.version))
        elif row.verified_at is not None:
            return answered(AddressTaken())
        else:
            displaces = row.user_id
    claimed = AddressClaimed(
        user_id=command.user_id, email_hash=command.email_hash, home=command.home, move=command.move, displaces=displaces
    )
    event_id = address_claimed_id(command.move.token_id)
    return decided(claimed, now, lambda version: Claimed(version, displaces), event_id=event_id)


def change_address(command: ChangeAddress, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    """Expired or not: the claim was made in time."""
    move = command.move
    if row.security.changed_by == move.token_id:
        return answered(changed_to(row, row.password_hash, True, 0))
    if row.status != "active" or not row.changes_to(move.token_id):
        return answered(TokenInvalid())
    address_hash = None if move.address_hash == row.email_hash else move.address_hash
    return decided(
        AddressChanged(user_id=row.user_id, email_hash=row.email_hash, move=move), now,
        lambda version: AccountChanged(row.user_id, row.password_hash, True, version, address_hash),
        event_id=address_changed_id(move.token_id),
    )
