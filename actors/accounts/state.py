"""Who owns an address and with what they sign in: pure decisions, rebuilt from rows and the log.

The first claim on an address in the log is the only one, for this memory and for the rows: both fold the events with
``contracts.accounts.after``. What each command decides is in the modules beside, by what it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from actors.accounts import addresses, identities, passwords, registration, sessions
from actors.accounts.account import Account
from actors.accounts.answers import AccountAnswer, AccountGone, Home, NotSignedIn, Rehashed, SessionStands
from actors.accounts.commands import (
    ChangeAddress,
    CheckSession,
    ClaimAddress,
    EndSessions,
    FindChange,
    FindHome,
    GrantRole,
    JoinIdentity,
    Register,
    Rehash,
    RequestAddressChange,
    RequestToken,
    ResetPassword,
    SetPassword,
    SetStanding,
    SignIn,
    VerifyAddress,
)
from actors.accounts.decisions import answered, decided
from actors.accounts.factors import FactorCommand, decide_factor
from actors.entries import Entries
from actors.idempotency import Remembered, Requests
from actors.sharding.memory import Decision
from configs.contracts.accounts import AccountRow
from configs.contracts.events import TOPIC_OF, AccountRegistered, AddressChangeRequested, Event
from configs.contracts.loading import IdempotencyRow
from configs.contracts.topics import AUTH_ACCOUNTS

AccountCommand = (
    Register | JoinIdentity | Rehash | RequestToken | VerifyAddress | ResetPassword | SetPassword | EndSessions | GrantRole | SetStanding
    | SignIn | CheckSession
    | FindHome | RequestAddressChange | FindChange | ClaimAddress | ChangeAddress
    | FactorCommand
)


@dataclass(frozen=True, slots=True)
class AccountRows:
    """What the loader knows of one address."""

    account: AccountRow | None
    requests: Sequence[IdempotencyRow]


class AccountMemory:
    """Addresses in memory. An address is registered once, and a token used once, whatever the interleaving of requests."""

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
        found = row if isinstance(row, AccountRows) else AccountRows(None, ())
        account.load(found.account)
        if found.requests:
            account.requests = account.requests or Requests()
            account.requests.merge(found.requests)

    def conflict_key(self, command: AccountCommand) -> str:
        return command.email_hash

    def decide(self, command: AccountCommand, now: datetime) -> Decision[AccountAnswer]:
        account = self._accounts.get(command.email_hash) or Account()
        row = account.row
        if isinstance(command, FindHome):
            return answered(Home(command.email_hash if row is None else row.security.home or command.email_hash))
        if isinstance(command, ClaimAddress):
            return addresses.claim(command, row, now)
        if isinstance(command, Register):
            return registration.register(command, account, now)
        if isinstance(command, JoinIdentity):
            return identities.join(command, row, now)
        if row is not None and row.security.home is not None:
            row = None  # a claim is no account
        if isinstance(command, RequestToken):
            return passwords.request_token(command, row, now)
        if isinstance(command, VerifyAddress):
            return passwords.verify(command, row, now)
        if isinstance(command, ResetPassword):
            return passwords.reset(command, row, now)
        if isinstance(command, FactorCommand):
            payload, answer = decide_factor(command, row, now)
            return answered(answer) if payload is None else decided(payload, now, lambda version: answer)
        if isinstance(command, GrantRole):
            return sessions.grant_role(command, row, now)
        if row is None or row.user_id != command.user_id:
            return answered(_refusal(command, row))
        if isinstance(command, SetStanding):
            return sessions.set_standing(command, row, now)
        if isinstance(command, Rehash):
            return passwords.rehash(command, row, now)
        if isinstance(command, SetPassword):
            return passwords.set_password(command, row, now)
        if isinstance(command, RequestAddressChange):
            return addresses.request_change(command, account, row, now)
        if isinstance(command, FindChange):
            return answered(addresses.found(command, row, now))
        if isinstance(command, ChangeAddress):
            return addresses.change_address(command, row, now)
        if isinstance(command, EndSessions):
            return sessions.end_sessions(command, row, now)
        if isinstance(command, SignIn):
            return answered(sessions.sign_in(command, row))
        stands = row.admits(command.user_id, command.sessions_from, command.family_id)
        return answered(SessionStands(stands, row.permission_role))

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if TOPIC_OF.get(type(payload)) is not AUTH_ACCOUNTS:
            return
        account = self._accounts.use(payload.email_hash)
        account.take(event, version)
        if account.row is not None and account.row.vacant:
            account.forget_history()
        if isinstance(payload, AccountRegistered):
            account.registered(payload, version)
        if isinstance(payload, AccountRegistered | AddressChangeRequested) and payload.idempotency_key is not None:
            account.requests = account.requests or Requests()
            account.requests.remember(
                payload.idempotency_key, Remembered(payload.body_digest or "", event.event_id, event.occurred_at)
            )

    def entries(self) -> int:
        return len(self._accounts)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._accounts.evict(limit, lambda key, account: account.newest < committed(key))


def _refusal(command: AccountCommand, row: AccountRow | None) -> AccountAnswer:
    """The answer where the address is not the person's."""
    if isinstance(command, Rehash):
        return Rehashed(0)
    if isinstance(command, SignIn) and command.identity_hash is not None and row is not None:
        return AccountGone()  # an address that an identity signed in to changes hands only when its account is erased
    return SessionStands(False) if isinstance(command, CheckSession) else NotSignedIn()
