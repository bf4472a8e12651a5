"""``python -m cluster.dashboards``: writes the Grafana dashboards, and kubernetes.yaml, beside this file."""

from __future__ import annotations

import json

import yaml

from cluster.dashboards.kubernetes import HERE, resources
from cluster.dashboards.panels import documents


def main() -> None:
    for name, document in documents():
        (HERE / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (HERE / "kubernetes.yaml").write_text(yaml.safe_dump_all(resources(), sort_keys=False, width=1_000))


if __name__ == "__main__":
    main()
