"""The same for the Prometheus operator and Grafana on Kubernetes, as resources to ``kubectl apply``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from cluster.dashboards.panels import documents

HERE: Final = Path(__file__).parent
LABELS: Final = {"app.kubernetes.io/part-of": "sugar"}
GRAFANA: Final = {"grafana_dashboard": "1"}
"""By which Grafana's sidecar finds dashboards."""


def resources() -> Iterator[dict[str, Any]]:
    """What scrapes every pod of the Ray cluster, the alerts, and a config map a dashboard."""
    scrape = yaml.safe_load((HERE / "prometheus.yml").read_text())
    [job] = scrape["scrape_configs"]
    yield _resource("monitoring.coreos.com/v1", "PodMonitor", "sugar", spec={
        "selector": {"matchLabels": {"ray.io/cluster": "sugar"}},
        "podMetricsEndpoints": [{
            "port": "metrics", "interval": scrape["global"]["scrape_interval"],
            "metricRelabelings": [{_camel(name): value for name, value in rule.items()} for rule in job["metric_relabel_configs"]],
        }],
    })
    yield _resource("monitoring.coreos.com/v1", "PrometheusRule", "sugar", spec=yaml.safe_load((HERE / "alerts.yml").read_text()))
    for name, document in documents():
        yield _resource(
            "v1", "ConfigMap", f"sugar-dashboard-{name}", labels=GRAFANA, data={f"{name}.json": json.dumps(document, separators=(",", ":"))}
        )


def _resource(version: str, kind: str, name: str, *, labels: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "sugar", "labels": LABELS | (labels or {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
