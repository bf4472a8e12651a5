"""Signing in with a password: an unknown address and a wrong password cost and look the same."""

from __future__ import annotations

from typing import Final

from configs.contracts.ids import email_hash
from configs.contracts.read_model import Credential
from serve_apps.dependencies import Dependencies
from serve_apps.limits import Rate
from serve_apps.problems import Refused

MINUTE_S: Final = 60


async def signed_in(dependencies: Dependencies, email: str, password: str, client: str) -> Credential:
    """The credential of whoever knows the password.

    Either failure takes the same steps: one hash, one request to the writers for the address (the read model may be
    behind), one more read; a second hash only when that brought another hash than the first read.
    Raises Refused: wrong credentials, or too many attempts. DependencyUnavailable.
    """
    limits = dependencies.settings.limits
    address = email_hash(email)
    await dependencies.limits.take(
        (Rate("login-account", limits.logins_per_account_a_minute, MINUTE_S), address),
        (Rate("login-address", limits.logins_per_address_a_minute, MINUTE_S), client),
    )
    known = await dependencies.people.credential(address)
    if await dependencies.passwords.verify(_hash_of(known), password) and known is not None:
        return known
    fresh = await dependencies.people.fresh_credential(address)
    changed = fresh is not None and _hash_of(fresh) != _hash_of(known)
    if changed and fresh is not None and await dependencies.passwords.verify(_hash_of(fresh), password):
        return fresh
    raise Refused("wrong_credentials")


def _hash_of(credential: Credential | None) -> str | None:
    return credential.password_hash if credential is not None and credential.status == "active" else None
