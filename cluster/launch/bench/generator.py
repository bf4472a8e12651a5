"""An open-loop HTTP load generator in a process of its own: ``python -m cluster.launch.bench.generator SPEC``.

Requests are due at fixed times whatever the answers do; latency is counted from the time a request was due, so that a
stalled server cannot hide its stall (no coordinated omission). With rate 0 it is a closed loop: every connection sends
its next request as soon as it has an answer. Traffic goes to loopback only, for a bounded time.

SPEC is a JSON file: {host, port, rate, seconds, connections, requests: file of length-prefixed raw HTTP requests,
at: time.monotonic() of the first request, or 0}.
Prints one JSON object: see ``Outcome``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httptools
import numpy as np
import uvloop

TICK_S = 0.001
GRACE_S = 5.0
"""How long answers are awaited after the last request was due."""


@dataclass(slots=True)
class Outcome:
    """What one run saw. Latencies in ms from the scheduled time; ``rate`` is answers a second while load was offered."""

    offered: int = 0
    sent: int = 0
    answered: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    """Connections that ended in the middle of a request."""
    seconds: float = 0.0
    rate: float = 0.0
    errors: float = 0.0
    """Share of offered requests without a 2xx answer."""
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    max_ms: float = 0.0


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.due = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._load.idle(self)

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.busy = True
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            assert self._transport is not None
            self._transport.abort()

    def on_message_complete(self) -> None:
        self.busy = False
        self._load.answered(self, self._parser.get_status_code())
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)


class Load:
    """One run against one address."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], rate: float, seconds: float,
                 connections: int) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise SystemExit(f"refusing to send load to {host}: only loopback addresses are allowed")
        self._host, self._port = host, port
        self._requests = requests
        self._rate, self._seconds, self._connections = rate, seconds, connections
        self._idle: deque[_Connection] = deque()
        self._backlog: deque[float] = deque()
        self._latencies: list[float] = []
        self._statuses: Counter[str] = Counter()
        self._next = 0
        self._sent = 0
        self._broken = 0
        self._offering = False
        self._in_time = 0

    async def run(self, at: float = 0.0) -> Outcome:
        """``at``: ``time.monotonic()`` before which nothing is sent."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(
            loop.create_connection(lambda: _Connection(self), self._host, self._port) for _ in range(self._connections)
        ))
        await asyncio.sleep(at - time.monotonic())
        began = time.perf_counter()
        end = began + self._seconds
        self._offering = True
        offered = 0
        if self._rate:
            total = min(int(self._rate * self._seconds), len(self._requests))
            while offered < total:
                now = time.perf_counter()
                due = min(int((now - began) * self._rate), total)
                for index in range(offered, due):
                    self._offer(began + index / self._rate)
                offered = max(offered, due)
                await asyncio.sleep(TICK_S)
        else:
            self._end = end
            for connection in list(self._idle):
                self.idle(connection)
            while time.perf_counter() < end and self._next < len(self._requests):  # noqa: ASYNC110  answers come by callbacks
                await asyncio.sleep(0.01)
        self._offering = False
        took = time.perf_counter() - began
        in_time = self._in_time
        deadline = time.perf_counter() + GRACE_S
        while self._awaited() and time.perf_counter() < deadline:  # noqa: ASYNC110  answers come by callbacks
            await asyncio.sleep(0.01)
        return self._outcome(offered or self._sent, took, in_time)

    def _awaited(self) -> bool:
        return len(self._latencies) + self._broken < self._sent or bool(self._backlog)

    def _offer(self, due: float) -> None:
        if self._idle:
            self._send(self._idle.popleft(), due)
        else:
            self._backlog.append(due)

    def _send(self, connection: _Connection, due: float) -> None:
        if self._next >= len(self._requests):
            return
        request = self._requests[self._next]
        self._next += 1
        self._sent += 1
        connection.send(request, due)

    def idle(self, connection: _Connection) -> None:
        if self._backlog:
            self._send(connection, self._backlog.popleft())
        elif self._offering and not self._rate and time.perf_counter() < self._end:
            if connection in self._idle:
                self._idle.remove(connection)
            self._send(connection, time.perf_counter())
        elif connection not in self._idle:
            self._idle.append(connection)

    def answered(self, connection: _Connection, status: int) -> None:
        self._latencies.append(time.perf_counter() - connection.due)
        self._statuses[str(status)] += 1
        self._in_time += self._offering
        self.idle(connection)

    def lost(self, connection: _Connection) -> None:
        if connection.busy:
            self._broken += 1
        elif connection in self._idle:
            self._idle.remove(connection)
        if self._offering:
            task = asyncio.ensure_future(
                asyncio.get_running_loop().create_connection(lambda: _Connection(self), self._host, self._port)
            )
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _outcome(self, offered: int, took: float, in_time: int) -> Outcome:
        ms = np.asarray(self._latencies or [0.0]) * 1_000
        good = sum(count for status, count in self._statuses.items() if status.startswith("2"))
        p50, p90, p99, p999 = (round(float(value), 2) for value in np.percentile(ms, [50, 90, 99, 99.9]))
        return Outcome(
            offered=offered, sent=self._sent, answered=len(self._latencies), statuses=dict(self._statuses),
            broken=self._broken, seconds=round(took, 2), rate=round(in_time / took, 1),
            errors=round(1 - good / max(offered, 1), 6), p50_ms=p50, p90_ms=p90, p99_ms=p99, p999_ms=p999,
            max_ms=round(float(ms.max()), 2),
        )


def write_requests(path: Path, requests: Sequence[bytes]) -> None:
    """Writes raw HTTP requests as length-prefixed records."""
    with path.open("wb") as file:
        for request in requests:
            file.write(struct.pack("<I", len(request)) + request)


def read_requests(path: Path) -> list[bytes]:
    data = path.read_bytes()
    requests: list[bytes] = []
    start = 0
    while start < len(data):
        (size,) = struct.unpack_from("<I", data, start)
        requests.append(data[start + 4 : start + 4 + size])
        start += 4 + size
    return requests


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    load = Load(
        spec["host"], spec["port"], read_requests(Path(spec["requests"])), spec["rate"], spec["seconds"],
        spec["connections"],
    )
    print(json.dumps(asdict(uvloop.run(load.run(spec["at"])))))


if __name__ == "__main__":
    main()
