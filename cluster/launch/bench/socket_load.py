"""Thousands of realtime sockets from a process of its own: ``python -m cluster.launch.bench.socket_load SPEC``.

SPEC is a JSON file: {api_port, urls: gateways, tokens: of people, sockets}. Then one JSON command a line on standard
input, one JSON answer a line on standard output:

    {"do": "open", "at_once": 200}       opens all sockets, authenticated by access token in the first frame
    {"do": "talk", "sockets": n, "seconds": s}   n of them send a ping frame every second; round-trip times
    {"do": "chat", "pairs": [[conversation, sender, recipient], ...], "rate": r, "seconds": s}   numbers of sockets; the
                                         senders send r messages a second together, or (0) the next at each ack
    {"do": "lose"}                       waits until sockets end, then brings each back by a new ticket from the API
    {"do": "close"}
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop

from cluster.launch.bench.socket_peer import Peer, handshake, opened
from configs.process import quieten_collector

OPEN_TIMEOUT_S = 120.0
LOST_WAIT_S = 60.0
TICKET_CONNECTIONS = 256
_PING = b'{"type":"ping"}'
_READY = b'"type":"ready"'
_PONG = b'"type":"pong"'
_MESSAGE = b'"type":"message"'
_ACK = b'"type":"ack"'
_ERROR = b'"type":"error"'
SETTLE_S = 3.0


class _Told(msgspec.Struct, rename="camel"):
    """What is looked at of message and ack frames."""

    client_message_id: str


class _Refusal(msgspec.Struct, rename="camel"):
    """What is looked at of error frames."""

    code: str
    client_message_id: str | None = None
    retry_after_ms: int | None = None


class _Ticket(msgspec.Struct):
    url: str
    ticket: str


class Load:
    """All sockets of this process."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._api_port = int(spec["api_port"])
        self._urls: list[str] = spec["urls"]
        self._tokens: list[str] = spec["tokens"]
        self._count = int(spec["sockets"])
        self._peers: dict[int, Peer] = {}
        self._ready: set[int] = set()
        self._ready_at: list[float] = []
        self._lost: list[int] = []
        self._ends: Counter[int] = Counter()
        self._changed = asyncio.Event()
        self._pinged: dict[int, float] = {}
        self._trips: list[float] = []
        self._closing = False
        self._talk: Chat | None = None

    # -- what peers report

    def _text(self, peer: Peer, payload: bytes) -> None:
        if _PONG in payload[:32]:
            sent = self._pinged.pop(peer.number, None)
            if sent is not None:
                self._trips.append(time.perf_counter() - sent)
        elif self._talk is not None and (_MESSAGE in payload[:32] or _ACK in payload[:32]):
            self._talk.heard(peer.number, _ACK in payload[:32], payload)
        elif self._talk is not None and _ERROR in payload[:32]:
            self._talk.refused(peer.number, payload)
        elif _READY in payload[:32]:
            self._ready.add(peer.number)
            self._ready_at.append(time.perf_counter())
            self._changed.set()

    def _end(self, peer: Peer, code: int) -> None:
        self._ends[code] += 1
        self._ready.discard(peer.number)
        self._peers.pop(peer.number, None)
        if not self._closing:
            self._lost.append(peer.number)
        self._changed.set()

    # -- commands

    async def open(self, at_once: int) -> dict[str, Any]:
        began = time.perf_counter()
        gate = asyncio.Semaphore(at_once)

        async def one(number: int) -> None:
            async with gate:
                word = json.dumps({"type": "authenticate", "accessToken": self._tokens[number % len(self._tokens)]})
                await self._connect(number, self._urls[number % len(self._urls)], word.encode())
                while number not in self._ready and number in self._peers:
                    self._changed.clear()
                    await self._changed.wait()

        refused = 0
        results = await asyncio.gather(*(one(number) for number in range(self._count)), return_exceptions=True)
        refused = sum(isinstance(result, BaseException) for result in results)
        seconds = time.perf_counter() - began
        reasons = Counter(type(result).__name__ for result in results if isinstance(result, BaseException))
        return {
            "opened": len(self._ready), "refused": refused, "reasons": dict(reasons), "seconds": round(seconds, 2),
            "rate": round(len(self._ready) / seconds, 1), "ends": dict(self._ends),
        }

    async def _connect(self, number: int, url: str, first: bytes) -> None:
        host, port, request = handshake(url)
        peer = self._peers[number] = Peer(number, request, first, self._text, self._end)
        try:
            await opened(peer, host, port)
        except OSError:
            self._peers.pop(number, None)
            raise

    async def talk(self, sockets: int, seconds: float) -> dict[str, Any]:
        """Each socket pings once a second, spread over the second."""
        chosen = sorted(self._ready)[:sockets]
        self._trips.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        sent = 0
        for round_number in range(int(seconds)):
            for place, number in enumerate(chosen):
                due = began + round_number + place / len(chosen)
                if (early := due - loop.time()) > 0.001:
                    await asyncio.sleep(early)
                peer = self._peers.get(number)
                if peer is not None:
                    self._pinged[number] = time.perf_counter()
                    peer.send(_PING)
                    sent += 1
        await asyncio.sleep(1.0)
        trips = np.array(self._trips or [0.0]) * 1_000
        return {
            "sockets": len(chosen), "sent": sent, "answered": len(self._trips),
            "p50_ms": round(float(np.percentile(trips, 50)), 2), "p99_ms": round(float(np.percentile(trips, 99)), 2),
        }

    async def chat(self, pairs: list[tuple[str, int, int]], rate: float, seconds: float) -> dict[str, Any]:
        """Messages from senders to recipients; latency from when each was due to the recipient's frame."""
        self._talk = Chat(pairs, lambda number, text: self._peers[number].send(text))
        try:
            return await self._talk.run(rate, seconds)
        finally:
            self._talk = None

    async def lose(self) -> dict[str, Any]:
        """Every socket that ends comes back by a ticket, after a random delay of up to half a second."""
        deadline = time.perf_counter() + LOST_WAIT_S
        while not self._lost:
            self._changed.clear()
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.1, deadline - time.perf_counter())):
                await self._changed.wait()
        began = time.perf_counter()
        await asyncio.sleep(0.05)
        self._ready_at.clear()
        queue: asyncio.Queue[int] = asyncio.Queue()
        lost = 0
        workers = [asyncio.create_task(self._bring_back(queue)) for _ in range(TICKET_CONNECTIONS)]
        while time.perf_counter() - began < OPEN_TIMEOUT_S:
            while self._lost:
                lost += 1
                queue.put_nowait(self._lost.pop())
            if queue.empty() and len(self._ready) >= self._count:
                break
            await asyncio.sleep(0.02)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        times = sorted(self._ready_at)
        seconds = times[-1] - times[0] if len(times) > 1 else 0.0
        return {
            "lost": lost, "back": len(self._ready), "all_back_after_s": round((times[-1] if times else began) - began, 2),
            "first_back_after_s": round((times[0] if times else began) - began, 2),
            "back_in_each_second": np.bincount([int(at - began) for at in times]).tolist() if times else [],
            "rate": round(len(times) / seconds, 1) if seconds else 0.0,
        }

    async def _bring_back(self, queue: asyncio.Queue[int]) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while True:
            number = await queue.get()
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._api_port)
                ticket = await self._ticket(reader, writer, self._tokens[number % len(self._tokens)])
            except (OSError, EOFError, ValueError):
                if writer is not None:
                    writer.close()
                reader = writer = None
                self._again(queue, number)
                continue
            try:
                await self._connect(number, f"{ticket.url}?ticket={ticket.ticket}", b"")
            except OSError:  # the ticket names the gateway that has died
                self._again(queue, number)

    def _again(self, queue: asyncio.Queue[int], number: int) -> None:
        delay_s = random.uniform(0.1, 0.5)  # noqa: S311  only a spread
        asyncio.get_running_loop().call_later(delay_s, queue.put_nowait, number)

    async def _ticket(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> _Ticket:
        writer.write(
            f"POST /api/v1/messaging/ws-ticket HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        body = await reader.readexactly(length)
        if b" 200 " not in head[:32]:
            raise ValueError("no ticket")
        return msgspec.json.decode(body, type=_Ticket)

    async def close(self) -> dict[str, Any]:
        self._closing = True
        for peer in list(self._peers.values()):
            peer.abort()
        await asyncio.sleep(0.2)
        return {"ends": dict(self._ends)}


class Chat:
    """One run of messages: when each was due, acknowledged and heard by its recipient."""

    def __init__(self, pairs: list[tuple[str, int, int]], send: Callable[[int, bytes], None]) -> None:
        self._pairs = pairs
        self._send = send
        self._by_sender = {sender: place for place, (_, sender, _) in enumerate(pairs)}
        self._due: dict[str, float] = {}
        self._acks: list[float] = []
        self._deliveries: list[float] = []
        self._refused: Counter[str] = Counter()
        self._closed_loop = False
        self._sent = 0

    def heard(self, number: int, ack: bool, payload: bytes) -> None:
        due = self._due.get(msgspec.json.decode(payload, type=_Told).client_message_id)
        if due is None:
            return
        late = time.perf_counter() - due
        if ack:
            self._acks.append(late)
            if self._closed_loop:
                self._next(self._by_sender[number], time.perf_counter())
        elif number not in self._by_sender:
            self._deliveries.append(late)

    def refused(self, number: int, payload: bytes) -> None:
        """A message that was not taken; in a closed loop its sender goes on with another one when they may."""
        answer = msgspec.json.decode(payload, type=_Refusal)
        if answer.client_message_id is not None and answer.client_message_id not in self._due:
            return  # of the run before
        self._refused[answer.code] += 1
        asyncio.get_running_loop().call_later((answer.retry_after_ms or 1_000) / 1_000, self._again, number)

    def _again(self, number: int) -> None:
        if self._closed_loop:
            self._next(self._by_sender[number], time.perf_counter())

    def _next(self, place: int, due: float) -> None:
        conversation, sender, _ = self._pairs[place]
        self._sent += 1
        name = f"{sender}-{self._sent}-{due:.6f}"
        self._due[name] = due
        self._send(sender, msgspec.json.encode({
            "type": "send", "conversationId": conversation, "clientMessageId": name,
            "content": "See you at eight in front of the cinema?",
        }))

    async def run(self, rate: float, seconds: float) -> dict[str, Any]:
        began = time.perf_counter()
        self._closed_loop = not rate
        if self._closed_loop:
            for place in range(len(self._pairs)):
                self._next(place, time.perf_counter())
            await asyncio.sleep(seconds)
            self._closed_loop = False
        else:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                if (early := due - time.perf_counter()) > 0.0005:
                    await asyncio.sleep(early)
                self._next(number % len(self._pairs), due)
        ended = time.perf_counter()
        settled = ended + SETTLE_S
        while self._waits() and time.perf_counter() < settled:  # noqa: ASYNC110  ends by time too
            await asyncio.sleep(0.01)
        return {
            "sent": self._sent, "acknowledged": len(self._acks), "delivered": len(self._deliveries), "refused": dict(self._refused),
            "rate": round(len(self._acks) / (ended - began), 1), **_percentiles("ack", self._acks),
            **_percentiles("delivery", self._deliveries),
        }

    def _waits(self) -> bool:
        """Whether a message is not answered, or not heard although it was acknowledged."""
        answered = len(self._acks) + self._refused.total()
        return answered < self._sent or len(self._deliveries) < len(self._acks)


def _percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    values = np.array(seconds or [0.0]) * 1_000
    found = {f"{name}_p{share}_ms": round(float(np.percentile(values, share)), 2) for share in (50, 99)}
    return found | {f"{name}_max_ms": round(float(values.max()), 2)}


async def serve(spec: dict[str, Any]) -> None:
    """Carries out commands until standard input ends."""
    load = Load(spec)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        answer = await getattr(load, command.pop("do"))(**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    quieten_collector()
    uvloop.run(serve(json.loads(Path(sys.argv[1]).read_text())))
