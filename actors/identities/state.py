"""Whose a provider's identity is: pure decisions on claims and nonces, rebuilt from rows and the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from actors.entries import Entries
from actors.folded import Folded
from actors.identities.commands import ClaimIdentity, FindIdentity, Identified, IdentityUnknown, NonceUsed, UseIdentity
from actors.sharding.memory import Append, Decision
from configs.contracts.accounts import NONCES, IdentityRow, identity_after
from configs.contracts.events import Event, IdentityClaimed, IdentityUsed
from configs.contracts.ids import derived_id, new_id
from configs.contracts.topics import AUTH_IDENTITIES

IdentityCommand = FindIdentity | UseIdentity | ClaimIdentity
IdentityAnswer = Identified | NonceUsed | IdentityUnknown


def _identity() -> Folded[IdentityRow]:
    return Folded(identity_after)


class IdentityMemory:
    """Identities in memory. One belongs to one account until that is erased, and a nonce works once."""

    def __init__(self) -> None:
        self._identities: Entries[Folded[IdentityRow]] = Entries(_identity)

    def needs(self, command: IdentityCommand) -> Sequence[str]:
        return (command.identity_hash,)

    def known(self, key: str) -> bool:
        identity = self._identities.get(key)
        return identity is not None and identity.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges an ``IdentityRow``; None: it has no account."""
        self._identities.use(key).load(row if isinstance(row, IdentityRow) else None)

    def conflict_key(self, command: IdentityCommand) -> str:
        return command.identity_hash

    def decide(self, command: IdentityCommand, now: datetime) -> Decision[IdentityAnswer]:
        identity = self._identities.get(command.identity_hash) or _identity()
        row = identity.row
        if row is None:
            return _claimed(command, now) if isinstance(command, ClaimIdentity) else _answer(IdentityUnknown())
        if _was_used(row, command, now):
            return _answer(NonceUsed())
        if isinstance(command, FindIdentity):
            return _answer(Identified(row.user_id, row.email_hash))
        if isinstance(command, ClaimIdentity) and command.replaces == row.user_id:
            return _claimed(command, now)
        used = IdentityUsed(identity_hash=command.identity_hash, user_id=row.user_id, identity=command.identity)
        return _decided(Event(new_id(), now, command.identity_hash, used), row.user_id, row.email_hash)

    def apply(self, event: Event, version: int) -> None:
        if isinstance(event.payload, IdentityClaimed | IdentityUsed):
            self._identities.use(event.payload.identity_hash).take(event, version)

    def entries(self) -> int:
        return len(self._identities)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._identities.evict(limit, lambda key, identity: identity.newest < committed(key))


def _was_used(row: IdentityRow, command: IdentityCommand, now: datetime) -> bool:
    living = [name for name, until in row.nonces if until > now]
    return command.identity.nonce_hash in living or len(living) >= NONCES


def _claimed(command: ClaimIdentity, now: datetime) -> Decision[IdentityAnswer]:
    claimed = IdentityClaimed(
        identity_hash=command.identity_hash, user_id=command.user_id, email_hash=command.email_hash,
        identity=command.identity, replaces=command.replaces,
    )
    return _decided(
        Event(derived_id(command.parent_event_id, "identity"), now, command.identity_hash, claimed),
        command.user_id, command.email_hash,
    )


def _answer(answer: IdentityAnswer) -> Decision[IdentityAnswer]:
    return Decision((), lambda versions: answer)


def _decided(event: Event, user_id: str, email_hash: str) -> Decision[IdentityAnswer]:
    answer = Identified(user_id, email_hash)
    return Decision((Append(AUTH_IDENTITIES, event.key, event),), lambda versions: answer)
