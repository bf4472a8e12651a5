"""Conversation shards in a process of their own, which a test can stop (SIGSTOP) and let go on (SIGCONT)."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

from ray.exceptions import RayActorError

from actors.messages.shard import MessageService
from actors.sharding import host as hosting
from actors.sharding.host import ShardHost
from cluster.connections.kafka import LogAppender
from configs.settings import Settings

NAME = "identity-0"


class SharedEpochs:
    """A loader without rows; all processes of a test claim epochs from one number."""

    def __init__(self, newest: Any) -> None:
        self._newest = newest

    async def positions(self, topics: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        return {topic: {} for topic in topics}

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        with self._newest.get_lock():
            self._newest.value += 1
            return dict.fromkeys(shards, self._newest.value)

    async def epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        return dict.fromkeys(shards, self._newest.value)

    async def conversations(self, keys: Sequence[str]) -> Mapping[str, Any]:
        return {}


def host(settings: Settings, shard: int, newest: Any, appender: LogAppender, end: Any) -> ShardHost:
    """One conversation shard under the epochs of ``newest``."""
    service = MessageService(
        settings=settings, shards=(shard,), appender=appender,
        loader=SharedEpochs(newest), die=end,  # type: ignore[arg-type]
    )
    return ShardHost(NAME, {"messages": service}, end=end)


def _serve(settings: Settings, shard: int, newest: Any, slept_s: float, pipe: Connection) -> None:
    hosting.SLEPT_S = slept_s

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        appender = LogAppender(settings, "frozen")
        shards = host(settings, shard, newest, appender, hosting.die)
        while not (await shards.ping())["ready"]:
            await asyncio.sleep(0.02)
        pipe.send_bytes(b"ready")

        async def answer(number: bytes, request: bytes) -> None:
            pipe.send_bytes(number + await shards.carry(request))

        tasks = set()
        while True:
            asked = await loop.run_in_executor(None, pipe.recv_bytes)
            tasks.add(asyncio.create_task(answer(asked[:8], asked[8:])))

    asyncio.run(serve())


class ShardProcess:
    """Stands for the Ray handle of a host in another process. ``slept_s``: see ``actors.sharding.host.SLEPT_S``."""

    def __init__(self, settings: Settings, shard: int, newest: Any, slept_s: float = hosting.SLEPT_S) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(settings, shard, newest, slept_s, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._reading: asyncio.Task[None] | None = None
        self.carry = self

    async def start(self) -> Self:
        assert await asyncio.to_thread(self._pipe.recv_bytes) == b"ready"
        self._reading = asyncio.create_task(self._read())
        return self

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    async def ended(self) -> int | None:
        """The exit code, once it has ended; None after a minute."""
        await asyncio.to_thread(self._process.join, 60)
        return self._process.exitcode

    async def remote(self, request: bytes) -> bytes:
        number = len(self._waiting).to_bytes(8, "big")
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._pipe.send_bytes(number + request)
        return await future

    async def _read(self) -> None:
        while True:
            try:
                answer = await asyncio.to_thread(self._pipe.recv_bytes)
            except (EOFError, OSError):
                for future in self._waiting.values():
                    if not future.done():
                        future.set_exception(RayActorError())
                return
            self._waiting[answer[:8]].set_result(answer[8:])

    async def close(self) -> None:
        self._process.kill()
        await self.ended()
        if self._reading is not None:
            await self._reading
        self._pipe.close()
