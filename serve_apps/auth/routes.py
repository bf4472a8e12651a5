"""Routes of accounts and sessions."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from actors.accounts.answers import AwaitsConfirmation
from actors.accounts.commands import CheckSession
from actors.sessions.commands import RevokeSession, RotateSession, SessionInvalid
from configs.contracts.events import PermissionRole
from configs.contracts.ids import email_hash
from configs.contracts.tokens import parse_refresh_token, refresh_token, token_hash
from serve_apps.auth.models import Accepted, Jwk, Jwks, LoginBody, Me, RefreshBody, RegisterBody, Tokens
from serve_apps.auth.registration import NewAccount, count_registration, registered
from serve_apps.auth.sessions import ASKS, Begin, accepted, asked_first, begun, client_of, name_of, revoked, tokens
from serve_apps.auth.signing_in import signed_in
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/auth", tags=["auth"])

AWAITS: Final[dict[int | str, dict[str, Any]]] = {202: {
    "model": Accepted, "description": "Accepted, for every address; confirm it with the token that is mailed.",
}}


@router.post(
    "/register", operation_id="register", status_code=201, response_model=Tokens,
    responses=errors(*EVERYWHERE, *WITH_BODY, "underage", "address_taken", "idempotency_conflict") | AWAITS,
)
async def register(
    body: RegisterBody, request: Request, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Tokens | Response:
    """Registers an adult. An address can be registered once.

    Where addresses are confirmed first (always in production) the answer is 202 for every address, and a mail tells what
    to do; elsewhere 201 and the person is signed in.
    """
    await count_registration(dependencies, client_of(dependencies, request), body.email)
    confirm = dependencies.settings.auth.confirm_address
    return await to_the_end(_registered(dependencies, request, NewAccount(
        email=body.email, password=body.password, role=body.role, display_name=body.display_name,
        birth_date=body.birth_date, with_session=not confirm, confirm=confirm, idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    )))


async def _registered(dependencies: Dependencies, request: Request, new: NewAccount) -> Tokens | Response:
    account = await registered(dependencies, new)
    if isinstance(account, AwaitsConfirmation):
        return accepted()
    parent = None if account.family_id is None else account.event_id
    return await begun(dependencies, Begin(
        user_id=account.user_id, email_hash=email_hash(new.email), sessions_from=0, client=name_of(request),
        family_id=account.family_id, parent_event_id=parent,
    ))


@router.post(
    "/login", operation_id="login", response_model=Tokens,
    responses=errors(*EVERYWHERE, *WITH_BODY, "wrong_credentials") | ASKS,
)
async def login(body: LoginBody, request: Request, dependencies: Deps) -> Tokens | Response:
    """Signs in with address and password and starts a token family; 202 where a code completes it."""
    known, admitted = await signed_in(dependencies, body.email, body.password, client_of(dependencies, request))
    address, stored = known.email_hash, known.credential.password_hash
    if (asked := asked_first(dependencies, admitted, address)) is not None:
        return asked
    tokens = await begun(dependencies, Begin(
        user_id=admitted.user_id, email_hash=address, sessions_from=admitted.sessions_from, client=name_of(request),
        permission_role=admitted.permission_role,
    ))
    if stored is not None and dependencies.passwords.outdated(stored):
        dependencies.rehashing.soon(address, admitted.user_id, stored, body.password)
    return tokens


@router.post(
    "/refresh", operation_id="refresh", response_model=Tokens,
    responses=errors(*EVERYWHERE, *WITH_BODY, "refresh_token_invalid"),
)
async def refresh(body: RefreshBody, dependencies: Deps) -> Tokens:
    """Exchanges a refresh token for its successor; presenting an older one ends the whole family.

    The same token may be presented again for 10 seconds and gets the same successor.
    """
    parsed = parse_refresh_token(dependencies.refresh_key, body.refresh_token)
    if parsed is None:
        raise Refused("refresh_token_invalid")
    family_id, counter = parsed
    permission_role = await _stands(dependencies, family_id)
    following = refresh_token(dependencies.refresh_key, family_id, counter + 1)
    answer = await dependencies.sessions.rotate(
        RotateSession(family_id=family_id, counter=counter, next_token_hash=token_hash(following))
    )
    if isinstance(answer, SessionInvalid):
        if answer.revoked_now:
            dependencies.revocations.add(family_id)
            await dependencies.write_through.revoke(family_id, dependencies.now_ms())
        raise Refused("refresh_token_invalid")
    return tokens(
        dependencies, answer.user_id, family_id, refresh_token(dependencies.refresh_key, family_id, answer.counter),
        email_hash=answer.email_hash, sessions_from=answer.sessions_from, signed_in_at=answer.signed_in_at,
        permission_role=permission_role,
    )


async def _stands(dependencies: Dependencies, family_id: str) -> PermissionRole:
    """What the session's account may do by now. Raises Refused: the session has ended.

    Asked before the rotation: one whose successor cannot be handed out afterwards would make the client's token an old one.
    """
    found = await dependencies.sessions.find(family_id)
    if isinstance(found, SessionInvalid):
        raise Refused("refresh_token_invalid")
    if found.email_hash is None:
        return "user"
    session = await dependencies.accounts.stands(CheckSession(
        email_hash=found.email_hash, user_id=found.user_id, family_id=family_id, sessions_from=found.sessions_from,
    ))
    if not session.stands:
        await revoked(dependencies, RevokeSession(family_id=family_id, user_id=found.user_id, reason="password_changed"))
        raise Refused("refresh_token_invalid")
    return session.permission_role


@router.post("/logout", operation_id="logout", response_model=Success, responses=errors(*SIGNED_IN))
async def logout(person: Person, dependencies: Deps) -> Success:
    """Ends this session: its access and refresh tokens are refused everywhere within 5 seconds."""
    await to_the_end(revoked(
        dependencies, RevokeSession(family_id=person.family_id, user_id=person.user_id, reason="logout")
    ))
    return Success()


@router.get("/me", operation_id="getSession", response_model=Me, responses=errors(*SIGNED_IN))
async def me(person: Person, dependencies: Deps) -> Me:
    """Who the access token speaks for."""
    record = await dependencies.people.own_record(person.user_id)
    assert record.role is not None
    return Me(
        user_id=person.user_id, session_id=person.family_id, role=record.role, display_name=record.display_name,
        permission_role=person.permission_role,
    )


@router.get("/.well-known/jwks.json", operation_id="getJwks", response_model=Jwks)
async def jwks(dependencies: Deps) -> Jwks:
    """The public keys that verify access tokens."""
    return Jwks(keys=[Jwk(**key) for key in dependencies.tokens.jwks()])
