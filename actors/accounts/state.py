"""Who owns an address and with what they sign in: pure decisions, rebuilt from rows and the log.

The first claim on an address in the log is the only one, for this memory and for the rows: both fold the events with
``contracts.accounts.after``. A registration's event id is derived from the person it makes, so a repeated command is the
same event, and a remembered request can be checked against the claim that it is said to have made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from actors.accounts.commands import (
    AccountChanged,
    AccountGone,
    AddressTaken,
    AwaitsConfirmation,
    CheckSession,
    EndSessions,
    Factors,
    GrantRole,
    IdempotencyConflict,
    Incomplete,
    Joined,
    JoinIdentity,
    NotSignedIn,
    Register,
    Registered,
    Rehash,
    Rehashed,
    RequestToken,
    ResetPassword,
    SessionStands,
    SetPassword,
    SetStanding,
    SignedIn,
    SignIn,
    TokenInvalid,
    TokenRequested,
    VerifyAddress,
)
from actors.accounts.factors import FactorCommand, decide_factor
from actors.entries import Entries
from actors.folded import Folded
from actors.idempotency import Remembered, Requests, request_key
from actors.sharding.memory import Append, Decision
from configs.contracts.accounts import IDENTITIES, AccountRow, Pending, after, hash_of
from configs.contracts.events import (
    TOPIC_OF,
    AccountRegistered,
    AddressTokenRequested,
    AddressVerified,
    Event,
    IdentityLinked,
    PasswordRehashed,
    PasswordSet,
    Payload,
    RoleGranted,
    SessionsEnded,
    StandingSet,
)
from configs.contracts.ids import derived_id, new_id
from configs.contracts.loading import IdempotencyRow
from configs.contracts.topics import AUTH_ACCOUNTS

SCOPE = "register"
KEPT_REGISTRATIONS: Final = 4

AccountCommand = (
    Register | JoinIdentity | Rehash | RequestToken | VerifyAddress | ResetPassword | SetPassword | EndSessions | GrantRole | SetStanding
    | SignIn | CheckSession
    | FactorCommand
)
AccountAnswer = (
    Registered | AddressTaken | AwaitsConfirmation | IdempotencyConflict | Rehashed | TokenRequested | TokenInvalid
    | AccountChanged | SignedIn | NotSignedIn | AccountGone | SessionStands | Joined | Incomplete | Factors
)


def registration_id(user_id: str) -> str:
    """The id of the event that registered this person."""
    return derived_id(user_id, "registered")


@dataclass(frozen=True, slots=True)
class AccountRows:
    """What the loader knows of one address."""

    account: AccountRow | None
    requests: Sequence[IdempotencyRow]


class Account(Folded[AccountRow]):
    """One address: its facts, and the requests that registered it."""

    __slots__ = ("registrations", "requests")

    def __init__(self) -> None:
        super().__init__(after)
        self.requests: Requests | None = None
        self.registrations: dict[str, tuple[int, str | None]] = {}
        """Person -> (version, family) of the registrations that this memory has seen; rows do not tell the family."""

    def registered(self, payload: AccountRegistered, version: int) -> None:
        self.registrations.setdefault(payload.user_id, (version, payload.family_id))
        while len(self.registrations) > KEPT_REGISTRATIONS:
            del self.registrations[next(iter(self.registrations))]


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
        if isinstance(command, Register):
            return self._register(command, account, now)
        if isinstance(command, JoinIdentity):
            return _join(command, row, now)
        if isinstance(command, RequestToken):
            return _decided(_token_requested(command, row), now, lambda version: TokenRequested())
        if isinstance(command, VerifyAddress):
            return _verify(command, row, now)
        if isinstance(command, ResetPassword):
            return _reset(command, row, now)
        if isinstance(command, FactorCommand):
            payload, answer = decide_factor(command, row, now)
            return _answer(answer) if payload is None else _decided(payload, now, lambda version: answer)
        if isinstance(command, GrantRole):
            return _grant_role(command, row, now)
        if row is None or row.user_id != command.user_id:
            return _answer(_refusal(command, row))
        if isinstance(command, SetStanding):
            return _set_standing(command, row, now)
        if isinstance(command, Rehash):
            if row.password_hash != command.stored:
                return _answer(Rehashed(0))
            rehashed = PasswordRehashed(
                user_id=command.user_id, email_hash=command.email_hash, password_hash=command.password_hash
            )
            return _decided(rehashed, now, Rehashed)
        if isinstance(command, SetPassword):
            return _set_password(command, row, now)
        if isinstance(command, EndSessions):
            return _end_sessions(command, row, now)
        if isinstance(command, SignIn):
            return _answer(_sign_in(command, row))
        stands = row.admits(command.user_id, command.sessions_from, command.family_id)
        return _answer(SessionStands(stands, row.permission_role))

    def _register(self, command: Register, account: Account, now: datetime) -> Decision[AccountAnswer]:
        confirming = command.verification_expires_at
        if account.row is not None and not account.row.vacant:
            repeated = _repeated(command, account, account.row, now)
            if confirming is None:
                changed = isinstance(repeated, Registered) and not _still_as_registered(account.row)
                return _answer(AddressTaken() if changed else repeated)
            # Whoever asks learns nothing, and one event is appended as for a free address; its holder gets a mail.
            payload = AddressTokenRequested(
                user_id=account.row.user_id, email_hash=command.email_hash, purpose="reset", cause="registration",
                expires_at=confirming,
            )
            if isinstance(repeated, Registered):
                return _answer(AwaitsConfirmation())
            return _decided(payload, now, lambda version: AwaitsConfirmation())
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
        return _decided(
            registered, now,
            lambda version: AwaitsConfirmation() if confirming is not None
            else Registered(command.user_id, event_id, version, command.family_id, replayed=False),
            event_id=event_id,
        )

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
        if isinstance(payload, AccountRegistered) and payload.idempotency_key is not None:
            account.requests = account.requests or Requests()
            account.requests.remember(
                payload.idempotency_key, Remembered(payload.body_digest or "", event.event_id, event.occurred_at)
            )

    def entries(self) -> int:
        return len(self._accounts)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._accounts.evict(limit, lambda key, account: account.newest < committed(key))


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


def _token_requested(command: RequestToken, row: AccountRow | None) -> AddressTokenRequested:
    """Whoever asks to confirm an address that two have registered gets what takes the account over."""
    contested = row is not None and row.security.contested and command.purpose == "verify"
    return AddressTokenRequested(
        user_id=None if row is None or row.vacant else row.user_id, email_hash=command.email_hash,
        purpose="reset" if contested else command.purpose, cause="registration" if contested else "asked",
        expires_at=command.expires_at,
    )


def _usable(pending: Pending | None, token_id: str, now: datetime) -> bool:
    return pending is not None and pending.token_id == token_id and now < pending.expires_at


def _verify(command: VerifyAddress, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None:
        return _answer(TokenInvalid())
    if row.verified_at is not None and row.security.verified_by == command.token_id:
        return _answer(_changed(row, 0))
    if not _usable(row.security.verification, command.token_id, now):
        return _answer(TokenInvalid())
    verified = AddressVerified(user_id=row.user_id, email_hash=row.email_hash, token_id=command.token_id)
    return _decided(verified, now, lambda version: AccountChanged(row.user_id, row.password_hash, True, version))


def _reset(command: ResetPassword, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None or not _usable(row.security.reset, command.token_id, now):
        return _answer(TokenInvalid())
    password = PasswordSet(
        user_id=row.user_id, email_hash=row.email_hash, password_hash=command.password_hash, token_id=command.token_id
    )
    return _decided(password, now, lambda version: AccountChanged(row.user_id, command.password_hash, True, version))


def _set_password(command: SetPassword, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    if row.password_hash != command.stored or not row.admits(command.user_id, command.sessions_from, command.family_id):
        return _answer(NotSignedIn())
    password = PasswordSet(
        user_id=row.user_id, email_hash=row.email_hash, password_hash=command.password_hash,
        kept_family_id=command.family_id,
    )
    verified = row.verified_at is not None
    return _decided(password, now, lambda version: AccountChanged(row.user_id, command.password_hash, verified, version))


def _end_sessions(command: EndSessions, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    """Whoever is kept is admitted for good: a session that has ended must not keep itself."""
    if not row.admits(command.user_id, command.sessions_from, command.family_id):
        return _answer(NotSignedIn())
    ended = SessionsEnded(user_id=row.user_id, email_hash=row.email_hash, kept_family_id=command.family_id)
    return _decided(ended, now, lambda version: _changed(row, version))


def _grant_role(command: GrantRole, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None or row.status != "active":
        return _answer(NotSignedIn())
    if row.permission_role == command.role:
        return _answer(_changed(row, 0))
    granted = RoleGranted(
        user_id=row.user_id, email_hash=row.email_hash, role=command.role, granted_by=command.granted_by
    )
    return _decided(granted, now, lambda version: _changed(row, version))


def _set_standing(command: SetStanding, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    if command.number <= row.standing_number:
        return _answer(_changed(row, row.sessions_from))
    if command.family_id is not None and not row.admits(command.user_id, command.sessions_from, command.family_id):
        return _answer(NotSignedIn())
    standing = StandingSet(
        user_id=row.user_id, email_hash=row.email_hash, status=command.status, number=command.number,
        cause_id=command.cause_id,
    )
    return _decided(standing, now, lambda version: _changed(row, version), event_id=command.event_id)


def _join(command: JoinIdentity, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    """Links a confirmed account; registers a new person, also in place of an account that nobody confirmed."""
    if row is not None and row.vacant:
        row = None
    hashed = hash_of(command.identity)
    if row is not None and row.verified_at is not None:
        linked_by = dict(row.security.identities).get(hashed)
        if linked_by is not None:
            return _answer(Joined(row.user_id, linked_by, 0, None))
        if len(row.security.identities) >= IDENTITIES:
            return _answer(NotSignedIn())
        linked = IdentityLinked(user_id=row.user_id, email_hash=row.email_hash, identity=command.identity)
        event_id = derived_id(hashed, f"linked:{row.user_id}")
        return _decided(linked, now, lambda version: Joined(row.user_id, event_id, version, None), event_id=event_id)
    if command.role is None or command.display_name is None or command.birth_date is None:
        return _answer(Incomplete())
    displaced = None if row is None else row.user_id
    registered = AccountRegistered(
        user_id=command.user_id, email=command.email, email_hash=command.email_hash, role=command.role,
        display_name=command.display_name, birth_date=command.birth_date, address_verified=True,
        identity=command.identity, displaces=displaced,
    )
    event_id = registration_id(command.user_id)
    return _decided(
        registered, now, lambda version: Joined(command.user_id, event_id, version, displaced, registered=True),
        event_id=event_id,
    )


def _sign_in(command: SignIn, row: AccountRow) -> AccountAnswer:
    if command.identity_hash is not None:
        if row.vacant:
            return AccountGone()
        if row.status != "active" or command.identity_hash not in dict(row.security.identities):
            return NotSignedIn()
        return _admitted(row)
    if row.status != "active" or row.password_hash != command.stored or (command.confirmed and row.verified_at is None):
        return NotSignedIn()
    return _admitted(row)


def _admitted(row: AccountRow) -> SignedIn:
    return SignedIn(
        row.user_id, row.sessions_from, second_factor=row.security.totp is not None, permission_role=row.permission_role
    )


def _refusal(command: AccountCommand, row: AccountRow | None) -> AccountAnswer:
    """The answer where the address is not the person's."""
    if isinstance(command, Rehash):
        return Rehashed(0)
    if isinstance(command, SignIn) and command.identity_hash is not None and row is not None:
        return AccountGone()  # an address that an identity signed in to changes hands only when its account is erased
    return SessionStands(False) if isinstance(command, CheckSession) else NotSignedIn()


def _changed(row: AccountRow, version: int) -> AccountChanged:
    return AccountChanged(row.user_id, row.password_hash, row.verified_at is not None, version)


def _answer(answer: AccountAnswer) -> Decision[AccountAnswer]:
    return Decision((), lambda versions: answer)


def _decided(
    payload: Payload, now: datetime, answer: Callable[[int], AccountAnswer], *, event_id: str | None = None
) -> Decision[AccountAnswer]:
    """One event of the address, and the answer by its version."""
    key: str = payload.email_hash  # type: ignore[attr-defined]  # every event of auth.accounts has it
    event = Event(event_id or new_id(), now, key, payload)
    return Decision((Append(AUTH_ACCOUNTS, key, event),), lambda versions: answer(versions[0]))
