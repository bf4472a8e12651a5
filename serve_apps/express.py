"""Hot routes past Serve's work for each request: the same admission, counting and draining, at a fifth of its price.

Serve makes ids, a context and a dozen objects for every request that HAProxy sends to a replica, for handles, multiplexing
and access logs that this application does not use: a fifth of what a card costs. Its extension point for middlewares
(``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``, which ``cluster.launch.ray_head`` sets) stands before that work. What counts
is kept by the replica's own means: its bounds of requests in progress and waiting, the number that autoscaling and a
graceful end look at, and its figures on Ray's dashboard. A request that the replica has no place for, every other route,
and every request where the replica is not what this module was written for, goes Serve's ordinary way.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

import structlog
from starlette.middleware import Middleware

from serve_apps.edge import Edge, Receive, Scope
from serve_apps.responding import Send

log = structlog.get_logger(__name__)

ROUTE: Final = "/"
"""What Serve calls the route of every request of this application in its figures."""
TIMED: Final = 32
"""Latencies that Serve's own histograms get of hot routes between two of its reports (2 s): it hands on each by itself, and the
node's agent takes each in again, in Python: 0.06 ms for two histograms. Counts, gauges and the platform's own figures hold all."""
_served: list[tuple[Edge, frozenset[tuple[str, str]]]] = []
"""The hot routes of this process's replica, once it has an application."""


def serve(edge: Edge, calls: frozenset[tuple[str, str]]) -> None:
    """Hands over the hot routes of this process's replica: (method, path) of each, and who answers them."""
    _served[:] = [(edge, calls)]


def middlewares() -> list[Middleware]:
    """Serve asks this in every process that has an HTTP server of its; only a replica's gets one."""
    return [Middleware(Express, *served) for served in _served]


class Express:
    """Outermost in a replica's HTTP server, around Serve's own application."""

    def __init__(self, app: Any, edge: Edge, calls: frozenset[tuple[str, str]]) -> None:
        self._app = app
        self._answer = edge.answer
        self._calls = calls
        try:
            from ray.serve._private.common import RequestMetadata, RequestProtocol
            from ray.serve._private.request_ingress_metrics import RequestIngressMetrics

            replica = _replica_behind(app)
            self._accepts, self._queued, self._started = (
                replica._can_accept_request, replica._track_queued_request, replica._start_request
            )
            figures = replica._metrics_manager
            self._note, self._note_ingress = figures.record_request_metrics, figures.record_ingress_request_metrics
            self._latencies, self._requests = figures._cached_latencies, figures._cached_request_counter
            self._busy, self._longest = figures._user_code_time_accumulator, figures._max_processing_latency_trackers
            self._counters = (
                (figures._cached_ingress_request_counter, RequestIngressMetrics.request_tags),
                (figures._cached_ingress_request_error_counter, RequestIngressMetrics.request_error_tags),
                (figures._cached_deployment_request_error_counter, RequestIngressMetrics.deployment_error_tags),
            )
            self._told: dict[tuple[str, int], list[tuple[Any, frozenset[tuple[str, str]]]]] = {}
            self._metadata = RequestMetadata(
                request_id="", internal_request_id="", call_method="__call__", route=ROUTE,
                _request_protocol=RequestProtocol.HTTP, is_streaming=True, is_direct_ingress=True,
            )
            self._names = {
                "protocol": RequestProtocol.HTTP, "route": ROUTE, "app_name": replica._deployment_id.app_name,
                "deployment_name": replica._deployment_id.name,
            }
        except (AttributeError, ImportError, TypeError) as error:
            # Another Ray than the locked one, or without RAY_SERVE_THROUGHPUT_OPTIMIZED.
            log.warning("express_off", reason=repr(error))
            self._calls = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope.get("method"), scope.get("path")) not in self._calls or not self._accepts(self._metadata):
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        with self._queued() as admitted:
            async with self._started(self._metadata):
                admitted()
                status = await self._answer(scope, receive, send)
        self._count(scope["method"], status, (perf_counter() - began) * 1e3)

    def _count(self, method: str, status: int, latency_ms: float) -> None:
        """As Serve would; but only the first TIMED requests between two reports are timed in its histograms."""
        if len(self._latencies[ROUTE]) < TIMED:
            self._note(route=ROUTE, latency_ms=latency_ms, is_error=False)
            self._note_ingress(
                method=method, latency_ms=latency_ms, is_error=status >= 400, status_code=str(status), **self._names
            )
            return
        self._busy.add(latency_ms)
        self._longest[ROUTE].add(latency_ms)
        self._requests[ROUTE] += 1
        for counter, tags in self._told.get((method, status)) or self._tell(method, status):
            counter[self._names["protocol"]][tags] += 1

    def _tell(self, method: str, status: int) -> list[tuple[Any, frozenset[tuple[str, str]]]]:
        """Serve's counters of requests that ended so, and the tags under which each counts them."""
        tags = {"route": ROUTE, "method": method, "application": self._names["app_name"], "status_code": str(status)}
        requests, errors, of_deployment = self._counters
        found = [(requests[0], frozenset(requests[1](**tags).items()))]
        if status >= 400:
            found.append((errors[0], frozenset(errors[1](**tags).items())))
            found.append((of_deployment[0], frozenset(of_deployment[1](**tags, deployment=self._names["deployment_name"]).items())))
        self._told[method, status] = found
        return found


def _replica_behind(app: Any) -> Any:
    """The replica whose server this is. Raises AttributeError, TypeError: none that this module was written for."""
    replica = app._app.__self__
    if replica._user_callable_wrapper._run_user_code_in_separate_thread:
        raise TypeError("the application runs on another loop than its server")
    return replica
