"""Routes of accounts and sessions."""

from __future__ import annotations

from fastapi import APIRouter, Request

from actors.sessions.commands import RevokeSession, RotateSession, SessionInvalid, StartSession
from configs.contracts.ids import email_hash, new_id
from configs.contracts.tokens import parse_refresh_token, refresh_token, token_hash
from serve_apps.auth.models import Jwk, Jwks, LoginBody, Me, RefreshBody, RegisterBody, Tokens
from serve_apps.auth.registration import NewAccount, count_registration, registered, session_end
from serve_apps.auth.signing_in import signed_in
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors

router = APIRouter(prefix="/auth", tags=["auth"])


def _client(dependencies: Dependencies, request: Request) -> str:
    peer = request.client.host if request.client else None
    headers = (value for name, value in request.scope["headers"] if name == b"x-forwarded-for")
    return dependencies.addresses.of(peer, headers)


async def _started(
    dependencies: Dependencies, user_id: str, family_id: str, *, parent_event_id: str | None = None
) -> Tokens:
    """Starts a family and answers its first tokens."""
    refresh = refresh_token(dependencies.refresh_key, family_id, 0)
    await dependencies.sessions.start(StartSession(
        family_id=family_id, user_id=user_id, token_hash=token_hash(refresh),
        expires_at=session_end(dependencies), parent_event_id=parent_event_id,
    ))
    return _tokens(dependencies, user_id, family_id, refresh)


def _tokens(dependencies: Dependencies, user_id: str, family_id: str, refresh: str) -> Tokens:
    return Tokens(
        user_id=user_id,
        access_token=dependencies.tokens.issue(user_id, family_id),
        refresh_token=refresh,
        expires_in=dependencies.settings.auth.access_ttl_s,
    )


@router.post(
    "/register", operation_id="register", status_code=201, response_model=Tokens,
    responses=errors(*EVERYWHERE, *WITH_BODY, "underage", "address_taken", "idempotency_conflict"),
)
async def register(body: RegisterBody, request: Request, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Tokens:
    """Registers an adult and signs them in. An address can be registered once."""
    await count_registration(dependencies, _client(dependencies, request))
    account = await registered(dependencies, NewAccount(
        email=body.email, password=body.password, role=body.role, display_name=body.display_name,
        birth_date=body.birth_date, with_session=True, idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    ))
    if account.family_id is None:
        return await _started(dependencies, account.user_id, new_id())
    return await _started(dependencies, account.user_id, account.family_id, parent_event_id=account.event_id)


@router.post(
    "/login", operation_id="login", response_model=Tokens, responses=errors(*EVERYWHERE, *WITH_BODY, "wrong_credentials"),
)
async def login(body: LoginBody, request: Request, dependencies: Deps) -> Tokens:
    """Signs in with address and password and starts a token family."""
    credential = await signed_in(dependencies, body.email, body.password, _client(dependencies, request))
    tokens = await _started(dependencies, credential.user_id, new_id())
    stored = credential.password_hash
    if stored is not None and dependencies.passwords.outdated(stored):
        dependencies.rehashing.soon(email_hash(body.email), credential.user_id, body.password)
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
    following = refresh_token(dependencies.refresh_key, family_id, counter + 1)
    answer = await dependencies.sessions.rotate(
        RotateSession(family_id=family_id, counter=counter, next_token_hash=token_hash(following))
    )
    if isinstance(answer, SessionInvalid):
        if answer.revoked_now:
            dependencies.revocations.add(family_id)
            await dependencies.write_through.revoke(family_id, dependencies.now_ms())
        raise Refused("refresh_token_invalid")
    return _tokens(
        dependencies, answer.user_id, family_id, refresh_token(dependencies.refresh_key, family_id, answer.counter)
    )


@router.post("/logout", operation_id="logout", response_model=Success, responses=errors(*SIGNED_IN))
async def logout(person: Person, dependencies: Deps) -> Success:
    """Ends this session: its access and refresh tokens are refused everywhere within 5 seconds."""
    revoked = await dependencies.sessions.revoke(
        RevokeSession(family_id=person.family_id, user_id=person.user_id, reason="logout")
    )
    dependencies.revocations.add(person.family_id)
    await dependencies.write_through.revoke(person.family_id, revoked.at_ms)
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
