"""Spans of sampled requests, sent to an OpenTelemetry collector (OTLP over HTTP) by a thread of their own.

Off unless ``tracing.endpoint`` is set; OpenTelemetry is imported only then. What is not sampled costs a comparison.
Spans name routes, shards and topics, never people: no ids, no text, no addresses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from configs.settings import Settings

Attributes = Mapping[str, str | int]
NOTHING: Final[Attributes] = MappingProxyType({})
Kind = Literal["server", "internal", "producer", "consumer"]
SAMPLED: Final = "01"
QUEUE: Final = 2_048
"""Finished spans that wait for the collector; past it they are dropped."""
EXPORT_EVERY_MS: Final = 2_000


def sampled(traceparent: str) -> bool:
    return traceparent.endswith(SAMPLED)


class Span:
    """One step of a request. End it once."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Any) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        """The W3C context under which what follows is a child of this step."""

    def end(self, attributes: Attributes = NOTHING, *, name: str = "", error: str = "", ended_ns: int | None = None) -> None:
        """``error``: its kind; empty: it went well."""
        if name:
            self._span.update_name(name)
        self._span.set_attributes(attributes)
        if error:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, error)
            self._span.set_attribute("error.type", error)
        self._span.end(ended_ns)


class Spans:
    """The spans of one process. From any thread."""

    def __init__(self, settings: Settings, instance: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        tracing = settings.tracing
        self._provider = TracerProvider(
            # Who is asked for a span has decided already.
            sampler=ALWAYS_ON, shutdown_on_exit=False,
            resource=Resource({"service.name": "sugar", "service.instance.id": instance, "deployment.environment.name": settings.profile}),
        )
        headers = {"Authorization": tracing.authorization.get_secret_value()} if tracing.authorization.get_secret_value() else None
        self._provider.add_span_processor(BatchSpanProcessor(
            OTLPSpanExporter(tracing.endpoint, headers=headers, timeout=tracing.timeout_s),
            max_queue_size=QUEUE, schedule_delay_millis=EXPORT_EVERY_MS,
        ))
        self._tracer = self._provider.get_tracer("sugar")
        self._limit = tracing.requests_a_second
        self._second = 0
        self._begun = 0

    def admits(self) -> bool:
        """Whether one more request may be traced in this second: clients can ask for it, so it is bounded."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._begun = second, 0
        self._begun += 1
        return self._begun <= self._limit

    def begin(
        self, name: str, parent: str | None, kind: Kind, attributes: Attributes = NOTHING, *, started_ns: int | None = None
    ) -> Span:
        """A step that is a child of ``parent`` (a W3C traceparent), or the first of a new trace."""
        from opentelemetry.context import Context
        from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

        context = Context()
        if parent is not None:
            _, trace, span, _ = parent.split("-")
            context = set_span_in_context(
                NonRecordingSpan(SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))),
                context,
            )
        return Span(self._tracer.start_span(
            name, context, kind=SpanKind[kind.upper()], attributes=attributes, start_time=started_ns,
        ))

    def close(self) -> None:
        """Sends what waits, as long as the collector may take to answer."""
        self._provider.shutdown()


def spans_of(settings: Settings, instance: str) -> Spans | None:
    """The spans of the process ``instance``; None: nobody collects them."""
    return Spans(settings, instance) if settings.tracing.endpoint else None
