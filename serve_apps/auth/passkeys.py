"""Routes of passkeys (WebAuthn level 3): discoverable credentials with user verification, so they are two factors in one."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request

from actors.accounts.answers import Factors, NotSignedIn, SignedIn
from actors.accounts.commands import AddPasskey, RemovePasskey, UsePasskey
from serve_apps.auth.models import AddPasskeyBody, Passkey, PasskeyCeremony, PasskeyLoginBody, Passkeys, Tokens
from serve_apps.auth.sealing import Ceremony
from serve_apps.auth.sessions import Begin, begun, client_of, name_of
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Success
from serve_apps.identity import Deps, Person, RecentSignIn
from serve_apps.limits import Rate
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/auth", tags=["auth"])

MINUTE_S: Final = 60
CHALLENGE_BYTES: Final = 32
ADD: Final = "passkey"
LOGIN: Final = "passkey login"
CredentialPath = Annotated[str, Path(alias="id", pattern=r"^[A-Za-z0-9_-]{1,1400}$", description="a passkey's id")]


@router.post(
    "/passkeys/options", operation_id="passkeyOptions", response_model=PasskeyCeremony,
    responses=errors(*SIGNED_IN, "sign_in_again"),
)
async def options(person: RecentSignIn, dependencies: Deps) -> PasskeyCeremony:
    """What `navigator.credentials.create` takes; the ceremony can be completed once, within 5 minutes."""
    import webauthn
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    factors = await _factors(dependencies, person.email_hash, person.user_id)
    ceremony, text = dependencies.account_seals.ceremony(
        ADD, email_hash=person.email_hash, user_id=person.user_id, secret=secrets.token_bytes(CHALLENGE_BYTES)
    )
    auth = dependencies.settings.auth
    made = webauthn.generate_registration_options(
        rp_id=auth.passkey_domain, rp_name=auth.passkey_name, user_name=factors.email, challenge=_challenge(ceremony),
        user_id=dependencies.account_seals.handle(person.email_hash),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=_raw(key.credential_id)) for key in factors.passkeys],
    )
    return PasskeyCeremony(challenge=text, options=json.loads(webauthn.options_to_json(made)))


@router.post(
    "/passkeys", operation_id="addPasskey", status_code=201, response_model=Success,
    responses=errors(*SIGNED_IN, *WITH_BODY, "sign_in_again", "passkey_invalid"),
)
async def add(body: AddPasskeyBody, person: RecentSignIn, dependencies: Deps) -> Success:
    """Adds the passkey that a ceremony made; an account has at most ten."""
    import webauthn

    auth, ceremony = dependencies.settings.auth, dependencies.account_seals.opened(ADD, body.challenge)
    if ceremony is None or (ceremony.email_hash, ceremony.user_id) != (person.email_hash, person.user_id):
        raise Refused("passkey_invalid")
    try:
        made = webauthn.verify_registration_response(
            credential=body.credential, expected_challenge=_challenge(ceremony), expected_rp_id=auth.passkey_domain,
            expected_origin=list(auth.passkey_origins), require_user_verification=True,
        )
    except Exception as error:
        raise Refused("passkey_invalid") from error
    answer = await to_the_end(dependencies.accounts.change_factors(AddPasskey(
        email_hash=person.email_hash, user_id=person.user_id, family_id=person.family_id,
        sessions_from=person.sessions_from, challenge=ceremony.challenge,
        credential_id=_text(made.credential_id), public_key=_text(made.credential_public_key),
        sign_count=made.sign_count, name=body.name,
    )))
    if isinstance(answer, NotSignedIn):
        raise Refused("passkey_invalid")
    return Success()


@router.get("/passkeys", operation_id="listPasskeys", response_model=Passkeys, responses=errors(*SIGNED_IN, "sign_in_again"))
async def list_passkeys(person: Person, dependencies: Deps) -> Passkeys:
    """The account's passkeys, oldest first."""
    factors = await _factors(dependencies, person.email_hash, person.user_id)
    return Passkeys(passkeys=[
        Passkey(passkey_id=key.credential_id, name=key.name, added_at=key.added_at) for key in factors.passkeys
    ])


@router.delete(
    "/passkeys/{id}", operation_id="removePasskey", response_model=Success,
    responses=errors(*SIGNED_IN, "sign_in_again", "not_found"),
)
async def remove(credential_id: CredentialPath, person: RecentSignIn, dependencies: Deps) -> Success:
    """Removes a passkey; nobody signs in with it any more."""
    command = RemovePasskey(
        email_hash=person.email_hash, user_id=person.user_id, family_id=person.family_id,
        sessions_from=person.sessions_from, credential_id=credential_id,
    )
    if isinstance(await to_the_end(dependencies.accounts.change_factors(command)), NotSignedIn):
        raise Refused("not_found")
    return Success()


