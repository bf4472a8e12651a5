"""A TCP proxy on loopback that delays, loses or cuts what passes through it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final, Literal

from cluster.embedded.ports import LOOPBACK

Weather = Literal["pass", "delay", "loss", "partition"]
CHUNK: Final = 1 << 16
DELAY_S: Final = (0.02, 0.1)
LOST: Final = 0.05
RETRANSMISSION_S: Final = 0.4
"""What a lost segment costs whoever waits for it: TCP sends it again after about so long."""


class Proxy:
    """Passes connections on to one port. What is under way in a partition is held back, as a network holds it back, and goes
    on afterwards; new connections wait as well."""

    def __init__(self, target_port: int, seed: int) -> None:
        self.target_port = target_port
        self._weather: Weather = "pass"
        self._clear = asyncio.Event()
        self._clear.set()
        self._random = random.Random(seed)  # noqa: S311  # weather, no secret
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def weather(self) -> Weather:
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        if weather == "partition":
            self._clear.clear()
        else:
            self._clear.set()

    async def start(self, port: int = 0) -> int:
        """Listens; the port."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)
        # Cancelled by ``close`` alone; the stream's own callback would report it as a fault.
        with contextlib.suppress(asyncio.CancelledError):
            await self._pass(reader, writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._clear.wait()
            there, back = await asyncio.open_connection(LOOPBACK, self.target_port)
        except OSError:
            writer.close()
            return
        directions = [asyncio.create_task(self._carry(reader, back)), asyncio.create_task(self._carry(there, writer))]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            for each in (back, writer):
                each.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if self._weather == "delay":
                    await asyncio.sleep(self._random.uniform(*DELAY_S))
                elif self._weather == "loss" and self._random.random() < LOST:
                    await asyncio.sleep(RETRANSMISSION_S)
                await self._clear.wait()
                sink.write(data)
                await sink.drain()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._passing):
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
