"""The life of an actor's swipe shards: restore from rows and log, follow, deliver what was left, forget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import structlog

from actors.sharding.group import Appender, utc_now
from actors.sharding.tail import Feed, LogTail
from actors.sharding.tenure import Tenure
from actors.swipes.commands import Delivery
from actors.swipes.delivered import Delivered, GroupOffsets
from actors.swipes.peers import Peers, RayPeers
from actors.swipes.people import committed_in
from actors.swipes.shard import SwipeShards
from cluster.connections.kafka import LogAppender
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Barrier, decode
from configs.contracts.loading import RowLoader
from configs.contracts.topics import MATCHING_MATCHED, MATCHING_SWIPE
from configs.settings import Settings

log = structlog.get_logger(__name__)

SERVICE = "swipes"
TOPICS = (MATCHING_SWIPE.name, MATCHING_MATCHED.name)
SAVE_S = 1.0
"""A crash repeats at most the deliveries of this time; repeating them changes nothing."""
EVICT_S = 5.0
_BARRIER = b'"type":"barrier"'
"""Stands in a record only as the envelope's type: in a JSON text the quotes would be escaped."""


class Tail(Protocol):
    """Reads the log into feeds; ``actors.sharding.tail.LogTail`` is the real one."""

    next_offsets: dict[str, dict[int, int]]

    async def replay(self, positions: Mapping[str, Mapping[int, int]]) -> int: ...

    def follow(self) -> None: ...

    def close(self) -> None: ...


