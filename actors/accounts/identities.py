"""Identities of sign-in providers joining accounts: a pure decision."""

from __future__ import annotations

from datetime import datetime

from actors.accounts import addresses
from actors.accounts.answers import AccountAnswer, Incomplete, Joined, NotSignedIn
from actors.accounts.commands import JoinIdentity
from actors.accounts.decisions import answered, decided
from actors.accounts.registration import registration_id
from actors.sharding.memory import Decision
from configs.contracts.accounts import IDENTITIES, AccountRow, hash_of
from configs.contracts.events import AccountRegistered, IdentityLinked
from configs.contracts.ids import derived_id


def join(command: JoinIdentity, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    """Links a confirmed account; registers a new person, also in place of an account that nobody confirmed."""
    if row is not None and row.vacant:
        row = None
    claimed = command.address_hash not in ("", command.email_hash)
    if (row is None and claimed) or (
        row is not None and not addresses.is_account_of(row, command.email_hash, command.address_hash)
    ):
        return answered(NotSignedIn())
    hashed = hash_of(command.identity)
    if row is not None and row.verified_at is not None:
        linked_by = dict(row.security.identities).get(hashed)
        if linked_by is not None:
            return answered(Joined(row.user_id, linked_by, 0, None, email_hash=row.email_hash))
        if len(row.security.identities) >= IDENTITIES:
            return answered(NotSignedIn())
        linked = IdentityLinked(user_id=row.user_id, email_hash=row.email_hash, identity=command.identity)
        event_id = derived_id(hashed, f"linked:{row.user_id}")
        return decided(
            linked, now, lambda version: Joined(row.user_id, event_id, version, None, email_hash=row.email_hash),
            event_id=event_id,
        )
    if command.role is None or command.display_name is None or command.birth_date is None:
        return answered(Incomplete())
    displaced = None if row is None else row.user_id
    registered = AccountRegistered(
        user_id=command.user_id, email=command.email, email_hash=command.email_hash, role=command.role,
        display_name=command.display_name, birth_date=command.birth_date, address_verified=True,
        identity=command.identity, displaces=displaced,
    )
    event_id = registration_id(command.user_id)
    return decided(
        registered, now,
        lambda version: Joined(
            command.user_id, event_id, version, displaced, registered=True, email_hash=command.email_hash
        ),
        event_id=event_id,
    )
