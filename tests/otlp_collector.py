"""A small OpenTelemetry collector: takes traces over OTLP/HTTP and keeps their spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Collected:
    """One span as it came."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    instance: str
    attributes: dict[str, str | int]
    start_ns: int
    end_ns: int
    failed: bool


@dataclass
class Collector:
    url: str
    spans: list[Collected] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            facts = {item.key: item.value.string_value for item in resource.resource.attributes}
            assert facts["service.name"] == "sugar"
            for scope in resource.scope_spans:
                self.spans += [
                    Collected(
                        span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.name, facts["service.instance.id"],
                        {item.key: item.value.string_value or item.value.int_value for item in span.attributes},
                        span.start_time_unix_nano, span.end_time_unix_nano, span.status.code == 2,
                    )
                    for span in scope.spans
                ]

    def of(self, trace_id: str) -> list[Collected]:
        return [span for span in self.spans if span.trace_id == trace_id]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""
    made = Collector("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.authorizations.append(self.headers.get("Authorization", ""))
            made.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def whole(spans: list[Collected], root: str) -> bool:
    """Whether every parent has arrived: who ends first is sent first."""
    return {span.parent_id for span in spans} <= {span.span_id for span in spans} | {root}


def tree(spans: list[Collected], root: str) -> dict[str, list[str]]:
    """Name -> names of its children; ``root``: the caller's span. Fails unless every other parent is among the spans."""
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    below: dict[str, list[str]] = {}
    for span in spans:
        parent = "" if span.parent_id == root else by_id[span.parent_id].name
        below.setdefault(parent, []).append(span.name)
    return {parent: sorted(names) for parent, names in below.items()}
