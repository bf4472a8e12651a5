"""Sending an answer that is there as a whole: its head and its body in one write where the server allows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON_HEADER: Final = (b"content-type", b"application/json")
UNUSUAL: Final = frozenset((204, 304))
"""Their answers have no length."""


async def respond(send: Send, status: int, headers: Sequence[Header], body: bytes) -> None:
    """Answers; ``headers`` are our own (lower-case names, a content-length, no connection).

    uvicorn writes the head and the body apart, which costs it and HAProxy a system call each for every request, and checks
    every header of every answer by two regular expressions. Where ``send`` is uvicorn's own and nothing is in the way (a
    full transport, a client that is gone, a connection that ends), the answer is written here.
    """
    cycle: Any = getattr(send, "__self__", None)
    if (
        type(cycle) is not RequestResponseCycle or cycle.flow.write_paused or cycle.disconnected or cycle.response_started
        or not cycle.keep_alive or status in UNUSUAL or cycle.scope["method"] == "HEAD"
    ):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    parts = [STATUS_LINE[status]]
    for name, value in (*cycle.default_headers, *headers):
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n", body)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join(parts))
    cycle.message_event.set()
    cycle.on_response()


async def respond_json(send: Send, body: bytes) -> None:
    """Answers 200 with JSON."""
    await respond(send, 200, (JSON_HEADER, (b"content-length", b"%d" % len(body))), body)
