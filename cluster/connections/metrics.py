"""Handing figures to Ray: from there the Ray dashboard and Prometheus have them (one address a node)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from configs.contracts.metrics import Sample

EXPORT_EVERY_S: Final = 5.0
"""Ray collects every 10 s. A value that is not handed over again is gone after two collections, so what ended vanishes."""


class RayMetrics:
    """Sets each figure as a gauge of Ray's; from one thread. The process must be a Ray driver or worker."""

    def __init__(self) -> None:
        self._gauges: dict[str, Any] = {}

    def publish(self, samples: Iterable[Sample]) -> None:
        """Hands over present values: some microseconds each, so never for every request."""
        from ray.util.metrics import Gauge

        for metric, values, value in samples:
            gauge = self._gauges.get(metric.name)
            if gauge is None:
                gauge = self._gauges[metric.name] = Gauge(metric.name, description=metric.help, tag_keys=metric.labels)
            gauge.set(value, dict(zip(metric.labels, values, strict=True)))
