"""What is written in one piece is what uvicorn would have written in two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from cluster.embedded.ports import free_port
from serve_apps.responding import respond

BODY = b'{"a":1}' * 1_000
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def whole(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, int(scope["path"][1:] or 200), HEADERS, BODY)


async def parts(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": int(scope["path"][1:] or 200), "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, http="httptools", lifespan="off", log_level="critical", date_header=False))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        await task


async def answered(app: Any, *requests: bytes) -> bytes:
    """Everything a server sends on one connection, which the last request ends."""
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(requests))
        try:
            return await asyncio.wait_for(reader.read(-1), 10)
        finally:
            writer.close()


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabcde"


@pytest.mark.parametrize("requests", [
    (LAST,), (GET, LAST), (GET, GET, GET, LAST), (POST, POST, LAST),
    (b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n", LAST), (b"GET /404 HTTP/1.1\r\nhost: x\r\n\r\n", LAST),
    (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", LAST),
])
async def test_clients_see_no_difference(requests: tuple[bytes, ...]) -> None:
    assert await answered(whole, *requests) == await answered(parts, *requests)


async def test_one_write_an_answer() -> None:
    writes: list[bytes] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        cycle = send.__self__
        assert type(cycle) is RequestResponseCycle
        cycle.transport = Watched(cycle.transport, writes.append)
        await whole(scope, receive, send)

    got = await answered(watched, GET, LAST)
    # The answer after which the connection ends goes uvicorn's way.
    assert len(writes) == 3
    assert b"".join(writes) == got


class Watched:
    """A transport whose writes are seen."""

    def __init__(self, inner: Any, seen: Callable[[bytes], None]) -> None:
        self._inner, self._seen = inner, seen

    def write(self, data: bytes) -> None:
        self._seen(data)
        self._inner.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("obstacle", ["write_paused", "disconnected"])
async def test_what_is_in_the_way_is_left_to_uvicorn(obstacle: str) -> None:
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cycle = send.__self__
        ordinary = cycle.send

        class Held:
            write_paused = obstacle == "write_paused"

            async def drain(self) -> None:
                sent.append("drained")
                self.write_paused = False

        if obstacle == "write_paused":
            cycle.flow = Held()
        else:
            cycle.disconnected = True
        await respond(send, 200, HEADERS, BODY)
        if obstacle == "disconnected":
            cycle.disconnected = False
            await ordinary({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await ordinary({"type": "http.response.body", "body": BODY})

    got = await answered(app, LAST)
    assert got.endswith(BODY)
    assert got.count(BODY) == 1
    assert sent == (["drained"] if obstacle == "write_paused" else [])
