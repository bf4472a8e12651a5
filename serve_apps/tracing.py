"""W3C trace context of the request that is being answered."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Coroutine
from typing import Any, Final

from actors.sharding.client import DEADLINE_S, ActorPool
from cluster.connections.spans import Span, Spans, sampled
from configs.trace_context import current

TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")

def accept(header: bytes | None, sample_ratio: float) -> str | None:
    """The traceparent of a request: the caller's if it is one, else by chance a new sampled one, else None."""
    if header is not None:
        text = header.decode("latin-1")
        if TRACEPARENT.match(text):
            return text
    if sample_ratio and random.random() < sample_ratio:  # noqa: S311  sampling, not a secret
        return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    return None


def begin(spans: Spans, header: bytes | None, context: str) -> Span | None:
    """The span of a request whose traceparent is ``context``; None: it is not sampled, or too many were in this second."""
    if not sampled(context) or not spans.admits():
        return None
    inherited = header is not None and header.decode("latin-1") == context
    return spans.begin("request", context if inherited else None, "server")


class TracedPool(ActorPool):
    """An actor pool that sends the present request's trace along with every command."""

    def ask(
        self, service: str, shard: int, method: str, command: Any, *, deadline_s: float = DEADLINE_S,
        traceparent: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """``ActorPool.ask`` with the traceparent of the request that is being answered."""
        return super().ask(
            service, shard, method, command, deadline_s=deadline_s, traceparent=traceparent or current.get()
        )
