"""Registering a person: from a checked body to a durable account."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from actors.accounts.answers import AddressTaken, AwaitsConfirmation, Registered
from actors.accounts.commands import Register
from actors.idempotency import IdempotencyConflict
from configs.contracts import changes
from configs.contracts.events import Role, UserCreated
from configs.contracts.ids import email_hash, new_id
from configs.contracts.people import MINIMUM_AGE_YEARS, age_years
from serve_apps.dependencies import Dependencies
from serve_apps.limits import Rate
from serve_apps.problems import Refused

HOUR_S: Final = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """A registration whose fields are valid. ``with_session``: the person signs in by registering.

    ``confirm``: the address must be confirmed before anybody signs in.
    """

    email: str
    password: str | None
    role: Role
    display_name: str
    birth_date: date
    with_session: bool
    confirm: bool
    idempotency_key: str | None
    body_digest: str | None


async def registered(dependencies: Dependencies, new: NewAccount) -> Registered | AwaitsConfirmation:
    """The durable account, by this request or by the earlier one that it repeats.

    With ``confirm`` always AwaitsConfirmation, after the same steps whether or not the address was free: the read model
    is left to the projections.

    Raises Refused: underage, address taken, or the key was used with another body. DependencyUnavailable.
    """
    if age_years(new.birth_date, datetime.now(UTC).date()) < MINIMUM_AGE_YEARS:
        raise Refused("underage")
    hashed = None if new.password is None else await dependencies.passwords.hash(new.password)
    address = email_hash(new.email)
    command = Register(
        user_id=new_id(),
        email=new.email,
        email_hash=address,
        password_hash=hashed,
        role=new.role,
        display_name=new.display_name,
        birth_date=new.birth_date.isoformat(),
        family_id=new_id() if new.with_session else None,
        session_expires_at=session_end(dependencies) if new.with_session else None,
        verification_expires_at=_verification_end(dependencies) if new.confirm else None,
        idempotency_key=new.idempotency_key,
        body_digest=new.body_digest,
    )
    answer = await dependencies.accounts.register(command)
    if isinstance(answer, AddressTaken):
        raise Refused("address_taken")
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, AwaitsConfirmation):
        return answer
    if answer.replayed:
        # The first request may have ended before it told the read model, and the rows may not have the person yet.
        if not await dependencies.people.records((answer.user_id,)):
            await dependencies.write_through.apply(
                *changes.appeared(answer.user_id, new.role, new.display_name, command.birth_date)
            )
    else:
        written = dependencies.write_through.apply(*changes.created(
            answer.user_id, new.role, new.display_name, command.birth_date,
            email_hash=address, password_hash=hashed, version=answer.version,
        ))
        created = UserCreated(
            user_id=answer.user_id, role=new.role, display_name=new.display_name, birth_date=command.birth_date
        )
        await asyncio.gather(written, dependencies.cards.note(created))
    return answer


def session_end(dependencies: Dependencies) -> datetime:
    """When a family that starts now expires unless it is used."""
    return datetime.now(UTC) + timedelta(seconds=dependencies.settings.auth.refresh_ttl_s)


def _verification_end(dependencies: Dependencies) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=dependencies.settings.auth.verify_ttl_s)


async def count_registration(dependencies: Dependencies, client: str, email: str) -> None:
    """Raises Refused: too many registrations from this client address, or of this e-mail address, be it free or taken.

    Where addresses are confirmed every registration makes its address get a mail.
    """
    limits = dependencies.settings.limits
    account = (
        Rate("mail-account", limits.mails_per_account_an_hour, HOUR_S) if dependencies.settings.auth.confirm_address
        else Rate("register-account", limits.registrations_per_account_an_hour, HOUR_S)
    )
    await dependencies.limits.take(
        (account, email_hash(email)), (Rate("register", limits.registrations_per_address_an_hour, HOUR_S), client)
    )
