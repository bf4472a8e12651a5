"""Routes of a person's own sessions: where they are signed in, and ending that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Path

from actors.accounts.answers import NotSignedIn
from actors.accounts.commands import EndSessions
from configs.contracts.read_model import SessionEntry, sessions_key
from serve_apps.auth.models import Session, Sessions
from serve_apps.auth.sessions import all_ended
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN, Success
from serve_apps.identity import Deps, Person
from serve_apps.problems import SIGNED_IN, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/auth/sessions", tags=["auth"])

SessionIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a session's id")]
_ENTRIES: Final = msgspec.json.Decoder(list[SessionEntry])


@router.get("", operation_id="listSessions", response_model=Sessions, responses=errors(*SIGNED_IN))
async def list_sessions(person: Person, dependencies: Deps) -> Sessions:
    """Where the person is signed in, this session first, then the newest; at most 100. A new one shows within moments."""
    await dependencies.warm_sessions.ensure((person.user_id,))
    (value,) = await dependencies.reads.read(("GET", sessions_key(person.user_id)))
    revocations = dependencies.revocations
    others, own = [], None
    for entry in [] if value is None else _ENTRIES.decode(value):
        if entry.family_id == person.family_id:
            own = _shown(entry, current=True)
        elif entry.family_id not in revocations and not revocations.refuses_all(
            person.user_id, entry.family_id, entry.sessions_from
        ):
            others.append(_shown(entry, current=False))
    signed_in_at = datetime.fromtimestamp(person.signed_in_at, UTC) if person.signed_in_at else None
    own = own or Session(
        session_id=person.family_id, current=True, signed_in_at=signed_in_at, last_used_at=None, expires_at=None, client=None
    )
    return Sessions(sessions=[own, *others])


def _shown(entry: SessionEntry, *, current: bool) -> Session:
    return Session(
        session_id=entry.family_id, current=current, signed_in_at=entry.signed_in_at, last_used_at=entry.last_used_at,
        expires_at=entry.expires_at, client=entry.client,
    )


@router.delete("/{id}", operation_id="endSession", response_model=Success, responses=errors(*SIGNED_IN, "not_found"))
async def end_session(session_id: SessionIdPath, person: Person, dependencies: Deps) -> Success:
    """Ends one of one's own sessions; it is refused everywhere within 5 seconds. Ending it again changes nothing."""
    await to_the_end(_ended(dependencies, person.user_id, session_id))
    return Success()


async def _ended(dependencies: Dependencies, user_id: str, family_id: str) -> None:
    revoked = await dependencies.sessions.revoke_own(family_id, user_id)
    if revoked is None:
        raise Refused("not_found")
    dependencies.revocations.add(family_id)
    await dependencies.write_through.revoke(family_id, revoked.at_ms)


@router.delete("", operation_id="endOtherSessions", response_model=Success, responses=errors(*SIGNED_IN, "sign_in_again"))
async def end_other_sessions(person: Person, dependencies: Deps) -> Success:
    """Ends every session of the person but this one; they are refused everywhere within 5 seconds."""
    command = EndSessions(
        email_hash=person.email_hash, user_id=person.user_id, family_id=person.family_id, sessions_from=person.sessions_from
    )
    await to_the_end(_all_ended(dependencies, command))
    return Success()


async def _all_ended(dependencies: Dependencies, command: EndSessions) -> None:
    answer = await dependencies.accounts.end_sessions(command)
    if isinstance(answer, NotSignedIn):
        raise Refused("sign_in_again")
    await all_ended(dependencies, answer, command.family_id)
