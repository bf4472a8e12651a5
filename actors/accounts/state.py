"""Who owns an address: pure decisions on claims, rebuilt from rows and the log.

The first claim on an address in the log is the only one, for this memory and for the rows. A registration's event id
is derived from the person it makes, so a repeated command is the same event, and a remembered request can be checked
against the claim that it is said to have made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from actors.accounts.commands import (
    AddressTaken,
    IdempotencyConflict,
    Register,
    Registered,
    Rehash,
    Rehashed,
)
from actors.entries import Entries
from actors.idempotency import Remembered, Requests, request_key
from actors.sharding.memory import Append, Decision
from configs.contracts.events import AccountRegistered, Event, PasswordRehashed
from configs.contracts.ids import derived_id, new_id
from configs.contracts.loading import AccountRow, IdempotencyRow
from configs.contracts.topics import AUTH_ACCOUNTS

SCOPE = "register"

AccountCommand = Register | Rehash
AccountAnswer = Registered | AddressTaken | IdempotencyConflict | Rehashed


def registration_id(user_id: str) -> str:
    """The id of the event that registered this person."""
    return derived_id(user_id, "registered")


@dataclass(frozen=True, slots=True)
class AccountRows:
    """What the loader knows of one address."""

    account: AccountRow | None
    requests: Sequence[IdempotencyRow]


class Account:
    """One address: who claimed it, at which version, and the requests that did."""

    __slots__ = ("family_id", "from_rows", "loaded", "newest", "requests", "user_id", "version")

    def __init__(self) -> None:
        self.loaded = False
        self.user_id: str | None = None
        self.version = 0
        """Version of the claim; of the row's newest event when only the rows remember the claim."""
        self.from_rows = False
        self.family_id: str | None = None
        self.newest = 0
        self.requests: Requests | None = None


class AccountMemory:
    """Addresses in memory. An address is registered once, whatever the interleaving of requests."""

    def __init__(self) -> None:
        self._accounts: Entries[Account] = Entries(Account)

    def needs(self, command: AccountCommand) -> Sequence[str]:
        return (command.email_hash,)

    def known(self, key: str) -> bool:
        account = self._accounts.get(key)
        return account is not None and account.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges ``AccountRows``; None: the address was never claimed."""
        account = self._accounts.use(key)
        account.loaded = True
        if not isinstance(row, AccountRows):
            return
        if row.account is not None and row.account.user_id != account.user_id:
            # Rows are written in the log's order: theirs is the first claim.
            account.user_id, account.version = row.account.user_id, row.account.version
            account.from_rows, account.family_id = True, None
        if row.requests:
            account.requests = account.requests or Requests()
            account.requests.merge(row.requests)

    def conflict_key(self, command: AccountCommand) -> str:
        return command.email_hash

    def decide(self, command: AccountCommand, now: datetime) -> Decision[AccountAnswer]:
        account = self._accounts.get(command.email_hash)
        if isinstance(command, Rehash):
            return self._rehash(command, account, now)
        if account is None or account.user_id is None:
            return self._register(command, now)
        return Decision((), _always(self._repeated(command, account, account.user_id, now)))

    def _register(self, command: Register, now: datetime) -> Decision[AccountAnswer]:
        key = None if command.idempotency_key is None else request_key(SCOPE, command.idempotency_key)
        event_id = registration_id(command.user_id)
        payload = AccountRegistered(
            user_id=command.user_id,
            email=command.email,
            email_hash=command.email_hash,
            password_hash=command.password_hash,
            role=command.role,
            display_name=command.display_name,
            birth_date=command.birth_date,
            family_id=command.family_id,
            session_expires_at=command.session_expires_at,
            idempotency_key=key,
            body_digest=command.body_digest,
        )
        event = Event(event_id, now, command.email_hash, payload)
        return Decision(
            (Append(AUTH_ACCOUNTS, command.email_hash, event),),
            lambda versions: Registered(command.user_id, event_id, versions[0], command.family_id, replayed=False),
        )

    def _repeated(self, command: Register, account: Account, user_id: str, now: datetime) -> AccountAnswer:
        event_id = registration_id(user_id)
        if command.user_id == user_id:
            return Registered(user_id, event_id, account.version, command.family_id, replayed=True)
        if command.idempotency_key is None or account.requests is None:
            return AddressTaken()
        request = account.requests.find(request_key(SCOPE, command.idempotency_key), now)
        if request is None or request.event_id != event_id:
            return AddressTaken()
        if request.body_digest != (command.body_digest or ""):
            return IdempotencyConflict()
        return Registered(user_id, event_id, account.version, account.family_id, replayed=True)

    def _rehash(self, command: Rehash, account: Account | None, now: datetime) -> Decision[AccountAnswer]:
        if account is None or account.user_id != command.user_id:
            return Decision((), _always(Rehashed(0)))
        payload = PasswordRehashed(
            user_id=command.user_id, email_hash=command.email_hash, password_hash=command.password_hash
        )
        event = Event(new_id(), now, command.email_hash, payload)
        return Decision(
            (Append(AUTH_ACCOUNTS, command.email_hash, event),), lambda versions: Rehashed(versions[0])
        )

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if not isinstance(payload, AccountRegistered | PasswordRehashed):
            return
        account = self._accounts.use(payload.email_hash)
        account.newest = max(account.newest, version)
        if isinstance(payload, PasswordRehashed):
            return
        if account.user_id is None or account.user_id == payload.user_id or (
            version < account.version and not account.from_rows
        ):
            account.user_id, account.version = payload.user_id, version
            account.family_id, account.from_rows = payload.family_id, False
        if payload.idempotency_key is not None:
            account.requests = account.requests or Requests()
            account.requests.remember(
                payload.idempotency_key, Remembered(payload.body_digest or "", event.event_id, event.occurred_at)
            )

    def entries(self) -> int:
        return len(self._accounts)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._accounts.evict(limit, lambda key, account: account.newest < committed(key))


def _always(answer: AccountAnswer) -> Callable[[tuple[int, ...]], AccountAnswer]:
    return lambda versions: answer
