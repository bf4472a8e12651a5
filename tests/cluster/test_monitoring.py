"""Prometheus itself, started on what `sugar up` wrote for it: every query of every dashboard finds data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from running import Platform, eventually, sugar

from cluster.dashboards.panels import documents
from cluster.embedded.ports import free_port
from cluster.launch.monitoring import CONFIGURATION
from configs.contracts.metrics import METRICS, exported

pytestmark = [
    pytest.mark.platform, pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("prometheus") is None and not os.environ.get("CI"), reason="apt-get install prometheus; CI has it"
    ),
]

QUERIES = sorted({target["expr"] for _, made in documents() for panel in made["panels"] for target in panel["targets"]})
DATA_TIMEOUT_S = 150.0
"""Ray hands values on every 10 s and a rate needs two scrapes; the rest is for a busy machine."""


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing: apt-get install prometheus"
    return found


@pytest.fixture
def prometheus(platform: Platform, tmp_path: Path) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes the platform, as its operator would start it but more often."""
    platform.wait_well()
    directory = platform.data_dir / "run" / "prometheus"
    configuration = tmp_path / CONFIGURATION
    for path in directory.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    configuration.write_text(configuration.read_text().replace("_interval: 10s", "_interval: 2s"))
    subprocess.run([tool("promtool"), "check", "config", str(configuration)], check=True, capture_output=True, timeout=30)
    port = free_port()
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [tool("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10.0) as client:
            eventually(lambda: started(client), DATA_TIMEOUT_S, every_s=0.5)
            yield client
    finally:
        process.kill()
        process.wait(10)


def started(client: httpx.Client) -> bool:
    """Until it has read its files it answers 503, before that not at all."""
    try:
        return client.get("/query", params={"query": "1"}).status_code == 200
    except httpx.TransportError:
        return False


def registered(api: httpx.Client, role: str) -> tuple[str, dict[str, str]]:
    """(id, headers) of somebody on an island in the South Atlantic."""
    answer = api.post("/auth/register", json={
        "email": f"seen-{uuid.uuid4().hex}@example.com", "password": "correct horse battery", "role": role,
        "displayName": "Seen", "birthDate": "1994-05-17",
    }).json()
    who = {"Authorization": f"Bearer {answer['accessToken']}"}
    assert api.put("/users/me/location", headers=who, json={"latitude": -54.3, "longitude": -36.5}).status_code == 200
    return answer["userId"], who


def live_a_little(platform: Platform) -> None:
    """Two people register, see each other and match: what rates and stages are made of."""
    with platform.client() as api:
        (ada, as_ada), (ben, as_ben) = registered(api, "sugar_baby"), registered(api, "sugar_daddy")
        eventually(
            lambda: ben in [card["userId"] for card in api.get("/matching/cards", headers=as_ada).json()["cards"]], 30.0, every_s=0.5
        )
        for who, other in ((as_ada, ben), (as_ben, ada)):
            assert api.post("/matching/swipe", headers=who, json={"targetUserId": other, "action": "like"}).status_code == 200


def test_every_query_of_every_dashboard_finds_data_and_every_metric_is_there(platform: Platform, prometheus: httpx.Client) -> None:
    live_a_little(platform)
    missing = [*QUERIES, *(exported(metric.name) for metric in METRICS)]

    def complete() -> bool:
        try:
            missing[:] = [
                query for query in missing
                if not prometheus.get("/query", params={"query": query}).raise_for_status().json()["data"]["result"]
            ]
        except httpx.TransportError:
            return False  # it starts
        return not missing

    try:
        eventually(complete, DATA_TIMEOUT_S, every_s=1.0)
    except AssertionError:
        pytest.fail(f"no data: {missing}")
    rules = prometheus.get("/rules").json()["data"]["groups"][0]["rules"]
    assert len(rules) > 20
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    def counted() -> dict[str, int]:
        found = prometheus.get("/query", params={"query": "sum by (status) (ray_sugar_http_requests_total)"}).json()["data"]["result"]
        return {series["metric"]["status"]: int(series["value"][1]) for series in found}

    def agree() -> bool:
        before = counted()
        found = json.loads(sugar("status", "--json", "--data-dir", str(platform.data_dir), check=False).stdout)["requests"]
        # None: Ray's metrics took more than two seconds to answer. A process that ended takes its share along.
        told = found["by_status"] if found is not None else {}
        return bool(before) and all(count <= told.get(status, -1) for status, count in before.items())

    eventually(agree, 60.0)  # status reads what Prometheus reads
    alarms = {alert["labels"]["alertname"] for alert in prometheus.get("/alerts").json()["data"]["alerts"] if alert["state"] == "firing"}
    assert not alarms & {"NoFigures", "TopicStopped"}, "a platform that is well raises no alarm"


def test_hot_requests_go_past_serves_own_work_and_are_in_its_figures(platform: Platform, prometheus: httpx.Client) -> None:
    """All are counted, but of many that come at once only some are timed in Serve's histograms."""
    def figure(name: str) -> int:
        """As it was scraped last: a scrape that a busy machine is late for leaves nothing until the next."""
        query = f'sum(last_over_time({name}{{deployment="api"}}[2m]))'
        found = prometheus.get("/query", params={"query": query}).json()["data"]["result"]
        return int(found[0]["value"][1]) if found else 0

    def counted() -> int:
        return figure("ray_serve_deployment_request_counter_total")

    def timed() -> int:
        return figure("ray_serve_deployment_processing_latency_ms_count")

    def refused() -> int:
        return figure("ray_serve_num_deployment_http_error_requests_total")

    with httpx.Client(base_url=platform.url, timeout=15.0) as api:
        assert "x-request-id" in api.get("/health").headers, "Serve names what goes its way"
        eventually(counted, DATA_TIMEOUT_S, every_s=1.0)
        before, refused_before = counted(), refused()
        for _ in range(200):
            answer = api.get("/api/v1/matching/cards")
            assert answer.status_code == 401
            assert "x-request-id" not in answer.headers
    eventually(lambda: counted() >= before + 200 and refused() >= refused_before + 200, DATA_TIMEOUT_S, every_s=1.0)
    with platform.client() as api:
        people = [registered(api, role)[1] for role in ("sugar_baby", "sugar_daddy") * 8]
        before_timed, before = timed(), counted()

        def card(who: dict[str, str]) -> None:
            assert api.get("/matching/cards", headers=who).status_code == 200

        def untimed() -> int:
            """Of those that the figures count so far; more requests come until enough came at once."""
            list(pool.map(card, people * 25))
            seen = counted()
            assert timed() > before_timed or seen == before  # read after it: a scrape in between makes it only more
            return seen - before - (timed() - before_timed)

        with ThreadPoolExecutor(8) as pool:
            eventually(lambda: untimed() >= 100, DATA_TIMEOUT_S, every_s=1.0)
    assert timed() > before_timed
