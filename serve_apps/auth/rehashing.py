"""Renewing password hashes that were made with older parameters, after and apart from the sign-in."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import structlog

from configs.contracts.errors import PlatformError
from serve_apps.hashing import Passwords

log = structlog.get_logger(__name__)

WAITING: Final = 32
"""Renewals under way in one replica; more are left for the person's next sign-in."""


class Accounts(Protocol):
    """What is needed of ``AccountsClient``."""

    async def rehash(self, email_hash: str, user_id: str, stored: str, password_hash: str) -> None: ...


class Rehashing:
    """Renews hashes in the background; the next sign-in tries again what failed."""

    def __init__(self, passwords: Passwords, accounts: Accounts) -> None:
        self._passwords = passwords
        self._accounts = accounts
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def soon(self, email_hash: str, user_id: str, stored: str, password: str) -> None:
        """Renews ``stored``, the hash of a password that was just verified."""
        if len(self._tasks) >= WAITING or email_hash in self._tasks:
            return
        task = self._tasks[email_hash] = asyncio.create_task(self._renew(email_hash, user_id, stored, password))
        task.add_done_callback(lambda _: self._tasks.pop(email_hash, None))

    async def _renew(self, email_hash: str, user_id: str, stored: str, password: str) -> None:
        try:
            await self._accounts.rehash(email_hash, user_id, stored, await self._passwords.hash(password))
        except PlatformError as error:
            log.warning("password_not_rehashed", reason=error.message)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
