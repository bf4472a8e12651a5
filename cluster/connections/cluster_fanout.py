"""Sharded pub/sub of a Redis Cluster: each channel is heard on the node that owns its slot, wherever that goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from cluster.connections.fanout import RETRY_S, Subscriptions
from cluster.connections.reading import TIMEOUT_S
from cluster.connections.redis_lanes import ClusterLane
from cluster.connections.redis_topology import ClusterAddress, Topology, cluster_address
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.slots import slot_of
from configs.settings import Settings

LOOK_S: Final = 1.0
"""Seconds between two looks at who owns which slot; what a node says comes at once."""
HEARD_WITHIN_S: Final = 5.0
"""A gap is told after so long also if a channel is not heard by then (its slot moves again)."""


class Hearing(Protocol):
    """What a gateway needs of ``Subscriptions`` or ``ClusterSubscriptions``."""

    @property
    def received(self) -> int: ...
    def start(self) -> asyncio.Task[None]: ...
    def add(self, channel: str) -> asyncio.Future[None]: ...
    def remove(self, channel: str) -> None: ...
    def __len__(self) -> int: ...
    @property
    def connected(self) -> bool: ...
    async def close(self) -> None: ...


def subscriptions(settings: Settings, on_message: Callable[[str, bytes], None], on_gap: Callable[[], None]) -> Hearing:
    """What one process hears, on the server or the cluster that the settings name."""
    url = settings.redis_url.get_secret_value()
    address = cluster_address(url)
    return Subscriptions(url, on_message, on_gap) if address is None else ClusterSubscriptions(address, on_message, on_gap)


class ClusterSubscriptions:
    """As ``Subscriptions``: a connection to each node that owns a wanted channel.

    When a channel's slot moves (a replica was promoted) the channel is heard on its new owner, and ``on_gap`` is called once
    everything is heard again: what was published meanwhile is lost.
    """

    def __init__(
        self, address: ClusterAddress, on_message: Callable[[str, bytes], None], on_gap: Callable[[], None]
    ) -> None:
        self._address = address
        self._on_message = on_message
        self._on_gap = on_gap
        self._lane = ClusterLane(address, timeout_s=TIMEOUT_S)
        self._topology: Topology | None = None
        self._lines: dict[str, Subscriptions] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._received = 0
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._node_of: dict[str, str] = {}
        self._moving: set[asyncio.Future[None]] = set()
        self._trouble = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def received(self) -> int:
        return self._received + sum(line.received for line in self._lines.values())

    def start(self) -> asyncio.Task[None]:
        """Connects, and stays connected until ``close``; the task that does."""
        self._task = asyncio.create_task(self._follow(), name="cluster-subscriptions")
        return self._task

    def add(self, channel: str) -> asyncio.Future[None]:
        """Hears the channel from when the answered future is done; await it shielded, since others may share it."""
        known = self._wanted.get(channel)
        if known is None:
            known = self._wanted[channel] = asyncio.get_running_loop().create_future()
            self._place(channel)
        return known

    def remove(self, channel: str) -> None:
        """Hears it no longer."""
        if self._wanted.pop(channel, None) is not None:
            line = self._lines.get(self._node_of.pop(channel, ""))
            if line is not None:
                line.remove(channel)

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def connected(self) -> bool:
        """Whether everything wanted is heard now."""
        return (
            self._topology is not None and not self._moving and len(self._node_of) == len(self._wanted)
            and all(line.connected for line in self._lines.values())
        )

    def _place(self, channel: str) -> asyncio.Future[None] | None:
        """Asks the owner of the channel's slot for it; None: nobody owns it now, so it is placed later."""
        node = self._topology.owner(slot_of(channel)) if self._topology is not None else ""
        if not node:
            return None
        line = self._lines.get(node)
        if line is None:
            line = self._lines[node] = Subscriptions(self._address.url(node), self._on_message, self._on_gap, self._look_again)
            self._followers[node] = line.start()
        self._node_of[channel] = node
        heard = line.add(channel)
        heard.add_done_callback(lambda done: self._heard(channel, done))
        return heard

    def _heard(self, channel: str, done: asyncio.Future[None]) -> None:
        future = self._wanted.get(channel)
        if future is not None and not future.done() and not done.cancelled():
            future.set_result(None)

    def _look_again(self) -> None:
        self._lane.stale()
        self._trouble.set()

    async def _follow(self) -> None:
        while True:
            try:
                self._adopt(await self._lane.topology())
            except DependencyUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            ended = [task for task in self._followers.values() if task.done()]
            for task in ended:
                task.result()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._trouble.wait()
                await asyncio.sleep(RETRY_S)
            except TimeoutError:
                self._lane.stale()
            self._trouble.clear()

    def _adopt(self, topology: Topology) -> None:
        before, self._topology = self._topology, topology
        if before is not None and before.owners == topology.owners and len(self._node_of) == len(self._wanted):
            return
        moved: list[asyncio.Future[None]] = []
        for channel in self._wanted:
            old, new = self._node_of.get(channel), topology.owner(slot_of(channel))
            if not new or new == old:
                continue
            if old is not None and old in self._lines:
                self._lines[old].remove(channel)
            heard = self._place(channel)
            if heard is not None and old is not None:
                moved.append(heard)
        self._drop_lines(set(self._node_of.values()))
        if moved:
            gap = asyncio.ensure_future(self._announce(moved))
            self._moving.add(gap)
            gap.add_done_callback(self._moving.discard)

    async def _announce(self, moved: list[asyncio.Future[None]]) -> None:
        await asyncio.wait(moved, timeout=HEARD_WITHIN_S)
        self._on_gap()

    def _drop_lines(self, used: set[str]) -> None:
        for node in self._lines.keys() - used:
            self._received += self._lines.pop(node).received
            self._followers.pop(node).cancel()

    async def close(self) -> None:
        tasks = [task for task in (self._task, *self._followers.values(), *self._moving) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in self._lines.values():
            await line.close()
        await self._lane.close()
        for future in self._wanted.values():
            future.cancel()
        self._wanted.clear()
