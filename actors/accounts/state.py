"""Who owns an address and with what they sign in: pure decisions, rebuilt from rows and the log.

The first claim on an address in the log is the only one, for this memory and for the rows: both fold the events with
``contracts.accounts.after``. A registration's event id is derived from the person it makes, so a repeated command is the
same event, and a remembered request can be checked against the claim that it is said to have made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from actors.accounts import addresses
from actors.accounts.answers import (
    AccountChanged,
    AccountGone,
    AddressTaken,
    AwaitsConfirmation,
    Changing,
    Claimed,
    Factors,
    Home,
    Incomplete,
    Joined,
    NotSignedIn,
    Registered,
    Rehashed,
    SessionStands,
    SignedIn,
    TokenInvalid,
    TokenRequested,
)
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
from actors.accounts.factors import FactorCommand, decide_factor
from actors.entries import Entries
from actors.folded import Folded
from actors.idempotency import IdempotencyConflict, Remembered, Requests, request_key
from actors.sharding.memory import Append, Decision
from configs.contracts.accounts import (
    IDENTITIES,
    AccountRow,
    Pending,
    address_changed_id,
    address_claimed_id,
    after,
    hash_of,
)
from configs.contracts.events import (
    TOPIC_OF,
    AccountRegistered,
    AddressChangeRequested,
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
CHANGE_SCOPE = "change-address"
KEPT_REGISTRATIONS: Final = 4

AccountCommand = (
    Register | JoinIdentity | Rehash | RequestToken | VerifyAddress | ResetPassword | SetPassword | EndSessions | GrantRole | SetStanding
    | SignIn | CheckSession
    | FindHome | RequestAddressChange | FindChange | ClaimAddress | ChangeAddress
    | FactorCommand
)
AccountAnswer = (
    Registered | AddressTaken | AwaitsConfirmation | IdempotencyConflict | Rehashed | TokenRequested | TokenInvalid
    | AccountChanged | SignedIn | NotSignedIn | AccountGone | SessionStands | Joined | Incomplete | Factors
    | Home | Changing | Claimed
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
        if isinstance(command, FindHome):
            return _answer(Home(command.email_hash if row is None else row.security.home or command.email_hash))
        if isinstance(command, ClaimAddress):
            return _claim(command, row, now)
        if isinstance(command, Register):
            return self._register(command, account, now)
        if isinstance(command, JoinIdentity):
            return _join(command, row, now)
        if row is not None and row.security.home is not None:
            row = None  # a claim is no account
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
        if isinstance(command, RequestAddressChange):
            return self._request_change(command, account, row, now)
        if isinstance(command, FindChange):
            return _answer(addresses.found(command, row, now))
        if isinstance(command, ChangeAddress):
            return _change_address(command, row, now)
        if isinstance(command, EndSessions):
            return _end_sessions(command, row, now)
        if isinstance(command, SignIn):
            return _answer(_sign_in(command, row))
        stands = row.admits(command.user_id, command.sessions_from, command.family_id)
        return _answer(SessionStands(stands, row.permission_role))

    def _register(self, command: Register, account: Account, now: datetime) -> Decision[AccountAnswer]:
        confirming, row = command.verification_expires_at, account.row
        # Of somebody who is erased, a claim may stand for a moment longer: it is not registered under their key.
        claimed = command.address_hash not in ("", command.email_hash)
        if claimed or (row is not None and not row.vacant):
            its_own = row is not None and addresses.is_account_of(row, command.email_hash, command.address_hash)
            repeated = _repeated(command, account, row, now) if row is not None and its_own else AddressTaken()
            if confirming is None:
                changed = row is not None and isinstance(repeated, Registered) and not _still_as_registered(row)
                return _answer(AddressTaken() if changed else repeated)
            # Whoever asks learns nothing, and one event is appended as for a free address; its holder gets a mail.
            payload = AddressTokenRequested(
                user_id=row.user_id if row is not None and its_own else None, email_hash=command.email_hash, purpose="reset",
                cause="registration", expires_at=confirming,
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

    def _request_change(
        self, command: RequestAddressChange, account: Account, row: AccountRow, now: datetime
    ) -> Decision[AccountAnswer]:
        key = None if command.idempotency_key is None else request_key(CHANGE_SCOPE, command.idempotency_key)
        answer = addresses.requested(replace(command, idempotency_key=key), row)
        known = None if key is None or account.requests is None else account.requests.find(key, now)
        if isinstance(answer, NotSignedIn | TokenRequested):
            return _answer(answer)
        if known is not None:
            return _answer(TokenRequested() if known.body_digest == (command.body_digest or "") else IdempotencyConflict())
        return _decided(answer, now, lambda version: TokenRequested())

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


def _verify(command: VerifyAddress, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None:
        return _answer(TokenInvalid())
    if row.verified_at is not None and row.security.verified_by == command.token_id:
        return _answer(_changed(row, 0))
    if not _usable(row.security.verification, command.token_id, now):
        return _answer(TokenInvalid())
    verified = AddressVerified(user_id=row.user_id, email_hash=row.email_hash, token_id=command.token_id)
    return _decided(verified, now, lambda version: _changed_to(row, row.password_hash, True, version))


def _reset(command: ResetPassword, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None or not _usable(row.security.reset, command.token_id, now):
        return _answer(TokenInvalid())
    password = PasswordSet(
        user_id=row.user_id, email_hash=row.email_hash, password_hash=command.password_hash, token_id=command.token_id
    )
    return _decided(password, now, lambda version: _changed_to(row, command.password_hash, True, version))


def _set_password(command: SetPassword, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    if row.password_hash != command.stored or not row.admits(command.user_id, command.sessions_from, command.family_id):
        return _answer(NotSignedIn())
    password = PasswordSet(
        user_id=row.user_id, email_hash=row.email_hash, password_hash=command.password_hash,
        kept_family_id=command.family_id,
    )
    verified = row.verified_at is not None
    return _decided(password, now, lambda version: _changed_to(row, command.password_hash, verified, version))


def _end_sessions(command: EndSessions, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    """Whoever is kept is admitted for good: a session that has ended must not keep itself."""
    if not row.admits(command.user_id, command.sessions_from, command.family_id):
        return _answer(NotSignedIn())
    ended = SessionsEnded(user_id=row.user_id, email_hash=row.email_hash, kept_family_id=command.family_id)
    return _decided(ended, now, lambda version: _changed(row, version))


def _grant_role(command: GrantRole, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    if row is None or row.status != "active" or not addresses.is_account_of(row, command.email_hash, command.address_hash):
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
        cause_id=command.cause_id, claim=row.security.claim if command.status == "deleted" else None,
    )
    return _decided(standing, now, lambda version: _changed(row, version), event_id=command.event_id)


def _join(command: JoinIdentity, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    """Links a confirmed account; registers a new person, also in place of an account that nobody confirmed."""
    if row is not None and row.vacant:
        row = None
    claimed = command.address_hash not in ("", command.email_hash)
    if (row is None and claimed) or (
        row is not None and not addresses.is_account_of(row, command.email_hash, command.address_hash)
    ):
        return _answer(NotSignedIn())
    hashed = hash_of(command.identity)
    if row is not None and row.verified_at is not None:
        linked_by = dict(row.security.identities).get(hashed)
        if linked_by is not None:
            return _answer(Joined(row.user_id, linked_by, 0, None, email_hash=row.email_hash))
        if len(row.security.identities) >= IDENTITIES:
            return _answer(NotSignedIn())
        linked = IdentityLinked(user_id=row.user_id, email_hash=row.email_hash, identity=command.identity)
        event_id = derived_id(hashed, f"linked:{row.user_id}")
        return _decided(
            linked, now, lambda version: Joined(row.user_id, event_id, version, None, email_hash=row.email_hash),
            event_id=event_id,
        )
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
        registered, now,
        lambda version: Joined(
            command.user_id, event_id, version, displaced, registered=True, email_hash=command.email_hash
        ),
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
    if not addresses.is_account_of(row, command.email_hash, command.address_hash):
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
    return _changed_to(row, row.password_hash, row.verified_at is not None, version)


def _changed_to(row: AccountRow, password_hash: str | None, verified: bool, version: int) -> AccountChanged:
    claim = row.security.claim
    return AccountChanged(row.user_id, password_hash, verified, version, None if claim is None else claim.address_hash)


def _claim(command: ClaimAddress, row: AccountRow | None, now: datetime) -> Decision[AccountAnswer]:
    answer = addresses.claimed(command, row)
    if isinstance(answer, Claimed | AddressTaken):
        return _answer(answer)
    event_id = address_claimed_id(command.move.token_id)
    return _decided(answer, now, lambda version: Claimed(version, answer.displaces), event_id=event_id)


def _change_address(command: ChangeAddress, row: AccountRow, now: datetime) -> Decision[AccountAnswer]:
    answer, move = addresses.changed(command, row), command.move
    if isinstance(answer, AccountChanged | TokenInvalid):
        return _answer(answer)
    claimed = None if move.address_hash == row.email_hash else move.address_hash
    return _decided(
        answer, now, lambda version: AccountChanged(row.user_id, row.password_hash, True, version, claimed),
        event_id=address_changed_id(move.token_id),
    )


def _answer(answer: AccountAnswer) -> Decision[AccountAnswer]:
    return Decision((), lambda versions: answer)


def _decided(
    payload: Payload, now: datetime, answer: Callable[[int], AccountAnswer], *, event_id: str | None = None
) -> Decision[AccountAnswer]:
    """One event of the address, and the answer by its version."""
    key: str = payload.email_hash  # type: ignore[attr-defined]  # every event of auth.accounts has it
    event = Event(event_id or new_id(), now, key, payload)
    return Decision((Append(AUTH_ACCOUNTS, key, event),), lambda versions: answer(versions[0]))
