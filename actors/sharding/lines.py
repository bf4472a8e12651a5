"""Connections between actors and their callers: a call of Ray costs both sides 2 ms of CPU, one over a line 0.3 (``measure.py``).

Ray places actors, names them, restarts them and says where a line can be opened; what is asked a hundred times a second then
travels by itself. A caller that cannot reach the port calls through Ray.
Frames both ways: size (4 bytes), number of the call (8 bytes), body. The first one is the door's token.
"""

from __future__ import annotations

import asyncio
import hmac
import pickle
import secrets
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

HEADER: Final = struct.Struct(">IQ")
LARGEST: Final = 1 << 28
"""Bytes of one body; a longer one ends the line."""
TOKEN_BYTES: Final = 32
OPENING_S: Final = 1.0
"""Longest wait for a connection, and for the token of who has connected."""
CARRIED, FAILED = b"\0", b"\1"


class LineError(Exception):
    """A call over a line did not come about: ``cause`` is what the other side raised, None when the line was lost.

    The call may have been carried out.
    """

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        super().__init__(reason)
        self.cause = cause


class Address(NamedTuple):
    """Where a line to an actor is opened; the token is known to whoever may call the actor through Ray."""

    host: str
    port: int
    token: bytes


class _Frames(asyncio.Protocol):
    """One end of a line."""

    def __init__(self, largest: int = LARGEST) -> None:
        self.largest = largest
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its bases

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def send(self, number: int, *parts: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.writelines([HEADER.pack(sum(map(len, parts)), number), *parts])

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        place = 0
        while len(buffer) - place >= HEADER.size:
            size, number = HEADER.unpack_from(buffer, place)
            if size > self.largest:
                self.close()
                return
            end = place + HEADER.size + size
            if len(buffer) < end:
                break
            self.received(number, bytes(memoryview(buffer)[place + HEADER.size : end]))
            place = end
        del buffer[:place]

    def received(self, number: int, body: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Line(_Frames):
    """A caller's end: any number of calls at once, each answered by its number."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._number = 0

    @classmethod
    async def to(cls, address: Address) -> Line:
        """Raises OSError, TimeoutError: the port cannot be reached."""
        async with asyncio.timeout(OPENING_S):
            _, line = await asyncio.get_running_loop().create_connection(cls, address.host, address.port)
        line.send(0, address.token)
        return line

    async def ask(self, body: bytes) -> bytes:
        """The answer. Raises LineError: what the other side raised, or the line is lost."""
        if not self.open:
            raise LineError("the line is closed")
        self._number += 1
        number = self._number
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.send(number, body)
        try:
            answer: bytes = await future
        finally:
            self._waiting.pop(number, None)
        return answer

    def received(self, number: int, body: bytes) -> None:
        future = self._waiting.get(number)
        if future is None or future.done():
            return  # the caller did not wait for it
        if body[:1] == CARRIED:
            future.set_result(body[1:])
        else:
            future.set_exception(failure_of(body[1:]))

    def connection_lost(self, error: Exception | None) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LineError("the line was lost"))


class Door:
    """Where an actor lets callers in. It opens when it is first asked for its address."""

    def __init__(self, carry: Callable[[bytes], Awaitable[bytes]], host: Callable[[], str]) -> None:
        """``host``: the address of this machine by which callers reach it."""
        self.carry = carry
        self._host = host
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()
        self.guests: set[_Guest] = set()

    async def address(self) -> Address:
        """Raises OSError: no port can be had."""
        host = self._host()
        async with self._opening:
            if self._server is None:
                self._server = await asyncio.get_running_loop().create_server(lambda: _Guest(self), host, 0)
        return Address(host, self._server.sockets[0].getsockname()[1], self._token)

    def knows(self, token: bytes) -> bool:
        return hmac.compare_digest(token, self._token)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for guest in list(self.guests):
            guest.close()


class _Guest(_Frames):
    """The actor's end of a line. Nothing is carried out for who has not shown the token."""

    def __init__(self, door: Door) -> None:
        super().__init__(largest=TOKEN_BYTES)
        self._door = door
        self._known = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.guests.add(self)
        self._waiting = asyncio.get_running_loop().call_later(OPENING_S, self.close)

    def connection_lost(self, error: Exception | None) -> None:
        self._door.guests.discard(self)
        if self._waiting is not None:
            self._waiting.cancel()

    def received(self, number: int, body: bytes) -> None:
        if self._known:
            task = asyncio.create_task(self._answer(number, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif self._door.knows(body):
            self._known, self.largest = True, LARGEST
            if self._waiting is not None:
                self._waiting.cancel()
        else:
            self.close()

    async def _answer(self, number: int, body: bytes) -> None:
        try:
            answer = await self._door.carry(body)
        except Exception as error:  # noqa: BLE001  whatever it is, the caller hears of it
            self.send(number, FAILED, failed(error))
        else:
            self.send(number, CARRIED, answer)


def failed(error: Exception) -> bytes:
    """The error as it travels."""
    with suppress(Exception):  # an error of a library's may not be one that travels
        body = pickle.dumps(error)
        pickle.loads(body)  # noqa: S301  our own
        return body
    return pickle.dumps(RuntimeError(repr(error)))


def failure_of(body: bytes) -> LineError:
    cause: Any = pickle.loads(body)  # noqa: S301  a process of ours, which showed where its door is through Ray
    return LineError(repr(cause), cause)
