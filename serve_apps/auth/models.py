"""Bodies and answers of the auth routes."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StrictStr, model_validator

from configs.contracts.events import Role
from serve_apps.fields import Address, Answer, BirthDate, Body, DisplayName, Password, Time

MailedToken = Annotated[StrictStr, Field(min_length=1, max_length=128)]


class RegisterBody(Body):
    email: Address
    password: Password
    role: Role
    display_name: DisplayName
    birth_date: BirthDate


class LoginBody(Body):
    email: Address
    password: Annotated[StrictStr, Field(min_length=1, max_length=256)]


class OauthBody(Body):
    """A provider's id token with the nonce that it was asked for; the rest for a new person only."""

    id_token: Annotated[StrictStr, Field(min_length=1, max_length=8_192)]
    nonce: Annotated[StrictStr, Field(min_length=16, max_length=128)]
    role: Role | None = None
    display_name: DisplayName | None = None
    birth_date: BirthDate | None = None


Sealed = Annotated[StrictStr, Field(min_length=1, max_length=1_024)]
Code = Annotated[StrictStr, Field(pattern=r"^[0-9]{6}$")]


def _bounded(credential: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(credential)) > 16_384:
        raise ValueError("is too long")
    return credential


Credential = Annotated[dict[str, Any], AfterValidator(_bounded), Field(description="a PublicKeyCredential as JSON")]


class SecondFactorBody(Body):
    """The challenge of a sign-in with exactly one of both codes."""

    challenge: Sealed
    code: Code | None = None
    recovery_code: Annotated[StrictStr, Field(min_length=1, max_length=32)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.code is None) == (self.recovery_code is None):
            raise ValueError("either code or recoveryCode")
        return self


class ConfirmTotpBody(Body):
    enrolment: Sealed
    code: Code


class AddPasskeyBody(Body):
    challenge: Sealed
    credential: Credential
    name: DisplayName


class PasskeyLoginBody(Body):
    challenge: Sealed
    credential: Credential


class SecondFactorNeeded(Answer):
    """Signed in so far; ``challenge`` with a code completes it (`POST /auth/login/second-factor`) within 5 minutes."""

    challenge: str
    methods: list[str]
    expires_in: int


class Enrolment(Answer):
    """A secret for an authenticator app; ``enrolment`` and a code of it turn codes on."""

    enrolment: str
    secret: str
    otpauth_uri: str


class RecoveryCodes(Answer):
    recovery_codes: list[str]


class PasskeyCeremony(Answer):
    """WebAuthn options as JSON; ``challenge`` goes back with the credential."""

    challenge: str
    options: dict[str, Any]


class Passkey(Answer):
    passkey_id: str
    name: str
    added_at: Time


class Passkeys(Answer):
    passkeys: list[Passkey]


class VerifyBody(Body):
    """Exactly one of both: ``email`` has a token mailed, ``token`` confirms the address that it was mailed to."""

    email: Address | None = None
    token: MailedToken | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.email is None) == (self.token is None):
            raise ValueError("either email or token")
        return self


class ForgotBody(Body):
    email: Address


class ChangeEmailBody(Body):
    email: Address


class ConfirmEmailBody(Body):
    token: MailedToken


class ResetBody(Body):
    token: MailedToken
    password: Password


class ChangePasswordBody(Body):
    current_password: Annotated[StrictStr, Field(min_length=1, max_length=256)]
    new_password: Password


class Accepted(Answer):
    """Taken; what follows depends on facts that are not told here."""

    accepted: bool = True


class Session(Answer):
    """One place where the person is signed in; ``client`` is what it called itself."""

    session_id: str
    current: bool
    signed_in_at: Time | None
    last_used_at: Time | None
    expires_at: Time | None
    client: str | None


class Sessions(Answer):
    sessions: list[Session]


class RefreshBody(Body):
    refresh_token: Annotated[StrictStr, Field(min_length=1, max_length=256)]


class Tokens(Answer):
    """An access token, and the refresh token that replaces it before ``expires_in`` seconds have passed."""

    user_id: str
    access_token: str
    refresh_token: str
    expires_in: int


class Me(Answer):
    user_id: str
    session_id: str
    role: Role
    display_name: str
    permission_role: str


class Jwk(Answer):
    kty: str
    crv: str
    use: str
    alg: str
    kid: str
    x: str


class Jwks(Answer):
    keys: list[Jwk]
