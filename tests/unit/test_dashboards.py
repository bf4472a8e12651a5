"""Dashboards, alerts and the run book name only what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.dashboards.kubernetes import resources
from cluster.dashboards.panels import documents
from cluster.launch.monitoring import RULES, SOURCES
from configs.contracts.metrics import BUCKET, METRICS, exported
from configs.settings import Settings
from writers.commit import KINDS

RUNBOOK = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
LABELS = {exported(metric.name): set(metric.labels) for metric in METRICS}
DASHBOARDS = dict(documents())


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((SOURCES / RULES).read_text())["groups"]
    return list(group["rules"])


QUERIES = [
    *(target["expr"] for made in DASHBOARDS.values() for panel in made["panels"] for target in panel["targets"]),
    *(alert["expr"] for alert in alerts()),
]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_files_are_what_the_generator_writes(name: str) -> None:
    assert json.loads((SOURCES / f"{name}.json").read_text()) == DASHBOARDS[name], "run `python -m cluster.dashboards`"


@pytest.mark.parametrize("query", QUERIES)
def test_queries_name_metrics_and_labels_that_exist(query: str) -> None:
    named = set(re.findall(r"ray_sugar_\w+", query))
    assert named, "a query of no metric of ours"
    assert named <= set(LABELS)
    for metric, matchers in re.findall(r"(ray_sugar_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)(?==|!=)", matchers)) <= LABELS[metric]
    known = {label for metric in named for label in LABELS[metric]}
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        assert set(grouped.split(", ")) <= known | {BUCKET}


def test_kubernetes_gets_the_same_dashboards_alerts_and_scrape() -> None:
    found = list(yaml.safe_load_all((SOURCES / "kubernetes.yaml").read_text()))
    assert found == list(resources()), "run `python -m cluster.dashboards`"
    kinds = {item["kind"]: item for item in found}
    assert [rule["alert"] for rule in kinds["PrometheusRule"]["spec"]["groups"][0]["rules"]] == [alert["alert"] for alert in alerts()]
    [endpoint] = kinds["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert {rule["targetLabel"] for rule in endpoint["metricRelabelings"]} >= {"WorkerId", "Component"}
    maps = [item for item in found if item["kind"] == "ConfigMap"]
    assert {json.loads(text)["uid"] for item in maps for text in item["data"].values()} == {made["uid"] for made in DASHBOARDS.values()}
    assert all(len(text) < 1 << 20 for item in maps for text in item["data"].values()), "a config map holds 1 MiB"


def values_of(label: str) -> set[str]:
    """What a label can say, of those that are known beforehand."""
    if label == "type":
        return set(KINDS)
    document = json.loads((Path(__file__).parents[1] / "contracts" / "openapi.json").read_text())
    return {operation["operationId"] for methods in document["paths"].values() for operation in methods.values()}


@pytest.mark.parametrize("query", QUERIES)
def test_routes_and_types_in_queries_are_those_of_the_api_and_the_events(query: str) -> None:
    for label, pattern in re.findall(r'\b(route|type)(?:=|!=|=~|!~)"([^"]*)"', query):
        flat = re.sub(r"(\w+)\(([^)]*)\)", lambda group: "|".join(f"{group[1]}{one}" for one in group[2].split("|")), pattern)
        for part in flat.split("|"):
            assert any(re.fullmatch(part, value) for value in values_of(label)), part


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    named = {name for query in QUERIES for name in re.findall(r"ray_sugar_\w+", query)}
    assert set(LABELS) - named <= {exported("sugar_http_request_seconds_sum"), exported("sugar_consumer_commit_seconds_sum")}


def test_every_alert_has_a_page_that_says_what_it_means_what_to_look_at_and_what_to_do() -> None:
    pages = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
    names = [alert["alert"] for alert in alerts()]
    assert sorted(pages) == sorted(names)
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
        page = pages[alert["alert"]]
        assert "**Look at**" in page
        assert "**Do**" in page
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {name.lower() for name in names}


ELSEWHERE = {"page", "ticket", "Serve", "CPU and memory in the Ray dashboard"}
"""Severities, and pages of Ray's."""


def test_the_run_book_sends_to_panels_and_tables_that_exist() -> None:
    root = Path(__file__).parents[2]
    shown = [made["title"] for made in DASHBOARDS.values()] + [panel["title"] for made in DASHBOARDS.values() for panel in made["panels"]]
    shown += [(root / path).read_text() for path in ("cluster/launch/status.py", "writers/loops.py")]
    sent_to = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", re.sub("`[^`]*`", "", RUNBOOK))) - ELSEWHERE
    assert len(sent_to) > 20
    assert not {name for name in sent_to if not any(name.lower() in text.lower() for text in shown)}


def test_the_run_book_names_settings_that_exist() -> None:
    for group, field in re.findall(r"SUGAR_([A-Z]+)__([A-Z_0-9]+)", RUNBOOK):
        model = Settings.model_fields[group.lower()].annotation
        assert field.lower() in model.model_fields, field  # type: ignore[union-attr]


def test_the_run_book_searches_for_lines_that_are_logged() -> None:
    root = Path(__file__).parents[2]
    source = "".join(path.read_text() for package in ("actors", "writers", "serve_apps", "cluster") for path in (root / package).rglob("*.py"))
    searched = [
        word for words in re.findall(r"grep -h ((?:-e )?\w+(?: -e \w+)*) ", RUNBOOK) for word in words.replace("-e ", "").split()
    ]
    assert len(searched) > 3
    for word in searched:
        assert re.search(rf'log\.\w+\(\s*"{word}', source), word
