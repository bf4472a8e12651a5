"""Argon2id off the event loop, in a bounded pool."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from configs.settings import Auth
from serve_apps.problems import Refused

T = TypeVar("T")


class Passwords:
    """Hashes and verifies passwords; past ``hashing_queue`` waiting requests it refuses with ``overloaded``."""

    def __init__(self, settings: Auth) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.argon2_passes, memory_cost=settings.argon2_memory_kib, parallelism=1
        )
        self._threads = ThreadPoolExecutor(settings.hashing_threads, thread_name_prefix="argon2")
        self._places = settings.hashing_threads + settings.hashing_queue
        self._taken = 0
        self.verified = 0
        self._nobodys = self._hasher.hash(secrets.token_urlsafe(24))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._taken >= self._places:
            raise Refused("overloaded", retry_after_s=2)
        self._taken += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            future.add_done_callback(self._left)
        except RuntimeError:
            self._taken -= 1
            raise
        return await future

    def _left(self, _: asyncio.Future[T]) -> None:
        self._taken -= 1

    async def hash(self, password: str) -> str:
        """The encoded hash. Raises Refused: too many wait."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password fits. Without a stored hash it costs the same and is False."""
        self.verified += 1
        return await self._run(lambda: self._verify(stored, password))

    def _verify(self, stored: str | None, password: str) -> bool:
        try:
            fits = self._hasher.verify(stored or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return False
        return fits and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    @property
    def waiting(self) -> int:
        return self._taken

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
