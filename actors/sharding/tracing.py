"""Trace context of the commands of one actor call, for the headers of the events that they cause."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

_TRACES: ContextVar[Mapping[int, str]] = ContextVar("traces", default={})  # noqa: B039  the default is never changed


def bind(commands: list[object], traces: Mapping[int, str]) -> None:
    """Remembers ``traces`` (index in ``commands`` -> traceparent) for the rest of this call."""
    _TRACES.set({id(commands[index]): trace for index, trace in traces.items()} if traces else {})


def headers_of(command: object) -> tuple[tuple[str, bytes], ...]:
    """Kafka headers that carry on the command's trace, if it has one."""
    traces = _TRACES.get()
    trace = traces.get(id(command)) if traces else None
    return (("traceparent", trace.encode()),) if trace else ()
