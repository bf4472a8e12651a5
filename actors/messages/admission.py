"""Whose messages may go now, by Redis: nothing to or from who is not active, and not faster than one person may send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from cluster.connections.reading import Reads
from configs.contracts.rates import TAKE_LUA, limit_key
from configs.contracts.read_model import record_key
from configs.settings import Settings

_STATUS: Final = b'"status":"'
_ACTIVE: Final = b'"status":"active"'
"""As ``put_record`` writes it; quotes inside of other values are escaped. A record without it is active."""


class Admitted(NamedTuple):
    """Who is not active, and of each sender how many messages may go and the ms until the next one may."""

    away: frozenset[str]
    allowed: Mapping[str, tuple[int, int]]


class Admission:
    """Reads people's records and counts what they send; all that a batch needs in one round trip.

    Every conversation shard counts into the same rate, so it holds however many there are. What is counted is attempts:
    a message that its shard could not record, and that is sent again, counts twice.
    """

    def __init__(self, settings: Settings) -> None:
        self._reads = Reads(settings)
        self._a_minute = settings.limits.messages_per_user_a_minute

    async def admit(self, user_ids: Sequence[str], sending: Mapping[str, int]) -> Admitted:
        """Of ``user_ids`` those who are suspended, banned or erased (nobody who is not known yet), and how many of its
        messages each sender may send.

        Raises DependencyUnavailable: nobody may, while Redis does not answer.
        """
        values, *taken = await self._reads.read(("MGET", *map(record_key, user_ids)), *(
            ("EVAL", TAKE_LUA, 1, limit_key("messages", sender), str(60_000 / self._a_minute), self._a_minute, count)
            for sender, count in sending.items()
        ))
        away = frozenset(
            user_id for user_id, value in zip(user_ids, values, strict=True)
            if value is not None and _STATUS in value and _ACTIVE not in value
        )
        return Admitted(away, {
            sender: (int(allowed), int(wait_ms)) for sender, (allowed, wait_ms) in zip(sending, taken, strict=True)
        })

    async def close(self) -> None:
        await self._reads.close()
