"""The requests of all replicas, as Prometheus would read them from Ray's metrics."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import httpx
from pydantic import BaseModel, Field

from cluster.embedded.ports import LOOPBACK
from configs.contracts.metrics import IN_FLIGHT, REQUEST_SECONDS, REQUESTS, exported

DEADLINE_S: Final = 2.0
SAMPLE: Final = re.compile(r'^(ray_sugar_http_\w+)\{(.*)\} (\S+)$', re.MULTILINE)
LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


class Requests(BaseModel):
    """What the replicas that run now have answered since they began; values are up to 15 s old."""

    by_status: dict[str, int] = Field(default_factory=dict, description="HTTP status -> requests")
    in_flight: int = 0
    p99_s: float | None = Field(None, description="upper bound of the bucket that holds the 99th percentile; none: past 5 s, or no request")


def requests_of(text: str) -> Requests:
    """Sums the replicas' figures out of a scrape."""
    by_status: Counter[str] = Counter()
    buckets: Counter[float] = Counter()
    in_flight = 0
    for name, labels, value in SAMPLE.findall(text):
        of = dict(LABEL.findall(labels))
        if name == exported(REQUESTS.name):
            by_status[of["status"]] += int(float(value))
        elif name == exported(REQUEST_SECONDS.name):
            buckets[float(of["le"])] += int(float(value))
        elif name == exported(IN_FLIGHT.name):
            in_flight += int(float(value))
    most = max(buckets.values(), default=0)
    p99 = next((bound for bound, count in sorted(buckets.items()) if most and count >= 0.99 * most), None)
    return Requests(
        by_status=dict(sorted(by_status.items())), in_flight=in_flight, p99_s=None if p99 in (None, float("inf")) else p99
    )


def requests_at(metrics_port: int) -> Requests | None:
    """The requests as the Ray node of this machine tells them; None: it does not answer in time."""
    try:
        return requests_of(httpx.get(f"http://{LOOPBACK}:{metrics_port}/metrics", timeout=DEADLINE_S).raise_for_status().text)
    except httpx.HTTPError:
        return None
