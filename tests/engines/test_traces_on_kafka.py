"""One swipe is one trace across the processes of a whole platform, through Apache Kafka."""

from __future__ import annotations

import secrets
import uuid
from pathlib import Path

import httpx
import pytest
from otlp_collector import collecting, tree
from running import Platform, eventually

pytestmark = [pytest.mark.platform, pytest.mark.proved_elsewhere, pytest.mark.timeout(900), pytest.mark.usefixtures("heavy")]


def test_replica_shard_log_and_writer_tell_one_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("SUGAR_TRACING__ENDPOINT", collector.url)
        running = Platform.start(tmp_path)
        try:
            trace, caller = secrets.token_hex(16), secrets.token_hex(8)
            with httpx.Client(base_url=running.url + "/api/v1", timeout=15.0) as api:
                people = [api.post("/auth/register", json={
                    "email": f"traced-{uuid.uuid4().hex}@example.com", "password": "correct horse battery", "role": role,
                    "displayName": "Traced", "birthDate": "1994-05-17",
                }).json() for role in ("sugar_baby", "sugar_daddy")]
                swiped = api.post(
                    "/matching/swipe", json={"targetUserId": people[1]["userId"], "action": "like"},
                    headers={"Authorization": f"Bearer {people[0]['accessToken']}", "traceparent": f"00-{trace}-{caller}-01"},
                )
                assert swiped.status_code == 200, swiped.text
            steps = ("swipe", "swipes.swipe", "append matching.swipe", "rows matching.swipe")
            eventually(lambda: set(steps) <= {span.name for span in collector.of(trace)}, 30.0)
            found = {span.name: span for span in collector.of(trace)}
            below = tree(list(found.values()), caller)
            assert below[""] == ["swipe"]
            assert below["swipe"] == ["swipes.swipe"]
            assert below["swipes.swipe"] == ["append matching.swipe"]
            assert "rows matching.swipe" in below["append matching.swipe"]
            assert [found[name].instance.partition("-")[0] for name in steps] == ["api", "swipes", "swipes", "writer"]
        finally:
            running.stop()
