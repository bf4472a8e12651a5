"""Every alert fires on what it is for and is silent otherwise, judged by Prometheus' own rule tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from cluster.launch.monitoring import RULES, SOURCES

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None and not os.environ.get("CI"), reason="apt-get install prometheus; CI has it")

MINUTES: Final = 90
Series = Mapping[str, str]
"""Series without the prefix -> start+step a minute."""


class Case(NamedTuple):
    """``labels``: of the alert that fires."""

    bad: Series
    well: Series
    labels: Mapping[str, str] = {}


REQUESTS = 'http_requests_total{route="swipe", status="%s"}'
LATENCY = 'http_request_seconds_bucket{route="swipe", le="%s"}'
COMMITS = 'consumer_commit_seconds_bucket{consumer="rows", le="%s"}'
STORED = 'events_stored_total{type="%s"}'
OUTCOME = 'outcomes_total{consumer="payments", of="refused"}'
STALE = 'replica_state{what="revocations_fresh"}'
OVERFLOWED = 'gateway_work_total{gateway="gateway-0", of="overflowed"}'
WAITING, OLDEST = 'by_hand{of="%s"}', 'by_hand_oldest_seconds{of="%s"}'
STOPPED = 'push{of="stopped", provider="apns"}'

CASES: Final[Mapping[str, Case]] = {
    "ApiNotReady": Case({"api_ready": "0+0"}, {"api_ready": "1+0"}),
    "NoFigures": Case({}, {"api_ready": "1+0"}),
    "RequestErrors": Case(
        {REQUESTS % 200: "0+98", REQUESTS % 503: "0+2"}, {REQUESTS % 200: "0+995", REQUESTS % 503: "0+5", REQUESTS % 404: "0+500"},
    ),
    "RequestsSlow": Case({LATENCY % 0.5: "0+98", LATENCY % 1.0: "0+100", LATENCY % "+Inf": "0+100"}, {LATENCY % 0.5: "0+100", LATENCY % "+Inf": "0+100"}),
    "ReplicasMissing": Case({'replicas{state="running"}': "0+0"}, {'replicas{state="running"}': "1+0"}),
    "ActorDown": Case({'actor_up{actor="swipes-0"}': "0+0"}, {'actor_up{actor="swipes-0"}': "1+0"}, {"actor": "swipes-0"}),
    "ActorReplaced": Case({"actor_replaced_total": "0+1"}, {"actor_replaced_total": "1+0"}),
    "ServerDown": Case({'server_up{server="valkey"}': "0+0"}, {'server_up{server="valkey"}': "1+0"}, {"server": "valkey"}),
    "ServerRestarts": Case({"server_restarts_total": "0+1"}, {"server_restarts_total": "1+0"}),
    "MemoryHigh": Case({"actor_memory_bytes": "5e9+0"}, {"actor_memory_bytes": "3e9+0"}),
    "AppendsUnsettled": Case(
        {'shard_unsettled{actor="identity-0", service="users"}': "1+0"}, {'shard_unsettled{actor="identity-0", service="users"}': "0+0"},
        {"actor": "identity-0", "service": "users"},
    ),
    "LikesUndelivered": Case({"swipes_undelivered": "20000+0"}, {"swipes_undelivered": "100+0"}),
    "ConsumerBehind": Case(
        {'consumer_lag_records{consumer="rows", topic="a"}': "60000+0", 'consumer_lag_records{consumer="rows", topic="b"}': "60000+0"},
        {'consumer_lag_records{consumer="rows", topic="a"}': "60000+0", 'consumer_lag_records{consumer="derive", topic="a"}': "60000+0"},
        {"consumer": "rows"},
    ),
    "ConsumerStopped": Case({"consumer_up": "0+0"}, {"consumer_up": "1+0"}),
    "CommitsSlow": Case(
        {COMMITS % 2.5: "0+90", COMMITS % 10.0: "0+100", COMMITS % "+Inf": "0+100"}, {COMMITS % 2.5: "0+100", COMMITS % "+Inf": "0+100"},
        {"consumer": "rows"},
    ),
    "TopicStopped": Case({"consumer_topics_stopped": "1+0"}, {"consumer_topics_stopped": "0+0"}),
    "DeadLetters": Case({'dead_letters{topic="a"}': "1+0"}, {'dead_letters{topic="a"}': "0+0"}, {"topic": "a"}),
    "ModelsRefused": Case({"ranking_models_refused": "1+0"}, {"ranking_models_refused": "0+0"}),
    "ExposureUneven": Case({'exposure_gini{model="m"}': "0.9+0"}, {'exposure_gini{model="m"}': "0.6+0"}, {"model": "m"}),
    "SocketsClosedAsSlow": Case({OVERFLOWED: "0+120"}, {OVERFLOWED: "0+6"}, {"gateway": "gateway-0"}),
    "PushStopped": Case({STOPPED: "1+0"}, {STOPPED: "0+0"}, {"of": "stopped", "provider": "apns"}),
    "PaymentsFailing": Case(
        {STORED % "payment_failed": "0+4", STORED % "payment_succeeded": "0+6"},
        {STORED % "payment_failed": "0+1", STORED % "payment_succeeded": "0+9"},
    ),
    "WebhooksRefused": Case({OUTCOME: "0+1"}, {OUTCOME: "3+0"}, {"consumer": "payments", "of": "refused"}),
    "PayoutsWaiting": Case(
        {OLDEST % "payouts": "90000+60"}, {OLDEST % "payouts": "80000+60", OLDEST % "refunds": "100000+60", WAITING % "payouts": "9+0"},
    ),
    "RefundsReturned": Case({WAITING % "refunds": "1+0"}, {WAITING % "refunds": "0+0", WAITING % "payouts": "9+0"}),
    "ModerationOverdue": Case({'moderation{of="overdue"}': "1+0"}, {'moderation{of="overdue"}': "0+0", 'moderation{of="waiting"}': "9+0"}),
    "RevocationsStale": Case({STALE: "0+0"}, {STALE: "1+0"}, {"what": "revocations_fresh"}),
}


def rules() -> dict[str, Any]:
    [group] = yaml.safe_load((SOURCES / RULES).read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def unit_test(name: str, rule: Mapping[str, Any], series: Series, labels: Mapping[str, str] | None) -> dict[str, Any]:
    """One test for promtool; ``labels``: those of the alert that fires, None: it does not."""
    expected = [] if labels is None else [{"exp_labels": dict(rule["labels"]) | dict(labels), "exp_annotations": rule["annotations"]}]
    return {
        "interval": "1m",
        "input_series": [{"series": f"ray_sugar_{one}", "values": f"{values}x{MINUTES}"} for one, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{MINUTES}m", "alertname": name, "exp_alerts": expected}],
    }


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    known = rules()
    assert set(CASES) == set(known)
    tests = [
        unit_test(name, known[name], series, labels)
        for name, case in CASES.items() for series, labels in ((case.bad, case.labels), (case.well, None))
    ]
    shutil.copyfile(SOURCES / RULES, tmp_path / RULES)
    document = tmp_path / "tests.yml"
    document.write_text(yaml.safe_dump({"rule_files": [RULES], "evaluation_interval": "1m", "tests": tests}))
    assert PROMTOOL
    judged = subprocess.run([PROMTOOL, "test", "rules", str(document)], capture_output=True, text=True, timeout=60, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr
