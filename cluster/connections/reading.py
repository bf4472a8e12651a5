"""Reads of the read model: requests that arrive while a round trip is under way share the next one."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import hiredis
from redis.asyncio.connection import parse_url

from cluster.connections.redis_lanes import ClusterLane
from cluster.connections.redis_topology import cluster_address
from configs.contracts.errors import DependencyUnavailable, ReadModelRebuilding
from configs.contracts.read_model import GENERATION
from configs.settings import Settings

Command = tuple[str | bytes | int, ...]

TIMEOUT_S: Final = 1.0
"""Longest wait for a round trip: a guess, far above the measured p99 of under 5 ms."""
COMMANDS_A_TRIP: Final = 2_000
WAITING: Final = 4_096
"""Requests waiting for the next round trip; past it the answer is 503."""
CHUNK: Final = 1 << 18
RUN_ID: Final = b"run_id:"
TRIP_EVERY_S: Final = 0.004
"""Round trips start at least this far apart, so that requests share them also when trips are quick; the first one after
a pause starts at once."""


def _packed(commands: Sequence[Command]) -> bytes:
    return b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # stub: 1-tuples


async def open_stream(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has signed in and chosen its database (RESP2). Raises OSError, EOFError: it was refused.

    With ``rediss://`` certificate and host name are checked, against ``?ssl_ca_certs=FILE`` or the system's authorities.
    """
    options: dict[str, Any] = dict(parse_url(url))
    path = options.get("path")
    if path:
        reader, writer = await asyncio.open_unix_connection(path)
    else:
        encrypted = "SSL" in getattr(options.get("connection_class"), "__name__", "")
        reader, writer = await asyncio.open_connection(
            options.get("host", "localhost"), options.get("port", 6379),
            ssl=ssl.create_default_context(cafile=options.get("ssl_ca_certs")) if encrypted else None,
        )
    greeting: list[Command] = []
    if options.get("password"):
        user = (options["username"],) if options.get("username") else ()
        greeting.append(("AUTH", *user, options["password"]))
    if options.get("db"):
        greeting.append(("SELECT", options["db"]))
    if greeting:
        writer.write(_packed(greeting))
        try:
            replies = await _replies(reader, hiredis.Reader(), len(greeting))
        except BaseException:
            writer.close()
            raise
        refused = next((reply for reply in replies if isinstance(reply, hiredis.ReplyError)), None)
        if refused is not None:
            writer.close()
            raise OSError(f"Redis refused the connection: {str(refused)[:64]}")
    return reader, writer


async def _replies(reader: asyncio.StreamReader, parser: hiredis.Reader, expected: int) -> list[Any]:
    replies: list[Any] = []
    while True:
        while len(replies) < expected:
            reply = parser.gets()
            if reply is False:
                break
            replies.append(reply)
        if len(replies) == expected:
            return replies
        data = await reader.read(CHUNK)
        if not data:
            raise EOFError("connection closed")
        parser.feed(data)


class RedisLane:
    """One connection that carries one batch of commands at a time; it connects when it is first used.

    redis-py's own pipeline costs several times as much per command, which every request would pay.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, learns_run: bool = False) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._learns_run = learns_run
        self.run = b""
        """Run id of the server that this connection leads to, where the lane is to learn it; empty: not known."""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._parser = hiredis.Reader()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies in order; an error reply is a ``hiredis.ReplyError`` among them.

        Tries once more on a connection that had been closed meanwhile, so use it for commands that may be repeated.
        Raises DependencyUnavailable: no answer in time.
        """
        packed = _packed(commands)
        try:
            async with asyncio.timeout(self._timeout_s):
                reused = self._streams is not None
                try:
                    return await self._trip(packed, len(commands))
                except (OSError, EOFError):
                    self._drop()
                    if not reused:
                        raise
                    return await self._trip(packed, len(commands))
        except (OSError, EOFError, TimeoutError, hiredis.HiredisError) as error:
            self._drop()
            raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error
        except BaseException:
            self._drop()
            raise

    async def _trip(self, packed: bytes, expected: int) -> list[Any]:
        if self._streams is None:
            await self._connect()
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(packed)
        return await _replies(reader, self._parser, expected)

    async def _connect(self) -> None:
        self._parser = hiredis.Reader()
        self._streams = await open_stream(self._url)
        if self._learns_run:
            reader, writer = self._streams
            writer.write(_packed([("INFO", "server")]))
            (facts,) = await _replies(reader, self._parser, 1)
            lines = facts.split(b"\r\n") if isinstance(facts, bytes) else []
            self.run = next((line.removeprefix(RUN_ID) for line in lines if line.startswith(RUN_ID)), b"")

    def _drop(self) -> None:
        self.run = b""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self._drop()
            with suppress(OSError):
                await writer.wait_closed()


def lane_of(settings: Settings, *, timeout_s: float = TIMEOUT_S) -> RedisLane | ClusterLane:
    """A lane to the server, or to all nodes of the cluster, that the settings name."""
    url = settings.redis_url.get_secret_value()
    address = cluster_address(url)
    return RedisLane(url, timeout_s=timeout_s) if address is None else ClusterLane(address, timeout_s=timeout_s)


