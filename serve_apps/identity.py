"""Who asks: the person or service of a request's bearer token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from configs.contracts.access_tokens import Identity
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import PermissionRole
from configs.contracts.moderation import RANKS
from serve_apps.dependencies import Dependencies
from serve_apps.problems import Refused


def bearer_of(header: bytes | None) -> str:
    """The token of an Authorization header. Raises Refused: there is none."""
    if header is None or header[:7].lower() != b"bearer ":
        raise Refused("unauthenticated")
    return header[7:].decode("latin-1").strip()


def admit(dependencies: Dependencies, header: bytes | None) -> Identity:
    """The person who asks, counted against their limit and noticed as active.

    Raises Refused: no valid token, revoked, or too many requests. DependencyUnavailable: revocations are not known.
    """
    token = bearer_of(header)
    if not dependencies.revocations.fresh:
        raise DependencyUnavailable("revocations have not been read for too long")
    identity = dependencies.tokens.verify(token)
    if identity is None or dependencies.revocations.refuses(identity):
        raise Refused("unauthenticated")
    dependencies.person_limit.take(identity.user_id)
    dependencies.activity.touch(identity.user_id)
    return identity


def dependencies_of(request: Request) -> Dependencies:
    found: Dependencies = request.app.state.dependencies
    return found


def _header(request: Request) -> bytes | None:
    return next((value for name, value in request.scope["headers"] if name == b"authorization"), None)


_PERSON_TOKEN = HTTPBearer(scheme_name="person", bearerFormat="JWT", auto_error=False)
_SERVICE_TOKEN = HTTPBearer(
    scheme_name="service", bearerFormat="JWT", auto_error=False, description="A token with audience `internal`."
)


async def _person(request: Request, _: Annotated[object, Depends(_PERSON_TOKEN)]) -> Identity:
    return admit(dependencies_of(request), _header(request))


async def _service(request: Request, _: Annotated[object, Depends(_SERVICE_TOKEN)]) -> str:
    service = dependencies_of(request).tokens.verify_service(bearer_of(_header(request)))
    if service is None:
        raise Refused("unauthenticated")
    return service


RECENT_S: Final = 300
"""SPEC section 8: how long ago a sign-in may be for what is most sensitive."""
SKEW_S: Final = 60


async def _recent(person: Annotated[Identity, Depends(_person)]) -> Identity:
    if not -SKEW_S <= time() - person.signed_in_at <= RECENT_S:
        raise Refused("sign_in_again")
    return person


@dataclass(frozen=True, slots=True)
class Staff:
    """Who acts for the platform: a moderator or administrator, or an operator's tool with a service token."""

    name: str
    """``person:`` and an id, or ``service:`` and a name; goes into the audit log."""
    person_id: str | None
    role: PermissionRole


def _staff(least: PermissionRole) -> Callable[..., Awaitable[Staff]]:
    """The one check of ``permissionRole``: refuses everybody below ``least``."""

    async def check(
        request: Request, _: Annotated[object, Depends(_PERSON_TOKEN)], __: Annotated[object, Depends(_SERVICE_TOKEN)]
    ) -> Staff:
        dependencies, header = dependencies_of(request), _header(request)
        service = dependencies.tokens.verify_service(bearer_of(header))
        if service is not None:
            return Staff(f"service:{service}", None, "admin")
        person = admit(dependencies, header)
        role: PermissionRole = person.permission_role if person.permission_role in RANKS else "user"
        if RANKS[role] < RANKS[least]:
            raise Refused("forbidden")
        return Staff(f"person:{person.user_id}", person.user_id, role)

    return check


Moderator = Annotated[Staff, Depends(_staff("moderator"))]
Admin = Annotated[Staff, Depends(_staff("admin"))]
"""Raise Refused: nobody, revoked, or a lower ``permissionRole``. An operator's service token counts as an administrator."""
Deps = Annotated[Dependencies, Depends(dependencies_of)]
Person = Annotated[Identity, Depends(_person)]
RecentSignIn = Annotated[Identity, Depends(_recent)]
"""A person who proved who they are within the last 5 minutes. Raises Refused (``sign_in_again``): longer ago."""
Service = Annotated[str, Depends(_service)]
