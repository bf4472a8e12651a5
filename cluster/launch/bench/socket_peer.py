"""WebSocket clients that cost little: RFC 6455 by hand, one protocol object a socket, no task.

Only what a load generator needs: text frames below 64 KiB, pings answered, no fragments (the gateway sends none).
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

HEADER_LIMIT: Final = 4_096
_KEY: Final = base64.b64encode(b"0123456789abcdef").decode()
_MASK: Final = b"\x00\x00\x00\x00"
"""A mask of zeros is valid and costs nothing."""


def masked(opcode: int, payload: bytes) -> bytes:
    """One client frame."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, 0x80 | length)) + _MASK + payload
    return bytes((0x80 | opcode, 0x80 | 126)) + length.to_bytes(2, "big") + _MASK + payload


class Peer(asyncio.Protocol):
    """One socket. ``on_text(peer, payload)`` for each text frame, ``on_end(peer, close code)`` once."""

    __slots__ = ("_buffer", "_on_end", "_on_text", "_opened", "_request", "code", "first", "number", "transport")

    def __init__(
        self, number: int, request: bytes, first: bytes, on_text: Callable[[Peer, bytes], None],
        on_end: Callable[[Peer, int], None],
    ) -> None:
        """``first``: sent when the socket is open."""
        self.number = number
        self.first = first
        self.code = 1006
        self.transport: asyncio.Transport | None = None
        self._request = request
        self._on_text = on_text
        self._on_end = on_end
        self._buffer = b""
        self._opened = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._opened:
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = data
                return
            if b" 101 " not in head[:32]:
                self.abort()
                return
            self._opened = True
            data = rest
            if self.first:
                self.send(self.first)
        self._buffer = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        start, size = 0, len(data)
        while size - start >= 2:
            opcode, length = data[start] & 15, data[start + 1]
            body = start + 2
            if length == 126:
                if size - start < 4:
                    break
                length = int.from_bytes(data[body : body + 2], "big")
                body += 2
            if size - body < length:
                break
            payload = data[body : body + length]
            start = body + length
            if opcode == 1:
                self._on_text(self, payload)
            elif opcode == 9 and self.transport is not None:
                self.transport.write(masked(10, payload))
            elif opcode == 8 and self.transport is not None:
                self.code = int.from_bytes(payload[:2], "big")
                self.transport.write(masked(8, payload[:2]))
                self.transport.close()
        return data[start:]

    def send(self, text: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(masked(1, text))

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._on_end(self, self.code)


def handshake(url: str) -> tuple[str, int, bytes]:
    """(host, port, request) of a URL."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return parts.hostname or "", parts.port or 80, request.encode()


def from_address(number: int) -> tuple[str, int] | None:
    """A loopback source address for the socket of a number: one address has ports for about 28,000 only."""
    return None if number < 25_000 else (f"127.0.0.{2 + number // 25_000}", 0)


async def opened(peer: Peer, host: str, port: int) -> None:
    """Connects a peer. Raises OSError."""
    await asyncio.get_running_loop().create_connection(
        lambda: peer, host, port, local_addr=from_address(peer.number), family=socket.AF_INET
    )


