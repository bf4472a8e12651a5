"""The load generator begins when it is told to, and ends with whoever waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from cluster.launch.bench.measure import Generating

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def server() -> Iterator[tuple[int, list[float]]]:
    """(port, when each request came) of a server that answers all."""
    came: list[float] = []
    loop = asyncio.new_event_loop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                came.append(time.monotonic())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield listening.sockets[0].getsockname()[1], came
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    listening.close()
    loop.close()


def test_nothing_is_sent_before_it_is_due_and_all_is_then(server: tuple[int, list[float]]) -> None:
    port, came = server
    at = time.monotonic() + 3.0
    outcome = Generating(port, [REQUEST] * 20, rate=40.0, seconds=0.5, connections=2, at=at).outcome()
    assert (outcome.offered, outcome.answered, outcome.errors) == (20, 20, 0.0)
    assert min(came) >= at


def test_one_that_is_stopped_leaves_no_process(server: tuple[int, list[float]]) -> None:
    running = Generating(server[0], [REQUEST] * 2_000, rate=10.0, seconds=100.0, connections=2)
    running.stop()
    assert running._process.returncode is not None
    running.stop()
