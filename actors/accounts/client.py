"""Calling account shards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, cast

from actors.accounts.answers import (
    AccountChanged,
    AccountGone,
    AddressTaken,
    AwaitsConfirmation,
    Changing,
    Claimed,
    Factors,
    Home,
    Incomplete,
    Joined,
    NotSignedIn,
    Registered,
    SessionStands,
    SignedIn,
    TokenInvalid,
    TokenRequested,
)
from actors.accounts.commands import (
    SERVICE,
    AddPasskey,
    ChangeAddress,
    CheckSession,
    ClaimAddress,
    DisableTotp,
    EnableTotp,
    EndSessions,
    FindChange,
    FindHome,
    GetFactors,
    GrantRole,
    JoinIdentity,
    Register,
    Rehash,
    RemovePasskey,
    RequestAddressChange,
    RequestToken,
    ResetPassword,
    SetPassword,
    SetStanding,
    SignIn,
    UseCode,
    UsePasskey,
    VerifyAddress,
)
from actors.idempotency import IdempotencyConflict
from actors.sharding.client import ActorPool

N = TypeVar("N", Register, RequestToken, JoinIdentity, GrantRole)
"""Commands that name an account by an address."""


class AccountsClient:
    """Account shards by address. Every call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Sending the same command again is safe: what it changed once it does not change again.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def register(
        self, command: Register, *, traceparent: str | None = None
    ) -> Registered | AddressTaken | AwaitsConfirmation | IdempotencyConflict:
        """Claims the address, durable in the log before the answer."""
        return cast(
            Registered | AddressTaken | AwaitsConfirmation | IdempotencyConflict,
            await self._ask(await self._at_home(command), traceparent),
        )

    async def rehash(
        self, email_hash: str, user_id: str, stored: str, password_hash: str, *, traceparent: str | None = None
    ) -> None:
        """Renews the stored hash of an unchanged password; does nothing when ``stored`` is no longer this person's."""
        command = Rehash(email_hash=email_hash, user_id=user_id, stored=stored, password_hash=password_hash)
        await self._ask(command, traceparent)

    async def request_token(self, command: RequestToken) -> None:
        """Has a token mailed to whoever holds the address; takes as long when nobody does."""
        await self._ask(await self._at_home(command))

    async def request_change(self, command: RequestAddressChange) -> TokenRequested | NotSignedIn | IdempotencyConflict:
        """Has a token mailed to another address; answered alike whoever holds that one."""
        return cast(TokenRequested | NotSignedIn | IdempotencyConflict, await self._ask(command))

    async def find_change(self, command: FindChange) -> Changing | TokenInvalid | NotSignedIn:
        return cast(Changing | TokenInvalid | NotSignedIn, await self._ask(command))

    async def claim(self, command: ClaimAddress) -> Claimed | AddressTaken:
        """Durable before the answer; the change follows, whoever carries it out."""
        return cast(Claimed | AddressTaken, await self._ask(command))

    async def change_address(self, command: ChangeAddress) -> AccountChanged | TokenInvalid | NotSignedIn:
        """``version`` 0: it was carried out before. TokenInvalid: another change was asked for, or all sessions ended."""
        return cast(AccountChanged | TokenInvalid | NotSignedIn, await self._ask(command))

    async def verify(self, command: VerifyAddress) -> AccountChanged | TokenInvalid:
        return cast(AccountChanged | TokenInvalid, await self._ask(command))

    async def reset(self, command: ResetPassword) -> AccountChanged | TokenInvalid:
        return cast(AccountChanged | TokenInvalid, await self._ask(command))

    async def set_password(self, command: SetPassword) -> AccountChanged | NotSignedIn:
        return cast(AccountChanged | NotSignedIn, await self._ask(command))

    async def end_sessions(self, command: EndSessions) -> AccountChanged | NotSignedIn:
        return cast(AccountChanged | NotSignedIn, await self._ask(command))

    async def sign_in(self, command: SignIn) -> SignedIn | NotSignedIn | AccountGone:
        """Whether whoever knows the password may begin a session: Redis may hold an older password."""
        return cast(SignedIn | NotSignedIn | AccountGone, await self._ask(command))

    async def join(self, command: JoinIdentity) -> Joined | Incomplete | NotSignedIn:
        """The account of an identity whose address a provider vouches for."""
        return cast(Joined | Incomplete | NotSignedIn, await self._ask(await self._at_home(command)))

    async def factors(self, email_hash: str, user_id: str | None = None) -> Factors | NotSignedIn:
        """What the account signs in with beside its password."""
        return cast(Factors | NotSignedIn, await self._ask(GetFactors(email_hash=email_hash, user_id=user_id)))

    async def use_factor(self, command: UseCode | UsePasskey) -> SignedIn | NotSignedIn:
        """Completes a sign-in; the code, and the ceremony, are used up, durable in the log before the answer."""
        return cast(SignedIn | NotSignedIn, await self._ask(command))

    async def change_factors(
        self, command: EnableTotp | DisableTotp | AddPasskey | RemovePasskey
    ) -> Factors | NotSignedIn:
        """Adds or removes a way to sign in; NotSignedIn: refused as the command says."""
        return cast(Factors | NotSignedIn, await self._ask(command))

    async def grant_role(self, command: GrantRole) -> AccountChanged | NotSignedIn:
        """NotSignedIn: nobody active holds the address. ``version`` 0: they have the role already."""
        return cast(AccountChanged | NotSignedIn, await self._ask(await self._at_home(command)))

    async def set_standing(self, command: SetStanding) -> AccountChanged | NotSignedIn:
        """``version``: sessions from before it have ended, unless the standing is active."""
        return cast(AccountChanged | NotSignedIn, await self._ask(command))

    async def stands(self, command: CheckSession) -> SessionStands:
        """Whether a session has survived everything that ends all sessions of an account."""
        return cast(SessionStands, await self._ask(command))

    async def _at_home(self, command: N) -> N:
        """The command as the shard of the account takes it that the address names; as many steps for every address."""
        home = cast(Home, await self._ask(FindHome(email_hash=command.email_hash)))
        return replace(command, email_hash=home.email_hash, address_hash=command.email_hash)

    async def _ask(self, command: Any, traceparent: str | None = None) -> Any:
        shard = self._pool.shard_of(command.email_hash)
        return await self._pool.ask(SERVICE, shard, "record", command, traceparent=traceparent)
