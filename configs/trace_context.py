"""The trace (W3C traceparent) of what this task does now, for log lines and for what it asks others."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

current: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""The traceparent to pass on; None when nothing is traced."""


def add_trace(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: ``trace_id`` and ``span_id``, so that a log store finds the lines of one request."""
    traceparent = current.get()
    if traceparent is not None:
        line["trace_id"], line["span_id"] = traceparent[3:35], traceparent[36:52]
    return line
