"""Whose messages may go now, by Redis: nothing to or from who is not active, and not faster than one person may send."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from cluster.connections.reading import Command, Reads
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.rates import TAKE_LUA, limit_key
from configs.contracts.read_model import record_key
from configs.settings import Settings

_STATUS: Final = b'"status":"'
_ACTIVE: Final = b'"status":"active"'
"""As ``put_record`` writes it; quotes inside of other values are escaped. A record without it is active."""


class Sending(NamedTuple):
    """One conversation in which somebody sends: both members, and how many new messages each sender has."""

    members: tuple[str, str]
    counts: Mapping[str, int]


class Admitted(NamedTuple):
    """Whether a member is not active, and of each sender how many messages may go and the ms until the next one may."""

    away: bool
    allowed: Mapping[str, tuple[int, int]]


class Admission:
    """Reads people's records and counts what they send; all that a batch needs in one round trip.

    Every conversation shard counts into the same rate, so it holds however many there are. What is counted is attempts:
    a message that its shard could not record, and that is sent again, counts again.
    """

    def __init__(self, settings: Settings) -> None:
        self._reads = Reads(settings)
        self._a_minute = settings.limits.messages_per_user_a_minute
        self._every_ms = str(60_000 / self._a_minute)

    async def admit(self, conversations: Sequence[Sending]) -> list[Admitted | DependencyUnavailable]:
        """Of each conversation whether a member is suspended, banned or erased (nobody who is not known yet), and how many
        messages may be sent. DependencyUnavailable: none, while what Redis has of these people is not there.

        All of a batch are one read. Where that fails each is read again by itself, and its messages count twice, so that a
        node of Redis that is lost or being rebuilt keeps only those who need it.
        """
        try:
            replies = await self._reads.read(*(command for sending in conversations for command in self._commands(sending)))
        except DependencyUnavailable as error:
            return [error] if len(conversations) == 1 else await self._each(conversations)
        told: list[Admitted | DependencyUnavailable] = []
        start = 0
        for sending in conversations:
            end = start + 1 + len(sending.counts)
            told.append(_told(sending, replies[start:end]))
            start = end
        return told

    async def _each(self, conversations: Sequence[Sending]) -> list[Admitted | DependencyUnavailable]:
        async def one(sending: Sending) -> Admitted | DependencyUnavailable:
            try:
                return _told(sending, await self._reads.read(*self._commands(sending)))
            except DependencyUnavailable as error:
                return error

        return list(await asyncio.gather(*map(one, conversations)))

    def _commands(self, sending: Sending) -> Iterator[Command]:
        yield ("MGET", *map(record_key, sending.members))
        for sender, count in sending.counts.items():
            yield ("EVAL", TAKE_LUA, 1, limit_key("messages", sender), self._every_ms, self._a_minute, count)

    async def close(self) -> None:
        await self._reads.close()


def _told(sending: Sending, replies: Sequence[Any]) -> Admitted:
    values, *taken = replies
    away = any(value is not None and _STATUS in value and _ACTIVE not in value for value in values)
    return Admitted(away, {
        sender: (int(allowed), int(wait_ms)) for sender, (allowed, wait_ms) in zip(sending.counts, taken, strict=True)
    })