class Reads:
    """Reads of one replica. Every round trip also looks whether the read model is complete.

    A fact that is missing in a complete read model is unknown until the writers warm it (``Warming``). Of a cluster's nodes
    each is complete or not by itself, and one that does not answer fails the requests that need it and no others.
    """

    def __init__(self, settings: Settings, *, timeout_s: float = TIMEOUT_S) -> None:
        self._lane = lane_of(settings, timeout_s=timeout_s)
        self._waiting: list[tuple[tuple[Command, ...], bool, asyncio.Future[list[Any]]]] = []
        self._pump: asyncio.Task[None] | None = None
        self._next_trip = 0.0
        self.trips = 0
        self.requests = 0

    def read(self, *commands: Command) -> asyncio.Future[list[Any]]:
        """One reply a command.

        Raises ReadModelRebuilding: data was lost and is not restored yet. DependencyUnavailable: no answer in time.
        """
        return self._submit(commands, complete=True)

    def raw(self, *commands: Command) -> asyncio.Future[list[Any]]:
        """``read`` that does not ask whether the read model is complete."""
        return self._submit(commands, complete=False)

    def _submit(self, commands: tuple[Command, ...], *, complete: bool) -> asyncio.Future[list[Any]]:
        if len(self._waiting) >= WAITING:
            raise DependencyUnavailable("too many reads wait for Redis", waiting=len(self._waiting))
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, complete, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name="reads")
        return future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if (early := self._next_trip - loop.time()) > 0:
                    await asyncio.sleep(early)
                self._next_trip = loop.time() + TRIP_EVERY_S
                count = size = 0
                for commands, _, _ in self._waiting:
                    size += len(commands)
                    if count and size > COMMANDS_A_TRIP:
                        break
                    count += 1
                batch = self._waiting[:count]
                del self._waiting[:count]
                await self._trip([item for item in batch if not item[2].done()])
        finally:
            self._pump = None

    async def _trip(self, batch: Sequence[tuple[tuple[Command, ...], bool, asyncio.Future[list[Any]]]]) -> None:
        if not batch:
            return
        self.trips += 1
        self.requests += len(batch)
        commands: list[Command] = [("GET", GENERATION)]
        for wanted, _, _ in batch:
            commands += wanted
        parts: list[bool] | None = None
        try:
            if isinstance(self._lane, RedisLane):
                replies = await self._lane.ask(commands)
            else:
                replies, parts = await self._lane.ask_marked(commands)
        except DependencyUnavailable as error:
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(DependencyUnavailable(error.message, **error.details))
            return
        except BaseException:
            for _, _, future in batch:
                future.cancel()
            raise
        whole = isinstance(replies[0], bytes)
        start = 1
        for wanted, complete, future in batch:
            end = start + len(wanted)
            mine = replies[start:end]
            known = whole if parts is None else all(parts[start:end])
            start = end
            if future.done():
                continue
            refused = next((reply for reply in mine if isinstance(reply, hiredis.ReplyError)), None)
            if refused is not None:
                future.set_exception(DependencyUnavailable("Redis refused a read", reason=str(refused)[:64]))
            elif complete and not known:
                future.set_exception(ReadModelRebuilding("the read model is not complete"))
            else:
                future.set_result(mine)

    async def close(self) -> None:
        pump = self._pump
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        for _, _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        await self._lane.close()


Warm = Callable[[Sequence[str]], Awaitable[Sequence[str]]]

KEYS_A_CALL: Final = 256
ABSENT_S: Final = 1.0
"""Seconds for which "no rows" is remembered, so that asking for nobody again and again stays cheap."""
ABSENT_KEYS: Final = 10_000


class Warming:
    """Asks the writers to write missing keys of the read model, many at once, each only once at a time.

    ``warm`` writes the keys and returns those that exist.
    """

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._queue: list[str] = []
        self._pump: asyncio.Task[None] | None = None
        self._absent: OrderedDict[str, float] = OrderedDict()
        self.calls = 0

    async def ensure(self, keys: Iterable[str]) -> set[str]:
        """Which of the keys exist, after they were written. Raises DependencyUnavailable."""
        loop = asyncio.get_running_loop()
        futures: dict[str, asyncio.Future[bool]] = {}
        for key in dict.fromkeys(keys):
            if self._absent.get(key, 0.0) > loop.time():
                continue
            known = self._asked.get(key)
            if known is None:
                if len(self._asked) >= WAITING:
                    raise DependencyUnavailable("too many keys wait to be warmed", waiting=len(self._asked))
                known = self._asked[key] = loop.create_future()
                self._queue.append(key)
            futures[key] = known
        if self._queue and self._pump is None:
            self._pump = asyncio.create_task(self._run(), name="warming")
        if futures:
            await asyncio.wait(futures.values())
        return {key for key, future in futures.items() if future.result()}

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                keys = self._queue[:KEYS_A_CALL]
                del self._queue[:KEYS_A_CALL]
                self.calls += 1
                try:
                    found = set(await self._warm(keys))
                except DependencyUnavailable as error:
                    for key in keys:
                        future = self._asked.pop(key)
                        future.set_exception(DependencyUnavailable(error.message, **error.details))
                        future.exception()
                    continue
                except BaseException:
                    for key in keys:
                        self._asked.pop(key).cancel()
                    raise
                for key in keys:
                    self._asked.pop(key).set_result(key in found)
                    if key not in found:
                        self._absent[key] = loop.time() + ABSENT_S
                        self._absent.move_to_end(key)
                while len(self._absent) > ABSENT_KEYS:
                    self._absent.popitem(last=False)
        finally:
            self._pump = None

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        for future in self._asked.values():
            future.cancel()
        self._asked.clear()
