"""A Prometheus configuration for the platform that runs on a data directory, in ``run/prometheus``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import cluster.dashboards
from cluster.embedded.ports import LOOPBACK

SOURCES: Final = Path(cluster.dashboards.__file__).parent
CONFIGURATION: Final = "prometheus.yml"
RULES: Final = "alerts.yml"
TARGETS: Final = "targets.json"


def write_monitoring(data_dir: Path, metrics_port: int) -> Path:
    """Puts scrape configuration, rules and the address of Ray's figures there; returns the configuration's path."""
    directory = data_dir.resolve() / "run" / "prometheus"
    directory.mkdir(parents=True, exist_ok=True)
    for name in (CONFIGURATION, RULES):
        shutil.copyfile(SOURCES / name, directory / name)
    targets = [{"targets": [f"{LOOPBACK}:{metrics_port}"], "labels": {"platform": data_dir.resolve().name}}]
    (directory / TARGETS).write_text(json.dumps(targets))
    return directory / CONFIGURATION
