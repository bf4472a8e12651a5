"""Routes of signing in with a provider's id token."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError

from actors.accounts.answers import AccountGone, Incomplete, Joined, NotSignedIn, SignedIn
from actors.accounts.commands import JoinIdentity, SignIn
from actors.identities.commands import ClaimIdentity, FindIdentity, Identified, IdentityUnknown, NonceUsed, UseIdentity
from configs.contracts import changes
from configs.contracts.events import ProviderIdentity, UserCreated
from configs.contracts.ids import email_hash, identity_hash, new_id
from configs.contracts.people import MINIMUM_AGE_YEARS, age_years
from configs.contracts.read_model import ended_member
from serve_apps.auth.id_tokens import IdToken, IdTokens
from serve_apps.auth.models import OauthBody, Tokens
from serve_apps.auth.sessions import ASKS, Begin, asked_first, begun, client_of, name_of
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Address, DisplayName
from serve_apps.identity import Deps
from serve_apps.limits import Rate
from serve_apps.problems import EVERYWHERE, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/auth/oauth", tags=["auth"])

MINUTE_S: Final = 60
ERRORS: Final = errors(
    *EVERYWHERE, *WITH_BODY, "identity_token_invalid", "address_unverified", "registration_incomplete", "underage", "not_found"
) | ASKS
_ADDRESS: Final[TypeAdapter[str]] = TypeAdapter(Address)
_NAME: Final[TypeAdapter[str]] = TypeAdapter(DisplayName)


@router.post("/google", operation_id="signInWithGoogle", response_model=Tokens, responses=ERRORS)
async def google(body: OauthBody, request: Request, dependencies: Deps) -> Tokens | Response:
    """Signs in with Google's id token, whose nonce works once. A new person must give role, name and birth date.

    Linked to the account of the address if both Google and we have confirmed it; an account that nobody confirmed gives
    way, and its sessions end.
    """
    return await _sign_in(dependencies, dependencies.google, body, request)


@router.post("/apple", operation_id="signInWithApple", response_model=Tokens, responses=ERRORS)
async def apple(body: OauthBody, request: Request, dependencies: Deps) -> Tokens | Response:
    """Signs in with Apple's id token, as with Google's."""
    return await _sign_in(dependencies, dependencies.apple, body, request)


async def _sign_in(dependencies: Dependencies, provider: IdTokens, body: OauthBody, request: Request) -> Tokens | Response:
    limit = dependencies.settings.limits.logins_per_address_a_minute
    await dependencies.limits.take((Rate("oauth-address", limit, MINUTE_S), client_of(dependencies, request)))
    if not provider.configured:
        raise Refused("not_found")
    token = await provider.verify(body.id_token, body.nonce)
    if body.birth_date is not None and age_years(body.birth_date, datetime.now(UTC).date()) < MINIMUM_AGE_YEARS:
        raise Refused("underage")
    return await to_the_end(_signed_in(dependencies, token, body, name_of(request)))


async def _signed_in(dependencies: Dependencies, token: IdToken, body: OauthBody, client: str | None) -> Tokens | Response:
    hashed = identity_hash(token.issuer, token.subject)
    identity = ProviderIdentity(
        issuer=token.issuer, subject=token.subject, nonce_hash=hashlib.sha256(body.nonce.encode()).hexdigest(),
        nonce_until=datetime.fromtimestamp(token.used_until, UTC),
    )
    account = await dependencies.identities.find(FindIdentity(identity_hash=hashed, identity=identity))
    admitted = await _admitted(dependencies, account, hashed)
    if isinstance(admitted, SignedIn):
        account = await dependencies.identities.use(UseIdentity(identity_hash=hashed, identity=identity))
    elif isinstance(admitted, IdentityUnknown | AccountGone):
        # Nothing was used up yet: a new person who is asked for what is missing comes again with the same token.
        erased = account.user_id if isinstance(account, Identified) else ""
        account = await _joined(dependencies, token, identity, hashed, body, erased)
        admitted = await _admitted(dependencies, account, hashed)
    if not isinstance(account, Identified) or not isinstance(admitted, SignedIn) or admitted.user_id != account.user_id:
        raise Refused("identity_token_invalid")
    if (asked := asked_first(dependencies, admitted, account.email_hash)) is not None:
        return asked
    return await begun(dependencies, Begin(
        user_id=admitted.user_id, email_hash=account.email_hash, sessions_from=admitted.sessions_from, client=client,
        permission_role=admitted.permission_role,
    ))


async def _admitted(
    dependencies: Dependencies, account: Identified | NonceUsed | IdentityUnknown, hashed: str
) -> SignedIn | NotSignedIn | AccountGone | NonceUsed | IdentityUnknown:
    """Whether the identity may begin a session of its account; where it has none, what its shard said."""
    if not isinstance(account, Identified):
        return account
    return await dependencies.accounts.sign_in(
        SignIn(email_hash=account.email_hash, user_id=account.user_id, identity_hash=hashed)
    )


async def _joined(
    dependencies: Dependencies, token: IdToken, identity: ProviderIdentity, hashed: str, body: OauthBody, erased: str
) -> Identified | NonceUsed:
    """Links the identity to the account of its address, which may be made now; ``erased``: whose it was until they left."""
    email = _checked(_ADDRESS, token.email)
    if email is None:
        raise Refused("address_unverified")
    command = JoinIdentity(
        email=email, email_hash=email_hash(email), identity=identity, user_id=new_id(), role=body.role,
        display_name=body.display_name or _checked(_NAME, token.name),
        birth_date=None if body.birth_date is None else body.birth_date.isoformat(),
    )
    joined = await dependencies.accounts.join(command)
    if isinstance(joined, Incomplete):
        given = {"role": command.role, "displayName": command.display_name, "birthDate": command.birth_date}
        raise Refused("registration_incomplete", missing=[name for name, value in given.items() if value is None])
    if isinstance(joined, NotSignedIn):
        raise Refused("identity_token_invalid")
    await _written(dependencies, command, joined)
    return await dependencies.identities.claim(ClaimIdentity(
        identity_hash=hashed, identity=identity, user_id=joined.user_id, email_hash=joined.email_hash,
        parent_event_id=joined.event_id, replaces=erased,
    ))


async def _written(dependencies: Dependencies, command: JoinIdentity, joined: Joined) -> None:
    """The read model's share of a new person, and the end of whoever gave way."""
    if not joined.registered or command.role is None or command.display_name is None or command.birth_date is None:
        return
    created = UserCreated(
        user_id=joined.user_id, role=command.role, display_name=command.display_name, birth_date=command.birth_date
    )
    await asyncio.gather(
        dependencies.write_through.apply(*changes.created(
            joined.user_id, command.role, command.display_name, command.birth_date, email_hash=command.email_hash,
            password_hash=None, version=joined.version, verified=True,
        )),
        dependencies.cards.note(created),
    )
    if joined.displaced is not None:
        dependencies.revocations.add_all(joined.displaced, joined.version, None)
        await dependencies.write_through.revoke(ended_member(joined.displaced, joined.version, None), dependencies.now_ms())


def _checked(kind: TypeAdapter[str], text: str | None) -> str | None:
    try:
        return None if text is None else kind.validate_python(text)
    except ValidationError:
        return None
