"""Trace context of the commands of one actor call, for the headers of the events that they cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from cluster.connections.spans import Span, Spans, sampled
from configs.trace_context import current

_TRACES: ContextVar[Mapping[int, str]] = ContextVar("traces", default={})  # noqa: B039  the default is never changed


def bind(commands: list[object], traces: Mapping[int, str]) -> None:
    """Remembers ``traces`` (index in ``commands`` -> traceparent) for the rest of this call."""
    _TRACES.set({id(commands[index]): trace for index, trace in traces.items()} if traces else {})
    # Log lines of a call can name one trace: that of its first command that has one.
    current.set(next(iter(traces.values()), None))


def headers_of(command: object) -> tuple[tuple[str, bytes], ...]:
    """Kafka headers that carry on the command's trace, if it has one."""
    traces = _TRACES.get()
    trace = traces.get(id(command)) if traces else None
    return (("traceparent", trace.encode()),) if trace else ()


def begin(spans: Spans, name: str, traces: Mapping[int, str], *, actor: str, batch: int) -> dict[int, Span]:
    """The steps of this call's sampled commands, by their index."""
    return {
        index: spans.begin(name, trace, "internal", {"sugar.actor": actor, "sugar.batch": batch})
        for index, trace in traces.items() if sampled(trace)
    }


def end(steps: Mapping[int, Span], answers: Sequence[Any]) -> None:
    """Ends the steps; ``answers`` is empty when the call failed."""
    for index, step in steps.items():
        answer = answers[index] if answers else None
        step.end(error="failed" if not answers else type(answer).__name__ if isinstance(answer, Exception) else "")
