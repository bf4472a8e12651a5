"""Bodies and answers of the auth routes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StrictStr, model_validator

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