class SwipeService(SwipeShards):
    """A host's service. Restoring keeps from every partition what concerns its people: their swipes, likes towards
    their lower ids, matches of either side. Its own partitions are read from the delivery position on, if that is
    lower, and everything from there is delivered again in the background."""

    def __init__(
        self, settings: Settings, slot: int, *, appender: Appender, loader: RowLoader, peers: Peers,
        delivered: Delivered, tail: Callable[[Sequence[Feed], Callable[[], str]], Tail], die: Callable[[str], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(settings, slot, appender=appender, loader=loader, peers=peers, die=die, clock=clock)
        self._shards = tuple(range(slot, settings.log.partitions, settings.plan.swipe_actors))
        self.tenure = Tenure(loader, SERVICE, self._shards)
        self._appender = appender
        self._loader = loader
        self._delivered = delivered
        self._limit = settings.plan.keys_in_memory
        everywhere = tuple(range(settings.log.partitions))
        self._tail = tail([
            Feed(MATCHING_SWIPE.name, everywhere, self._shards, self._take_swipes),
            Feed(MATCHING_MATCHED.name, everywhere, everywhere, self._take_matches),
        ], lambda: f"{SERVICE}-{slot}/{self.epoch}")
        self._die = die
        self._live = False
        self._saved: dict[int, int] = {}
        self._housekeeping: asyncio.Task[None] | None = None
        self._restore_s = 0.0
        self._replayed = 0

    async def start(self) -> None:
        """Raises DependencyUnavailable: the loader or the broker does not answer; call again."""
        began = time.monotonic()
        self.epoch = await self.tenure.claim()
        rows = await self._loader.positions(TOPICS)
        delivered = await self._delivered.load(self._shards)
        self.outgoing.start(delivered)
        in_rows = rows.get(MATCHING_SWIPE.name, {})
        self._replayed = await self._tail.replay({
            MATCHING_SWIPE.name: {**in_rows, **{own: min(in_rows.get(own, 0), delivered[own]) for own in self._shards}},
            MATCHING_MATCHED.name: rows.get(MATCHING_MATCHED.name, {}),
        })
        followed = self._tail.next_offsets
        for own in self._shards:
            self.swipes.follow(MATCHING_SWIPE.name, own, followed[MATCHING_SWIPE.name][own])
        for partition, offset in followed[MATCHING_MATCHED.name].items():
            self.pairs.follow(MATCHING_MATCHED.name, partition, offset)
        self._tail.follow()
        self._live = True
        self.send()
        self.judge_doubtful()
        self._saved = delivered
        self._restore_s = time.monotonic() - began
        self._housekeeping = asyncio.create_task(self._keep_house())
        self._housekeeping.add_done_callback(self._housekeeping_ended)

    async def close(self) -> None:
        """Stores the delivery position and stops; the producer belongs to the host."""
        self._live = False
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.wait([self._housekeeping])
        await super().close()
        await asyncio.to_thread(self._tail.close)
        try:
            await self.save_position()
        except DependencyUnavailable as error:
            log.warning("delivery_position_not_stored", reason=str(error))
        await self._delivered.close()

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "shards": list(self._shards), "restore_s": round(self._restore_s, 3), "replayed": self._replayed,
        }

    async def save_position(self) -> None:
        """Stores where delivery starts again, if it moved. Raises DependencyUnavailable."""
        positions = self.outgoing.positions()
        moved = {partition: offset for partition, offset in positions.items() if offset != self._saved.get(partition)}
        if moved:
            await self._delivered.save(moved)
            self._saved.update(moved)

    async def evict(self) -> int:
        """Forgets people beyond the limit whose facts the rows hold; returns how many. Raises DependencyUnavailable."""
        positions = await self._loader.positions(TOPICS)
        self.people.turn_round(committed_in(positions, self._appender.generation))
        return self.people.evict(self._limit)

    def _take_swipes(self, topic: str, partition: int, records: Sequence[tuple[int, bytes | None]]) -> None:
        self.swipes.take(topic, partition, records)
        if records and self.people.hosts(partition):
            if self._live:
                self._barriers(partition, records)
            self.outgoing.read(partition, records[-1][0] + 1)
        if self._live:
            self.send()

    def _take_matches(self, topic: str, partition: int, records: Sequence[tuple[int, bytes | None]]) -> None:
        self.pairs.take(topic, partition, records)
        if self._live:
            self.judge_doubtful()

    def _barriers(self, partition: int, records: Sequence[tuple[int, bytes | None]]) -> None:
        """What other lives that restore from this partition mean to this one.

        Another slot's new life has read everything up to its barrier; what stands behind it is delivered to it, even
        if its older life took it meanwhile. A new life of this slot: this one was replaced and must end.
        """
        for offset, value in records:
            if value is None or _BARRIER not in value:
                continue
            barrier = decode(value).payload
            label = barrier.nonce.split(" ")[0] if isinstance(barrier, Barrier) else ""
            kind, _, rest = label.partition("-")
            slot, _, epoch = rest.partition("/")
            if kind != SERVICE or not (slot.isdecimal() and epoch.isdecimal()):
                continue
            if int(slot) == self._slot:
                if int(epoch) > self.epoch:
                    self._die(f"replaced by epoch {epoch}")
            else:
                self._peers.met(int(slot), int(epoch))
                self.outgoing.repeat(partition, offset, self._concerning(int(slot)))

    def _concerning(self, slot: int) -> Callable[[Delivery], bool]:
        return lambda item: self._slot_of(item.swiper_id, item.target_id) == slot

    async def _keep_house(self) -> None:
        last = time.monotonic()
        while self._live:
            await asyncio.sleep(SAVE_S)
            self.send()
            try:
                await self.save_position()
                if len(self.people) > self._limit // 2 and time.monotonic() - last >= EVICT_S:
                    last = time.monotonic()
                    await self.evict()
            except DependencyUnavailable as error:
                log.warning("housekeeping_waits", reason=str(error))

    def _housekeeping_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._die(f"housekeeping: {task.exception()!r}")


def swipe_service(
    settings: Settings, slot: int, *, appender: LogAppender, loader: RowLoader, die: Callable[[str], None],
    peers: Peers | None = None,
) -> SwipeService:
    """The service ``swipes`` of the actor ``swipes-<slot>`` on the real log."""
    return SwipeService(
        settings, slot, appender=appender, loader=loader, peers=peers or RayPeers(), delivered=GroupOffsets(settings),
        tail=lambda feeds, label: LogTail(
            settings, f"{SERVICE}-{slot}", appender, feeds, die=die, label=label, paced=True
        ),
        die=die,
    )
