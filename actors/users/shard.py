"""The service of user shards: what people state, made durable in user.updated, user.reported, notification.* and
content.liked, commented and followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from actors.sharding.service import HOUSEKEEPING_S, LogService
from actors.sharding.tail import Feed, LogTail
from actors.users.commands import SERVICE, Record
from actors.users.state import UserAnswer, UserMemory
from cluster.connections.kafka import LogAppender
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.ids import partition_of
from configs.contracts.loading import RowLoader
from configs.contracts.positions import version_of
from configs.contracts.topics import (
    CONTENT_COMMENTED,
    CONTENT_FOLLOWED,
    CONTENT_LIKED,
    NOTIFICATION_DEVICES,
    NOTIFICATION_SEND,
    USER_REPORTED,
    USER_UPDATED,
)
from configs.settings import Settings

OWN = (USER_UPDATED.name, NOTIFICATION_SEND.name, CONTENT_FOLLOWED.name)
"""Topics whose key is the person."""
WHOLE = (USER_REPORTED.name, NOTIFICATION_DEVICES.name, CONTENT_LIKED.name, CONTENT_COMMENTED.name)
"""Topics whose keys are reported objects, devices and posts: what a person stated stands in any partition."""
TOPICS = (*OWN, *WHOLE)


class UserService(LogService[Record, UserAnswer]):
    """Records each request once and in order.

    Whatever a person states of another object (``WHOLE``) is theirs alone, so their shard orders it.
    """

    METHODS = ("record",)

    def __init__(
        self, *, settings: Settings, shards: Sequence[int], appender: LogAppender, loader: RowLoader,
        die: Callable[[str], None],
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            return await loader.idempotency(keys)

        partitions, own = settings.log.partitions, frozenset(shards)
        self._people = UserMemory(
            location_changes_an_hour=settings.limits.location_changes_an_hour,
            owns=lambda user_id: partition_of(user_id, partitions) in own,
        )
        super().__init__(
            SERVICE, USER_UPDATED, self._people, load_rows,
            settings=settings, shards=shards, appender=appender, loader=loader, die=die,
        )
        self._partitions = partitions
        take, everywhere = self.group.take, tuple(range(partitions))
        self._tail = LogTail(
            settings, f"{SERVICE}-{self._shards[0] if self._shards else 'none'}", appender,
            [
                *(Feed(topic, self._shards, self._shards, take) for topic in OWN),
                *(Feed(topic, everywhere, everywhere, take) for topic in WHOLE),
            ],
            die=die,
        )

    async def start(self) -> None:
        """Raises DependencyUnavailable: the loader or the broker does not answer; call again."""
        began = time.monotonic()
        claimed = await self.tenure.claim()
        self._replayed = await self._tail.replay(await self._loader.positions(TOPICS))
        for topic, offsets in self._tail.next_offsets.items():
            for partition, offset in offsets.items():
                self.group.follow(topic, partition, offset)
        self._tail.follow()
        self.epoch = claimed
        self._restore_s = time.monotonic() - began
        self._housekeeping = asyncio.create_task(self._keep_house())

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            await self.keep_house()

    async def keep_house(self) -> None:
        """Takes note of what the rows hold by now and forgets people beyond the limit; does nothing without answer."""
        try:
            positions = await self._loader.positions(TOPICS)
        except DependencyUnavailable:
            return

        def committed(topic: str, key: str) -> int:
            next_offset = positions.get(topic, {}).get(partition_of(key, self._partitions), 0)
            return version_of(self._appender.generation(topic), next_offset)

        self._people.settle(committed)
        await self.group.evict(self._limit, {}, 0)
