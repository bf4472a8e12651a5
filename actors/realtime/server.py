"""The HTTP/1.1 server below the gateway: uvicorn on a socket of its own, without access log, deflate or lifespan."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from actors.realtime.wire import GatewayProtocol
from configs.contracts.frames import FRAME_BYTES
from configs.settings import Realtime

BACKLOG: Final = 4_096
SEND_BUFFER_BYTES: Final = 131_072
"""Of the kernel, for each socket: bounds what a slow peer holds, and lets its slowness be seen."""
GRACE_S: Final = 2
"""Seconds for close frames to be answered when the server stops."""


class HandshakeProtocol(HttpToolsProtocol):
    """A connection that does not become a WebSocket in time is cut: uvicorn itself waits for its request for ever."""

    handshake_s: float = 5.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(self.handshake_s, self._cut)

    def _cut(self) -> None:
        if not self.transport.is_closing() and self.transport.get_protocol() is self:
            self.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is an error here and not an exit inside uvicorn. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        made.bind((host, port))
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


class GatewayServer:
    """Serves one ASGI application until ``stop``."""

    def __init__(self, app: Any, settings: Realtime, listening: socket.socket) -> None:
        class Handshake(HandshakeProtocol):
            handshake_s = settings.authenticate_s

        self._listening = listening
        # Its information lines would hold tickets; the gateway logs its own errors.
        self._server = uvicorn.Server(uvicorn.Config(
            app, http=Handshake, ws=GatewayProtocol, loop="none", lifespan="off", access_log=False, log_config=None,
            log_level="critical", proxy_headers=False, server_header=False, date_header=False, backlog=BACKLOG,
            ws_max_size=FRAME_BYTES, ws_per_message_deflate=False, ws_ping_interval=settings.ping_interval_s,
            ws_ping_timeout=settings.ping_timeout_s, timeout_graceful_shutdown=GRACE_S,
        ))
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once connections are accepted."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listening]), name="server")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError("the server ended at once")
            await asyncio.sleep(0.01)

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done() and self._server.started

    async def stop(self) -> None:
        """Stops accepting, ends every connection, and frees the port."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._listening.close()
