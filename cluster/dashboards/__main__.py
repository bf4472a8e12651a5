"""``python -m cluster.dashboards``: writes the Grafana dashboards beside this file."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.dashboards.panels import documents


def main() -> None:
    for name, document in documents():
        (Path(__file__).parent / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