@router.post(
    "/login/passkey/options", operation_id="passkeyLoginOptions", response_model=PasskeyCeremony, responses=errors(*EVERYWHERE)
)
async def login_options(request: Request, dependencies: Deps) -> PasskeyCeremony:
    """What `navigator.credentials.get` takes; it names no account, so it tells nobody which exist."""
    import webauthn
    from webauthn.helpers.structs import UserVerificationRequirement

    await _limited(dependencies, request)
    ceremony, text = dependencies.account_seals.ceremony(LOGIN, secret=secrets.token_bytes(CHALLENGE_BYTES))
    made = webauthn.generate_authentication_options(
        rp_id=dependencies.settings.auth.passkey_domain, challenge=_challenge(ceremony),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return PasskeyCeremony(challenge=text, options=json.loads(webauthn.options_to_json(made)))


@router.post(
    "/login/passkey", operation_id="loginWithPasskey", response_model=Tokens,
    responses=errors(*EVERYWHERE, *WITH_BODY, "passkey_invalid"),
)
async def login(body: PasskeyLoginBody, request: Request, dependencies: Deps) -> Tokens:
    """Signs in with a passkey; its challenge works once, and a signature counter that does not grow is refused."""
    await _limited(dependencies, request)
    ceremony = dependencies.account_seals.opened(LOGIN, body.challenge)
    if ceremony is None:
        raise Refused("passkey_invalid")
    command = await _verified(dependencies, ceremony, body.credential)
    return await to_the_end(_signed_in(dependencies, command, name_of(request)))


async def _verified(dependencies: Dependencies, ceremony: Ceremony, credential: dict[str, Any]) -> UsePasskey:
    """The sign-in as the shard takes it. Raises Refused: the signature is not one of a known passkey."""
    import webauthn

    auth, (handle, credential_id) = dependencies.settings.auth, _named(credential)
    account = dependencies.account_seals.account_of(handle)
    factors = None if account is None else await dependencies.accounts.factors(account)
    if account is None or not isinstance(factors, Factors):
        raise Refused("passkey_invalid")
    key = next((key for key in factors.passkeys if key.credential_id == credential_id), None)
    if key is None:
        raise Refused("passkey_invalid")
    try:
        verified = webauthn.verify_authentication_response(
            credential=credential, expected_challenge=_challenge(ceremony), expected_rp_id=auth.passkey_domain,
            expected_origin=list(auth.passkey_origins), credential_public_key=_raw(key.public_key),
            credential_current_sign_count=0, require_user_verification=True,
        )
    except Exception as error:
        raise Refused("passkey_invalid") from error
    return UsePasskey(
        email_hash=account, user_id=factors.user_id, challenge=ceremony.challenge, credential_id=credential_id,
        sign_count=verified.new_sign_count,
    )


async def _signed_in(dependencies: Dependencies, command: UsePasskey, client: str | None) -> Tokens:
    admitted = await dependencies.accounts.use_factor(command)
    if not isinstance(admitted, SignedIn):
        raise Refused("passkey_invalid")
    return await begun(dependencies, Begin(
        user_id=admitted.user_id, email_hash=command.email_hash, sessions_from=admitted.sessions_from, client=client,
        permission_role=admitted.permission_role,
    ))


async def _factors(dependencies: Dependencies, email_hash: str, user_id: str) -> Factors:
    if email_hash:
        factors = await dependencies.accounts.factors(email_hash, user_id)
        if isinstance(factors, Factors):
            return factors
    raise Refused("sign_in_again")


async def _limited(dependencies: Dependencies, request: Request) -> None:
    limit = dependencies.settings.limits.logins_per_address_a_minute
    await dependencies.limits.take((Rate("passkey-address", limit, MINUTE_S), client_of(dependencies, request)))


def _named(credential: dict[str, Any]) -> tuple[bytes, str]:
    """(user handle, credential id) that a credential claims. Raises Refused: it names none."""
    response = credential.get("response")
    handle = response.get("userHandle") if isinstance(response, dict) else None
    named = credential.get("id")
    if not isinstance(handle, str) or not isinstance(named, str):
        raise Refused("passkey_invalid")
    return _raw(handle), _text(_raw(named))


def _challenge(ceremony: Ceremony) -> bytes:
    return ceremony.secret


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
