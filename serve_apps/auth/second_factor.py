"""Routes of the second factor: time-based codes (RFC 6238) and recovery codes, each of which works once."""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from typing import Final

from fastapi import APIRouter, Request

from actors.accounts.answers import Factors, NotSignedIn, SignedIn
from actors.accounts.commands import DisableTotp, EnableTotp, UseCode
from serve_apps.auth.models import ConfirmTotpBody, Enrolment, RecoveryCodes, SecondFactorBody, Tokens
from serve_apps.auth.sealing import Ceremony
from serve_apps.auth.sessions import SECOND_FACTOR, Begin, begun, client_of, name_of
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Success
from serve_apps.identity import Deps, RecentSignIn
from serve_apps.limits import Rate
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/auth", tags=["auth"])

STEP_S: Final = 30
MINUTE_S: Final = 60
DAY_S: Final = 86_400
SECRET_BYTES: Final = 20
RECOVERY_CODES: Final = 10
ENROL: Final = "enrolment"


def step_of(secret: bytes, code: str, *, now: float | None = None) -> int | None:
    """The step whose code this is: the present one or a neighbour (a clock may be off by half a minute)."""
    import pyotp

    totp, present = pyotp.TOTP(base64.b32encode(secret).decode()), int((time.time() if now is None else now) // STEP_S)
    return next((
        step for step in (present, present - 1, present + 1)
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode())
    ), None)


async def limit_codes(dependencies: Dependencies, email_hash: str) -> None:
    """A code has a million values and three are right: few guesses a minute, and a day. Raises Refused.

    One after the other, so that an attempt that comes too soon takes nothing from the day.
    """
    limits = dependencies.settings.limits
    await dependencies.limits.take((Rate("second-factor", limits.codes_per_account_a_minute, MINUTE_S), email_hash))
    await dependencies.limits.take((Rate("second-factor-day", limits.codes_per_account_a_day, DAY_S), email_hash))


@router.post("/totp/enrol", operation_id="enrolTotp", response_model=Enrolment, responses=errors(*SIGNED_IN, "sign_in_again"))
async def enrol(person: RecentSignIn, dependencies: Deps) -> Enrolment:
    """A new secret for an authenticator app; nothing changes until a code of it is confirmed, within 5 minutes."""
    import pyotp

    secret = secrets.token_bytes(SECRET_BYTES)
    _, text = dependencies.account_seals.ceremony(
        ENROL, email_hash=person.email_hash, user_id=person.user_id, secret=secret
    )
    encoded = base64.b32encode(secret).decode()
    uri = pyotp.TOTP(encoded).provisioning_uri(name=person.user_id, issuer_name=dependencies.settings.auth.passkey_name)
    return Enrolment(enrolment=text, secret=encoded, otpauth_uri=uri)


@router.post(
    "/totp/confirm", operation_id="confirmTotp", response_model=RecoveryCodes,
    responses=errors(*SIGNED_IN, *WITH_BODY, "sign_in_again", "token_invalid", "code_invalid", "second_factor_exists"),
)
async def confirm(body: ConfirmTotpBody, person: RecentSignIn, dependencies: Deps) -> RecoveryCodes:
    """Turns codes on with the first one, and shows ten recovery codes, this once."""
    await limit_codes(dependencies, person.email_hash)
    enrolment = dependencies.account_seals.opened(ENROL, body.enrolment)
    if enrolment is None or (enrolment.email_hash, enrolment.user_id) != (person.email_hash, person.user_id):
        raise Refused("token_invalid")
    step = step_of(enrolment.secret, body.code)
    if step is None:
        raise Refused("code_invalid")
    codes = [base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES)]
    answer = await to_the_end(dependencies.accounts.change_factors(EnableTotp(
        email_hash=person.email_hash, user_id=person.user_id, family_id=person.family_id,
        sessions_from=person.sessions_from, step=step,
        sealed_secret=dependencies.account_seals.seal(enrolment.secret, person.user_id),
        recovery_hashes=tuple(dependencies.account_seals.code_hash(person.user_id, code) for code in codes),
    )))
    if isinstance(answer, NotSignedIn):
        raise Refused("second_factor_exists")
    return RecoveryCodes(recovery_codes=codes)


@router.delete(
    "/totp", operation_id="disableTotp", response_model=Success, responses=errors(*SIGNED_IN, "sign_in_again", "not_found")
)
async def disable(person: RecentSignIn, dependencies: Deps) -> Success:
    """Turns codes off; the sign-in that this needs was completed with one."""
    command = DisableTotp(
        email_hash=person.email_hash, user_id=person.user_id, family_id=person.family_id, sessions_from=person.sessions_from
    )
    answer = await to_the_end(dependencies.accounts.change_factors(command))
    if isinstance(answer, NotSignedIn):
        raise Refused("not_found")
    return Success()


@router.post(
    "/login/second-factor", operation_id="completeLogin", response_model=Tokens,
    responses=errors(*EVERYWHERE, *WITH_BODY, "token_invalid", "code_invalid"),
)
async def complete(body: SecondFactorBody, request: Request, dependencies: Deps) -> Tokens:
    """Completes a sign-in by a code of the authenticator app, or a recovery code; each works once."""
    limit = dependencies.settings.limits.logins_per_address_a_minute
    await dependencies.limits.take((Rate("complete-address", limit, MINUTE_S), client_of(dependencies, request)))
    ceremony = dependencies.account_seals.opened(SECOND_FACTOR, body.challenge)
    if ceremony is None:
        raise Refused("token_invalid")
    await limit_codes(dependencies, ceremony.email_hash)
    command = await _checked(dependencies, ceremony, body)
    return await to_the_end(_completed(dependencies, command, name_of(request)))


async def _checked(dependencies: Dependencies, ceremony: Ceremony, body: SecondFactorBody) -> UseCode:
    """The code as the shard takes it. Raises Refused: it is wrong."""
    step, hashed = None, None
    factors = await dependencies.accounts.factors(ceremony.email_hash, ceremony.user_id)
    totp = factors.totp if isinstance(factors, Factors) else None
    if body.code is None:
        code = (body.recovery_code or "").strip().lower()
        hashes = dependencies.account_seals.code_hashes(ceremony.user_id, code)
        hashed = next((known for known in hashes if totp is not None and known in totp.recovery), hashes[0])
    elif totp is None:
        raise Refused("token_invalid")
    else:
        step = step_of(dependencies.account_seals.unseal(totp.sealed_secret, ceremony.user_id), body.code)
        if step is None:
            raise Refused("code_invalid")
    return UseCode(
        email_hash=ceremony.email_hash, user_id=ceremony.user_id, challenge=ceremony.challenge,
        sessions_from=ceremony.sessions_from, step=step, recovery_hash=hashed,
    )


async def _completed(dependencies: Dependencies, command: UseCode, client: str | None) -> Tokens:
    admitted = await dependencies.accounts.use_factor(command)
    if not isinstance(admitted, SignedIn):
        raise Refused("code_invalid")
    return await begun(dependencies, Begin(
        user_id=admitted.user_id, email_hash=command.email_hash, sessions_from=admitted.sessions_from, client=client,
        permission_role=admitted.permission_role,
    ))
