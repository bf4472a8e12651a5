"""Figures of one replica: handed to Ray's metrics every few seconds, and as text for whoever asks this replica."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from time import time
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from configs.contracts import metrics
from configs.contracts.metrics import Sample
from configs.contracts.realtime import GATEWAY_LIFE_MS, GatewayEntry
from configs.counting import cumulative

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the latency buckets in seconds."""

Figures = Callable[[], Mapping[tuple[str, str], float]]
"""(metric, label value) -> number, asked for when scraped."""


class RequestFigures(Collector):
    """Counts and times requests by route (operation id) and status. Adding one costs under a microsecond."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, int], tuple[list[int], list[float]]] = {}
        self.in_flight = 0

    def add(self, route: str, status: int, seconds: float) -> None:
        series = self._series.get((route, status))
        if series is None:
            series = self._series[(route, status)] = ([0] * (len(BOUNDS_S) + 1), [0.0])
        series[0][bisect_left(BOUNDS_S, seconds)] += 1
        series[1][0] += seconds

    def samples(self, replica: str) -> Iterator[Sample]:
        """Requests by route and status, and latencies by route."""
        yield Sample(metrics.IN_FLIGHT, (replica,), self.in_flight)
        by_route: dict[str, tuple[list[int], float]] = {}
        for (route, status), (counts, total) in self._series.items():
            yield Sample(metrics.REQUESTS, (replica, route, str(status)), sum(counts))
            known, seconds = by_route.get(route, ([0] * len(counts), 0.0))
            by_route[route] = ([a + b for a, b in zip(known, counts, strict=True)], seconds + total[0])
        for route, (counts, seconds) in by_route.items():
            yield Sample(metrics.REQUEST_SECONDS_SUM, (replica, route), seconds)
            for bound, count in cumulative(BOUNDS_S, counts).items():
                yield Sample(metrics.REQUEST_SECONDS, (replica, route, bound), count)

    def collect(self) -> Iterator[HistogramMetricFamily | GaugeMetricFamily]:
        family = HistogramMetricFamily(
            "sugar_http_request_seconds", "Requests of this replica by route and status.", labels=["route", "status"]
        )
        for (route, status), (counts, total) in sorted(self._series.items()):
            family.add_metric([route, str(status)], list(cumulative(BOUNDS_S, counts).items()), total[0])
        yield family
        yield GaugeMetricFamily("sugar_http_requests_in_flight", "Requests being answered.", value=self.in_flight)


class Totals(Collector):
    """Counters and gauges that other parts of the replica keep anyway."""

    def __init__(self, counters: Figures, gauges: Figures) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        counters: dict[str, CounterMetricFamily] = {}
        for (name, label), value in self._counters().items():
            if name not in counters:
                counters[name] = CounterMetricFamily(name, name.replace("_", " "), labels=["of"])
            counters[name].add_metric([label], value)
        gauges: dict[str, GaugeMetricFamily] = {}
        for (name, label), value in self._gauges().items():
            if name not in gauges:
                gauges[name] = GaugeMetricFamily(name, name.replace("_", " "), labels=["of"])
            gauges[name].add_metric([label], value)
        yield from counters.values()
        yield from gauges.values()


def gateways_text(entries: Mapping[str, GatewayEntry]) -> bytes:
    """The figures of gateways that live, in Prometheus' text format."""
    family = GaugeMetricFamily(
        "sugar_gateway", "What a gateway holds (sockets, people, slow) and has done since it began (frames, told, overflowed).",
        labels=["gateway", "of"],
    )
    fresh = time() * 1_000 - GATEWAY_LIFE_MS
    for name, entry in sorted(entries.items()):
        if entry.at_ms > fresh:
            for of, value in entry.figures.items():
                family.add_metric([name, of], value)
    registry = CollectorRegistry()
    registry.register(_Once(family))
    return generate_latest(registry)


class _Once(Collector):
    """One family as a collector."""

    def __init__(self, family: GaugeMetricFamily) -> None:
        self._family = family

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield self._family


class ReplicaMetrics:
    """The registry of one replica."""

    def __init__(self, counters: Figures, gauges: Figures) -> None:
        self.requests = RequestFigures()
        self._counters, self._gauges = counters, gauges
        self._registry = CollectorRegistry()
        self._registry.register(self.requests)
        self._registry.register(Totals(counters, gauges))

    def samples(self, replica: str) -> Iterator[Sample]:
        """All figures, as they are exported."""
        yield from self.requests.samples(replica)
        for metric, figures in ((metrics.REPLICA_TOTALS, self._counters()), (metrics.REPLICA_NOW, self._gauges())):
            for (name, of), value in figures.items():
                yield Sample(metric, (replica, name.removeprefix("sugar_"), of), value)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
