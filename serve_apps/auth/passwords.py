"""Routes of addresses and passwords: confirming one, choosing another."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from actors.accounts.answers import AccountChanged, NotSignedIn, TokenInvalid
from actors.accounts.commands import RequestToken, ResetPassword, SetPassword, VerifyAddress
from configs.contracts.ids import email_hash
from configs.contracts.read_model import Credential, put_credential
from configs.contracts.tokens import parse_mail_token
from serve_apps.auth.models import Accepted, ChangePasswordBody, ForgotBody, ResetBody, VerifyBody
from serve_apps.auth.sessions import accepted, all_ended, client_of
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Success
from serve_apps.identity import Deps, Person
from serve_apps.limits import Rate
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/auth", tags=["auth"])

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {202: {
    "model": Accepted, "description": "Accepted: a mail follows if the address has an account.",
}}


@router.post(
    "/email/verify", operation_id="verifyEmail", response_model=Success,
    responses=errors(*EVERYWHERE, *WITH_BODY, "token_invalid") | ACCEPTED,
)
async def verify(body: VerifyBody, request: Request, dependencies: Deps) -> Success | Response:
    """Confirms an address with the token that was mailed to it, or (``email``) has one mailed.

    The latter is answered alike, and as quickly, for every address.
    """
    if body.email is not None:
        await _mailed(dependencies, request, body.email, "verify")
        return accepted()
    address, token_id = await presented(dependencies, request, "verify", body.token or "")
    await to_the_end(_verified(dependencies, VerifyAddress(email_hash=address, token_id=token_id)))
    return Success()


@router.post(
    "/password/forgot", operation_id="forgotPassword", status_code=202, response_model=Accepted,
    responses=errors(*EVERYWHERE, *WITH_BODY),
)
async def forgot(body: ForgotBody, request: Request, dependencies: Deps) -> Accepted:
    """Has a token mailed that sets a new password; answered alike, and as quickly, for every address."""
    await _mailed(dependencies, request, body.email, "reset")
    return Accepted()


@router.post(
    "/password/reset", operation_id="resetPassword", response_model=Success,
    responses=errors(*EVERYWHERE, *WITH_BODY, "token_invalid"),
)
async def reset(body: ResetBody, request: Request, dependencies: Deps) -> Success:
    """Sets a new password with a mailed token, once; every session of the account has ended within 5 seconds."""
    address, token_id = await presented(dependencies, request, "reset", body.token)
    hashed = await dependencies.passwords.hash(body.password)
    command = ResetPassword(email_hash=address, token_id=token_id, password_hash=hashed)
    await to_the_end(_reset(dependencies, command))
    return Success()


@router.post(
    "/password/change", operation_id="changePassword", response_model=Success,
    responses=errors(*SIGNED_IN, *WITH_BODY, "wrong_credentials", "sign_in_again"),
)
async def change(body: ChangePasswordBody, person: Person, dependencies: Deps) -> Success:
    """Sets another password for whoever knows the present one; every other session has ended within 5 seconds."""
    limit = dependencies.settings.limits.logins_per_account_a_minute
    if not person.email_hash:
        raise Refused("sign_in_again")
    await dependencies.limits.take((Rate("change-password", limit, MINUTE_S), person.email_hash))
    stored = None
    for read in (dependencies.people.credential, dependencies.people.fresh_credential):
        credential = await read(person.email_hash)
        if credential is None or credential.password_hash == stored:
            continue
        stored = credential.password_hash
        if await dependencies.passwords.verify(stored, body.current_password) and stored is not None:
            command = SetPassword(
                email_hash=person.email_hash, user_id=person.user_id, family_id=person.family_id,
                sessions_from=person.sessions_from, stored=stored,
                password_hash=await dependencies.passwords.hash(body.new_password),
            )
            if await to_the_end(_changed(dependencies, command)):
                return Success()
    raise Refused("wrong_credentials")


async def _mailed(dependencies: Dependencies, request: Request, email: str, purpose: Any) -> None:
    """The same steps for every address: two limits, one event."""
    limits, auth, address = dependencies.settings.limits, dependencies.settings.auth, email_hash(email)
    await dependencies.limits.take(
        (Rate("mail-account", limits.mails_per_account_an_hour, HOUR_S), address),
        (Rate("mail-address", limits.mails_per_address_an_hour, HOUR_S), client_of(dependencies, request)),
    )
    ttl_s = auth.verify_ttl_s if purpose == "verify" else auth.reset_ttl_s
    await dependencies.accounts.request_token(
        RequestToken(email_hash=address, purpose=purpose, expires_at=datetime.now(UTC) + timedelta(seconds=ttl_s))
    )


async def presented(dependencies: Dependencies, request: Request, purpose: str, text: str) -> tuple[str, str]:
    """(address hash, token id) of a mailed token. Raises Refused: too many are presented, or it was not made here."""
    limit = dependencies.settings.limits.tokens_per_address_a_minute
    await dependencies.limits.take((Rate("mailed-token", limit, MINUTE_S), client_of(dependencies, request)))
    parsed = next(filter(None, (parse_mail_token(key, purpose, text) for key in dependencies.account_keys)), None)
    if parsed is None:
        raise Refused("token_invalid")
    return parsed


async def _verified(dependencies: Dependencies, command: VerifyAddress) -> None:
    answer = await dependencies.accounts.verify(command)
    if isinstance(answer, TokenInvalid):
        raise Refused("token_invalid")
    await written(dependencies, command.email_hash, answer)


async def _reset(dependencies: Dependencies, command: ResetPassword) -> None:
    answer = await dependencies.accounts.reset(command)
    if isinstance(answer, TokenInvalid):
        raise Refused("token_invalid")
    await asyncio.gather(written(dependencies, command.email_hash, answer), all_ended(dependencies, answer, None))


async def _changed(dependencies: Dependencies, command: SetPassword) -> bool:
    """False: the password that was verified is not the present one, or the session has ended."""
    answer = await dependencies.accounts.set_password(command)
    if isinstance(answer, NotSignedIn):
        return False
    await asyncio.gather(
        written(dependencies, command.email_hash, answer), all_ended(dependencies, answer, command.family_id)
    )
    return True


async def written(dependencies: Dependencies, address: str, changed: AccountChanged) -> None:
    """The read model's share of a change; ``address`` is the account's key."""
    if changed.version:
        credential = Credential(
            user_id=changed.user_id, password_hash=changed.password_hash, verified=changed.verified,
            address_hash=changed.address_hash,
        )
        await dependencies.write_through.apply(put_credential(address, credential, changed.version))

