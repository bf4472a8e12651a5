"""Revoked token families, known to every replica within a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic, time
from typing import Any, Final, Protocol

import structlog

from configs.contracts.errors import DependencyUnavailable
from configs.contracts.read_model import ENDED, REVOKED, ended_member, read_ended

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
FULL_READ_EVERY: Final = 4
"""Polls between two reads of the whole window, which find entries that a late projection wrote with an old score."""
OVERLAP_MS: Final = 15_000
STALE_S: Final = 5.0
"""Seconds without a poll after which a replica no longer knows enough to accept tokens."""
PAGE: Final = 10_000


class SortedSetReads(Protocol):
    """What the poller needs of ``reading.Reads``."""

    def read(self, *commands: tuple[str | bytes | int, ...]) -> Awaitable[list[Any]]: ...


class Bearer(Protocol):
    """Whoever speaks for a session: a verified token's identity, or an open socket."""

    @property
    def user_id(self) -> str: ...

    @property
    def family_id(self) -> str: ...

    @property
    def sessions_from(self) -> int: ...


class Revocations:
    """The families revoked within the life of an access token."""

    def __init__(
        self, reads: SortedSetReads, access_ttl_s: int, *,
        clock: Callable[[], float] = time, steady: Callable[[], float] = monotonic,
    ) -> None:
        self._reads = reads
        self._window_ms = (access_ttl_s + 60) * 1_000
        self._clock = clock
        self._steady = steady
        self._families: dict[str, float] = {}
        self._ended: dict[str, tuple[int, str, float]] = {}
        """User -> (sessions_from, kept family, ms when it was noticed) of the newest end of all their sessions."""
        self._polled_at: float | None = None
        self._polls = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads the whole window, then polls.

        While Redis does not answer or is being rebuilt it goes on trying, and nobody's token is accepted.
        """
        try:
            await self.poll()
        except DependencyUnavailable as error:
            log.warning("revocations_not_polled", reason=error.message)
        self._task = asyncio.create_task(self._follow(), name="revocations")

    async def poll(self) -> None:
        """Reads what was revoked since the last poll (now and then: the whole window)."""
        began = self._steady()
        now_ms = self._clock() * 1_000
        full = self._polls % FULL_READ_EVERY == 0
        since = now_ms - (self._window_ms if full else OVERLAP_MS)
        offset = 0
        while True:
            (found,) = await self._reads.read(("ZRANGEBYSCORE", REVOKED, int(since), "+inf", "LIMIT", offset, PAGE))
            members = found if isinstance(found, list) else []
            for member in members:
                self._notice(bytes(member).decode(), now_ms)
            offset += PAGE
            if len(members) < PAGE:
                break
        self._polls += 1
        self._polled_at = began
        if full:
            oldest = now_ms - self._window_ms
            self._families = {family: at for family, at in self._families.items() if at >= oldest}
            self._ended = {user: ended for user, ended in self._ended.items() if ended[2] >= oldest}

    def _notice(self, member: str, now_ms: float) -> None:
        if not member.startswith(ENDED):
            self._families.setdefault(member, now_ms)
            return
        user_id, sessions_from, kept = read_ended(member)
        held = self._ended.get(user_id)
        if held is None or held[0] < sessions_from:
            self._ended[user_id] = (sessions_from, kept, now_ms)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.poll()
            except DependencyUnavailable as error:
                log.warning("revocations_not_polled", reason=error.message)

    def add(self, family_id: str) -> None:
        """Refuses the family in this replica from now on."""
        self._families[family_id] = self._clock() * 1_000

    def add_all(self, user_id: str, sessions_from: int, kept_family_id: str | None) -> None:
        """Refuses a person's sessions from before ``sessions_from``, but one, in this replica from now on."""
        self._notice(ended_member(user_id, sessions_from, kept_family_id), self._clock() * 1_000)

    def refuses(self, identity: Bearer) -> bool:
        """Whether the session of a token was revoked, by itself or with all others of its person."""
        return identity.family_id in self._families or self.refuses_all(
            identity.user_id, identity.family_id, identity.sessions_from
        )

    def refuses_all(self, user_id: str, family_id: str, sessions_from: int) -> bool:
        """Whether a session ended with all others of its person."""
        ended = self._ended.get(user_id)
        return ended is not None and sessions_from < ended[0] and family_id != ended[1]

    def __contains__(self, family_id: str) -> bool:
        return family_id in self._families

    @property
    def fresh(self) -> bool:
        """Whether a poll within the last 5 s succeeded; without it nobody's token can be accepted."""
        return self._polled_at is not None and self._steady() - self._polled_at < STALE_S

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
