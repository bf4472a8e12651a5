"""Beginning and ending sessions, wherever a route does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import Request, Response

from actors.accounts.answers import AccountChanged, SignedIn
from actors.sessions.commands import RevokeSession, StartSession
from configs.contracts.events import PermissionRole
from configs.contracts.ids import new_id
from configs.contracts.read_model import ended_member
from configs.contracts.tokens import refresh_token, token_hash
from serve_apps.auth.models import Accepted, SecondFactorNeeded, Tokens
from serve_apps.auth.registration import session_end
from serve_apps.auth.sealing import CEREMONY_S
from serve_apps.dependencies import Dependencies
from serve_apps.problems import Refused

CLIENT_LENGTH: Final = 200
SECOND_FACTOR: Final = "second factor"
ASKS: Final[dict[int | str, dict[str, Any]]] = {202: {
    "model": SecondFactorNeeded, "description": "The account asks for a code first.",
}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A session to begin: whose, by which account, and what the client calls itself."""

    user_id: str
    email_hash: str
    sessions_from: int
    client: str | None
    family_id: str | None = None
    parent_event_id: str | None = None
    permission_role: PermissionRole = "user"


def client_of(dependencies: Dependencies, request: Request) -> str:
    """The client's network address as far as it can be believed."""
    peer = request.client.host if request.client else None
    headers = (value for name, value in request.scope["headers"] if name == b"x-forwarded-for")
    return dependencies.addresses.of(peer, headers)


def name_of(request: Request) -> str | None:
    """What the client calls itself, for the person's list of sessions."""
    text = request.headers.get("user-agent", "")[:CLIENT_LENGTH]
    return "".join(letter for letter in text if letter.isprintable()) or None


async def begun(dependencies: Dependencies, begin: Begin) -> Tokens:
    """Starts a family, durable before its first tokens are handed out.

    Raises Refused: a repeated registration, whose session has ended since.
    """
    family_id = begin.family_id or new_id()
    refresh, now = refresh_token(dependencies.refresh_key, family_id, 0), datetime.now(UTC)
    started = await dependencies.sessions.start(StartSession(
        family_id=family_id, user_id=begin.user_id, token_hash=token_hash(refresh), expires_at=session_end(dependencies),
        email_hash=begin.email_hash, sessions_from=begin.sessions_from, signed_in_at=now, client=begin.client,
        parent_event_id=begin.parent_event_id,
    ))
    if started.revoked:
        raise Refused("address_taken")
    return tokens(
        dependencies, begin.user_id, family_id, refresh, email_hash=begin.email_hash, sessions_from=begin.sessions_from,
        signed_in_at=now, permission_role=begin.permission_role,
    )


def asked_first(dependencies: Dependencies, admitted: SignedIn, email_hash: str) -> Response | None:
    """The answer 202 with a challenge where the account asks for a code first; None: begin the session."""
    if not admitted.second_factor:
        return None
    _, text = dependencies.account_seals.ceremony(
        SECOND_FACTOR, email_hash=email_hash, user_id=admitted.user_id, sessions_from=admitted.sessions_from
    )
    asked = SecondFactorNeeded(challenge=text, methods=["totp", "recovery_code"], expires_in=CEREMONY_S)
    return Response(asked.model_dump_json(by_alias=True), status_code=202, media_type="application/json")


def tokens(
    dependencies: Dependencies, user_id: str, family_id: str, refresh: str, *, email_hash: str | None, sessions_from: int,
    signed_in_at: datetime | None, permission_role: PermissionRole = "user",
) -> Tokens:
    """The answer of everything that signs in or stays signed in."""
    return Tokens(
        user_id=user_id,
        access_token=dependencies.tokens.issue(
            user_id, family_id, permission_role=permission_role, email_hash=email_hash or "", sessions_from=sessions_from,
            signed_in_at=0.0 if signed_in_at is None else signed_in_at.timestamp(),
        ),
        refresh_token=refresh,
        expires_in=dependencies.settings.auth.access_ttl_s,
    )


def accepted() -> Response:
    """202: taken, and nothing is told of what follows."""
    return Response(Accepted().model_dump_json(by_alias=True), status_code=202, media_type="application/json")


async def revoked(dependencies: Dependencies, command: RevokeSession) -> None:
    """Ends a session, durable, in this replica at once and in every one within 5 seconds."""
    ended = await dependencies.sessions.revoke(command)
    dependencies.revocations.add(command.family_id)
    await dependencies.write_through.revoke(command.family_id, ended.at_ms)


async def all_ended(dependencies: Dependencies, changed: AccountChanged, kept_family_id: str | None) -> None:
    """Lets every replica refuse the person's sessions from before the change, but one."""
    dependencies.revocations.add_all(changed.user_id, changed.version, kept_family_id)
    member = ended_member(changed.user_id, changed.version, kept_family_id)
    await dependencies.write_through.revoke(member, dependencies.now_ms())
