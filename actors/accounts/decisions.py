"""What the decisions of an account have in common: an answer at once, or one event and the answer by its version."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from actors.accounts.answers import AccountAnswer, AccountChanged
from actors.sharding.memory import Append, Decision
from configs.contracts.accounts import AccountRow
from configs.contracts.events import Event, Payload
from configs.contracts.ids import new_id
from configs.contracts.topics import AUTH_ACCOUNTS


def answered(answer: AccountAnswer) -> Decision[AccountAnswer]:
    """The answer; nothing to append."""
    return Decision((), lambda versions: answer)


def decided(
    payload: Payload, now: datetime, answer: Callable[[int], AccountAnswer], *, event_id: str | None = None
) -> Decision[AccountAnswer]:
    """One event of the address, and the answer by its version."""
    key: str = payload.email_hash  # type: ignore[attr-defined]  # every event of auth.accounts has it
    event = Event(event_id or new_id(), now, key, payload)
    return Decision((Append(AUTH_ACCOUNTS, key, event),), lambda versions: answer(versions[0]))


def changed(row: AccountRow, version: int) -> AccountChanged:
    """The account with the password and the verification that it had."""
    return changed_to(row, row.password_hash, row.verified_at is not None, version)


def changed_to(row: AccountRow, password_hash: str | None, verified: bool, version: int) -> AccountChanged:
    claim = row.security.claim
    return AccountChanged(row.user_id, password_hash, verified, version, None if claim is None else claim.address_hash)
