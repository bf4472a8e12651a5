"""A uvicorn WebSocket that is written to without a task, that ends also when its peer takes nothing more, and whose peer
cannot keep it busy with frames of which the application hears nothing."""

from __future__ import annotations

from asyncio import BaseTransport
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame

from actors.realtime.session import Allowance
from configs.contracts.frames import NOT_ANSWERING, CloseCode

EXTENSION: Final = "sugar.wire"
"""Key of the protocol object in the ASGI scope's extensions."""
PATIENCE_S: Final = 5.0
"""Seconds that a peer has to take the close frame before the connection is cut."""
UNHEARD_A_SECOND: Final = 5.0
UNHEARD_AT_ONCE: Final = 256
"""Frames that no session counts, after which the connection is cut: pings, pongs, continuations, and messages that come
after a close frame was sent. Clients ping every some seconds; what is on its way when they are closed is less than this."""
PIECE_BYTES: Final = 2_048
"""So much is parsed before its frames are counted: of the smallest ones 340, some 2 ms. A read brings up to 256 KiB."""


class GatewayProtocol(WebSocketsSansIOProtocol):
    """``hub.Wire`` over uvicorn's protocol: what the application sends goes straight into the transport's buffer.

    Written against uvicorn 0.54; tests with real sockets hold what is used of it.
    """

    on_writable: Callable[[], None] | None = None
    on_flood: Callable[[], None] | None = None
    """The connection was cut for what its peer sends."""
    _unparsed = memoryview(b"")

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._unheard = Allowance(UNHEARD_A_SECOND, UNHEARD_AT_ONCE)

    def data_received(self, data: bytes) -> None:
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._parse()

    def _parse(self) -> None:
        """Parses piece by piece, until a message waits for the application or the connection ends."""
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            piece, self._unparsed = bytes(self._unparsed[:PIECE_BYTES]), self._unparsed[PIECE_BYTES:]
            super().data_received(piece)

    async def receive(self) -> Any:
        message = await super().receive()
        self._parse()
        return message

    def handle_ping(self) -> None:
        if not self.writable.is_set():
            self._cut()  # pongs would pile up
        elif self._within_allowance():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._within_allowance():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if self._within_allowance():
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if not self.close_sent or self._within_allowance():
            super().send_receive_event_to_app()

    def _within_allowance(self) -> bool:
        """Counts a frame that no session counts; False: the connection is cut."""
        if self._unheard.take(self.loop.time()):
            self._cut()
        return not self.transport.is_closing()

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()
            if self.on_flood is not None:
                self.on_flood()

    async def run_asgi(self) -> None:
        extensions: Any = self.scope["extensions"]
        extensions[EXTENSION] = self
        await super().run_asgi()

    def write(self, payload: bytes) -> bool:
        if not self.writable.is_set():
            return False
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return True
        try:
            self.conn.send_text(payload)
        except InvalidState:
            return True
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    def shut(self, code: CloseCode) -> None:
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.stop_keepalive()
        try:
            self.conn.send_close(code.code, code.title)
        except InvalidState:
            pass
        else:
            self.transport.write(b"".join(self.conn.data_to_send()))
        self._ended(code)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # The peer does not answer, so it will not take what is buffered either.
        self._ended(NOT_ANSWERING)

    def _ended(self, code: CloseCode) -> None:
        """The application hears of the end at once; the connection ends with the peer's answer, or without it."""
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code.code, "reason": code.title})
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(PATIENCE_S, self.transport.abort)
        self._parse()


def wire_of(scope: Any) -> GatewayProtocol:
    """The connection of a socket's scope, under a server made by ``actors.realtime.server``."""
    found = scope["extensions"][EXTENSION]
    assert isinstance(found, GatewayProtocol)
    return found


