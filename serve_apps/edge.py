"""What every request passes first: body limits, trace, errors as problem documents, figures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, Final, Protocol

import structlog

from cluster.connections.spans import Span, Spans
from configs.contracts.errors import PlatformError
from configs.trace_context import current
from serve_apps import tracing
from serve_apps.metrics import RequestFigures
from serve_apps.problems import Refused, answer, problem
from serve_apps.responding import Send, respond, respond_json

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Hot(Protocol):
    """A route that is answered without the router."""

    async def answered(self, scope: Scope, receive: Receive) -> bytes:
        """The body, JSON, of an answer with status 200. Raises PlatformError."""
        ...


JSON_TYPE: Final = b"application/json"
RAW: Final = "/api/v1/payments/webhooks/"
"""Paths below it take bodies of any type: their sender's signature counts, over the bytes as they came."""


class Edge:
    """The outermost ASGI application of a replica.

    ``hot`` maps (method, path) to handlers that are called without going through the router, which for them would cost
    as much as all the rest; they stand in the router as well, for other methods and the document.
    """

    def __init__(
        self, app: App, *, hot: Mapping[tuple[str, str], tuple[str, Hot]], body_bytes: int, raw_bytes: int, sample_ratio: float,
        figures: RequestFigures, spans: Spans | None = None,
    ) -> None:
        self._app = app
        self._hot = hot
        self._body_bytes = body_bytes
        self._raw_bytes = raw_bytes
        self._sample_ratio = sample_ratio
        self._figures = figures
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.answer(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answers the request; the answer's status, 0: none was sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return 0
        began = perf_counter()
        figures = self._figures
        figures.in_flight += 1
        status = 0
        span: Span | None = None
        name, hot = self._hot.get((scope["method"], scope["path"]), (None, None))

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            chunked, parent = self._admitted(scope)
            traceparent = tracing.accept(parent, self._sample_ratio)
            if traceparent is not None and self._spans is not None:
                span = tracing.begin(self._spans, parent, traceparent)
                traceparent = span.traceparent if span is not None else None
            current.set(traceparent)
            if chunked:
                receive = await self._gathered(receive, self._limit(scope))
            if hot is None:
                await self._app(scope, receive, counted)
            else:
                body = await hot.answered(scope, receive)
                status = 200
                await respond_json(send, body)
        except asyncio.CancelledError:
            status = status or 499
            raise
        except PlatformError as error:
            refusal = answer(error)
            if refusal.status == 500:
                log.exception("request_failed", route=_route_of(scope), reason=str(error), kind=type(error).__name__)
            if status:
                raise
            status = refusal.status
            await respond(send, status, refusal.headers, refusal.body)
        except Exception as error:
            log.exception("request_failed", route=_route_of(scope), kind=type(error).__name__)
            if status:
                raise
            status = 500
            failure = problem("internal_error")
            await respond(send, status, failure.headers, failure.body)
        finally:
            figures.in_flight -= 1
            route = name or _route_of(scope)
            figures.add(route, status, perf_counter() - began)
            if span is not None:
                span.end(
                    {"http.request.method": scope["method"], "http.response.status_code": status},
                    name=route, error=str(status) if status >= 500 else "",
                )
        return status

    def _admitted(self, scope: Scope) -> tuple[bool, bytes | None]:
        """Refuses bodies that are too large or not JSON. (Whether the length is undeclared, the caller's trace context.)"""
        length = kind = parent = None
        chunked = False
        for header, value in scope["headers"]:
            if header == b"content-length":
                length = value
            elif header == b"content-type":
                kind = value
            elif header == b"traceparent":
                parent = value
            elif header == b"transfer-encoding":
                chunked = True
        if not chunked and (length is None or length == b"0"):
            return False, parent
        limit = self._limit(scope)
        if length is not None and (not length.isdigit() or len(length) > 15 or int(length) > limit):
            raise Refused("body_too_large", limit_bytes=limit)
        if (
            kind is not JSON_TYPE and (kind is None or kind.split(b";", 1)[0].strip().lower() != JSON_TYPE)
            and not scope["path"].startswith(RAW)
        ):
            raise Refused("unsupported_media_type")
        return chunked, parent

    def _limit(self, scope: Scope) -> int:
        return self._raw_bytes if scope["path"].startswith(RAW) else self._body_bytes

    async def _gathered(self, receive: Receive, limit: int) -> Receive:
        """Reads a body of undeclared length up front, so that a route never sees one that is too large."""
        parts: list[bytes] = []
        taken = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            part = message.get("body", b"")
            taken += len(part)
            if taken > limit:
                raise Refused("body_too_large", limit_bytes=limit)
            parts.append(part)
            more = message.get("more_body", False)
        body: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}

        async def replay() -> Message:
            nonlocal body
            message, body = body, None
            return message if message is not None else await receive()

        return replay


def _route_of(scope: Scope) -> str:
    """The operation id of the route that was chosen, for figures and logs; never the path, which holds ids."""
    route = scope.get("route")
    return getattr(route, "operation_id", None) or getattr(route, "name", None) or "unrouted"


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request, within the edge's limit."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
    return b"".join(parts)
