"""A uvicorn WebSocket that is written to without a task, and that ends also when its peer takes nothing more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from configs.contracts.frames import NOT_ANSWERING, CloseCode

EXTENSION: Final = "sugar.wire"
"""Key of the protocol object in the ASGI scope's extensions."""
PATIENCE_S: Final = 5.0
"""Seconds that a peer has to take the close frame before the connection is cut."""


class GatewayProtocol(WebSocketsSansIOProtocol):
    """``hub.Wire`` over uvicorn's protocol: what the application sends goes straight into the transport's buffer.

    Written against uvicorn 0.54; tests with real sockets hold what is used of it.
    """

    on_writable: Callable[[], None] | None = None

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


def wire_of(scope: Any) -> GatewayProtocol:
    """The connection of a socket's scope, under a server made by ``actors.realtime.server``."""
    found = scope["extensions"][EXTENSION]
    assert isinstance(found, GatewayProtocol)
    return found


