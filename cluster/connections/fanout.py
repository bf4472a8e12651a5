"""Sharded pub/sub: what gateways hear (``Subscriptions``) and what shards tell them (``Publisher``).

Redis promises no delivery. What must not be missed is durable elsewhere; a gap is announced (``on_gap``), and clients
ask the API for what they lack.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import hiredis
import structlog

from cluster.connections.reading import CHUNK, lane_of, open_stream
from cluster.connections.redis_lanes import ClusterLane, Unanswered
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings

log = structlog.get_logger(__name__)

COMMANDS_A_TRIP: Final = 1_000
WAITING: Final = 20_000
"""Publications waiting in one process; past it they are dropped and counted, and clients find the gap."""
KEPT_S: Final = 5.0
RETRY_S: Final = 0.2
SILENT_S: Final = 5.0
"""A connection on which nothing came for so long is asked for a sign of life, and given up after as long again."""


class Publisher:
    """Publishes from one event loop, many in a round trip, in the order of the calls. Nobody waits for it.

    While Redis does not answer, publications are tried again for ``KEPT_S``; one may then arrive twice.
    """

    def __init__(self, settings: Settings) -> None:
        self._lane = lane_of(settings)
        self._queue: deque[tuple[float, tuple[str, str, bytes]]] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._closing = False
        self.published = 0
        self.dropped = 0

    def publish(self, channel: str, payload: bytes) -> None:
        """Sends the payload soon, or never: when Redis does not answer for long, or too much waits."""
        if len(self._queue) >= WAITING:
            self.dropped += 1
            return
        loop = asyncio.get_running_loop()
        self._queue.append((loop.time() + KEPT_S, ("SPUBLISH", channel, payload)))
        if self._pump is None:
            self._pump = loop.create_task(self._run(), name="publisher")

    async def _run(self) -> None:
        loop, queue = asyncio.get_running_loop(), self._queue
        try:
            while queue:
                # One turn of the loop, so that what one batch of a shard causes travels together.
                await asyncio.sleep(0)
                while queue and queue[0][0] < loop.time():
                    queue.popleft()
                    self.dropped += 1
                batch = [command for _, command in islice(queue, COMMANDS_A_TRIP)]
                try:
                    replies = await self._lane.ask(batch)
                except DependencyUnavailable:
                    if self._closing:
                        return
                    await asyncio.sleep(RETRY_S)
                    continue
                sent = [queue.popleft() for _ in batch]
                self.published += len(batch)
                if isinstance(self._lane, ClusterLane):
                    # What nodes that do not answer are to carry is tried again, a channel's in their order.
                    left = [each for each, reply in zip(sent, replies, strict=True) if isinstance(reply, Unanswered)]
                    self.published -= len(left)
                    queue.extendleft(reversed(left))
                    if left and self._closing:
                        return
                    if left:
                        await asyncio.sleep(RETRY_S)
        finally:
            self._pump = None

    async def close(self) -> None:
        """Sends what waits, if Redis answers at once."""
        self._closing = True
        if self._pump is not None:
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._lane.close()


class Subscriptions:
    """The channels that one process hears on one server, on one connection that is opened again whenever it breaks.

    ``on_message(channel, payload)`` is called in the order of the channel; ``on_gap()`` after a connection was replaced
    and hears everything again: what was published meanwhile is lost. One command a channel, so that it fits a slot of
    Redis Cluster; ``on_trouble()`` when the connection broke or a channel is not this server's any more.
    """

    def __init__(
        self, url: str, on_message: Callable[[str, bytes], None], on_gap: Callable[[], None],
        on_trouble: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._on_message = on_message
        self._on_gap = on_gap
        self._on_trouble = on_trouble
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._outstanding: Counter[str] = Counter()
        """Subscriptions that the server has yet to confirm on the present connection, by channel."""
        self._orders: list[bytes] = []
        self._writer: asyncio.StreamWriter | None = None
        self._flush_due = False
        self._gap = False
        self._task: asyncio.Task[None] | None = None
        self.received = 0

    def start(self) -> asyncio.Task[None]:
        """Connects, and stays connected until ``close``; the task that does."""
        self._task = asyncio.create_task(self._follow(), name="subscriptions")
        return self._task

    def add(self, channel: str) -> asyncio.Future[None]:
        """Hears the channel from when the answered future is done; await it shielded, since others may share it."""
        known = self._wanted.get(channel)
        if known is None:
            known = self._wanted[channel] = asyncio.get_running_loop().create_future()
            self._order(b"SSUBSCRIBE", channel)
        return known

    def remove(self, channel: str) -> None:
        """Hears it no longer."""
        if self._wanted.pop(channel, None) is not None:
            self._order(b"SUNSUBSCRIBE", channel)

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def connected(self) -> bool:
        """Whether everything wanted is heard now."""
        return self._writer is not None and not self._gap

    def _order(self, verb: bytes, channel: str) -> None:
        if self._writer is None:
            return  # a new connection begins with everything wanted
        if verb == b"SSUBSCRIBE":
            self._outstanding[channel] += 1
        self._orders.append(hiredis.pack_command((verb, channel)))  # type: ignore[arg-type]  # stub: 1-tuples
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        orders, self._orders = self._orders, []
        if self._writer is not None and orders:
            self._writer.write(b"".join(orders))

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    reader, self._writer = await open_stream(self._url)
                for channel in self._wanted:
                    self._order(b"SSUBSCRIBE", channel)
                self._close_gap()
                await self._hear(reader, hiredis.Reader())
            except (OSError, EOFError, TimeoutError, hiredis.HiredisError) as error:
                log.warning("subscriptions_lost", kind=type(error).__name__)
                self._on_trouble()
            finally:
                if self._writer is not None:
                    self._writer.close()
                self._writer = None
                self._orders.clear()
                self._outstanding.clear()
                self._gap = True
            await asyncio.sleep(RETRY_S)

    async def _hear(self, reader: asyncio.StreamReader, parser: hiredis.Reader) -> None:
        asked = False
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    data = await reader.read(CHUNK)
            except TimeoutError:
                if asked or self._writer is None:
                    raise
                asked = True
                self._writer.write(hiredis.pack_command((b"PING",)))
                continue
            asked = False
            if not data:
                raise EOFError("connection closed")
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                self._take(reply)

    def _take(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            raise OSError(f"Redis refused a subscription: {str(reply)[:64]}")
        kind = reply[0] if isinstance(reply, list) else b""
        if kind == b"smessage":
            self.received += 1
            self._on_message(reply[1].decode(), reply[2])
        elif kind == b"ssubscribe":
            channel = reply[1].decode()
            self._outstanding[channel] -= 1
            if self._outstanding[channel] <= 0:
                del self._outstanding[channel]
                future = self._wanted.get(channel)
                if future is not None and not future.done():
                    future.set_result(None)
            self._close_gap()
        elif kind == b"sunsubscribe" and reply[1] is not None and reply[1].decode() in self._wanted:
            # Unasked: the channel's slot has left this server.
            self._on_trouble()

    def _close_gap(self) -> None:
        if self._gap and not self._outstanding:
            self._gap = False
            self._on_gap()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for future in self._wanted.values():
            future.cancel()
        self._wanted.clear()
