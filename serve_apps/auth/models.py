"""Bodies and answers of the auth routes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictStr

from configs.contracts.events import Role
from serve_apps.fields import Address, Answer, BirthDate, Body, DisplayName, Password


class RegisterBody(Body):
    email: Address
    password: Password
    role: Role
    display_name: DisplayName
    birth_date: BirthDate


class LoginBody(Body):
    email: Address
    password: Annotated[StrictStr, Field(min_length=1, max_length=256)]


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
