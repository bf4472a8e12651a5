"""Signing in with a password: an unknown address and a wrong password cost and look the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from actors.accounts.answers import SignedIn
from actors.accounts.commands import SignIn
from configs.contracts.ids import email_hash
from configs.contracts.read_model import Credential
from serve_apps.dependencies import Dependencies
from serve_apps.limits import Rate
from serve_apps.problems import Refused

MINUTE_S: Final = 60


class Known(NamedTuple):
    """The account that an address signs in to: its key, and its credential."""

    email_hash: str
    credential: Credential


async def signed_in(dependencies: Dependencies, email: str, password: str, client: str) -> tuple[Known, SignedIn]:
    """The account of whoever knows the password, and its shard's word that it is the present one.

    Either failure takes the same steps: one hash, two requests to the writers (the read model may be behind) for the
    address and its account, as many reads more; a second hash only when that brought another hash than the first read. An
    address that must be confirmed first, or with which an account signs in no more, is as good as unknown.
    Raises Refused: wrong credentials, or too many attempts. DependencyUnavailable.
    """
    limits = dependencies.settings.limits
    address = email_hash(email)
    await dependencies.limits.take(
        (Rate("login-account", limits.logins_per_account_a_minute, MINUTE_S), address),
        (Rate("login-address", limits.logins_per_address_a_minute, MINUTE_S), client),
    )
    known = await _account_of(dependencies.people.credential, address)
    if await dependencies.passwords.verify(_hash_of(dependencies, known), password) and known is not None:
        admitted = await _admitted(dependencies, address, known)
        if admitted is not None:
            return known, admitted
    fresh = await _account_of(dependencies.people.fresh_credential, address)
    changed = fresh is not None and _hash_of(dependencies, fresh) != _hash_of(dependencies, known)
    if changed and fresh is not None and await dependencies.passwords.verify(_hash_of(dependencies, fresh), password):
        admitted = await _admitted(dependencies, address, fresh)
        if admitted is not None:
            return fresh, admitted
    raise Refused("wrong_credentials")


async def _account_of(read: Callable[[str], Awaitable[Credential | None]], address: str) -> Known | None:
    """The account that signs in with the address; two reads for every address."""
    named = await read(address)
    home = address if named is None else named.home or address
    credential = await read(home)
    if credential is None or (credential.address_hash or home) != address or credential.home is not None:
        return None
    return Known(home, credential)


async def _admitted(dependencies: Dependencies, address: str, known: Known) -> SignedIn | None:
    """The shard's consent. Redis alone does not decide: it may hold a password, or an address, that was changed since."""
    credential = known.credential
    answer = await dependencies.accounts.sign_in(SignIn(
        email_hash=known.email_hash, user_id=credential.user_id, stored=credential.password_hash or "",
        confirmed=dependencies.settings.auth.confirm_address, address_hash=address,
    ))
    return answer if isinstance(answer, SignedIn) else None


def _hash_of(dependencies: Dependencies, known: Known | None) -> str | None:
    credential = None if known is None else known.credential
    if credential is None or credential.status != "active":
        return None
    if dependencies.settings.auth.confirm_address and not credential.verified:
        return None
    return credential.password_hash
