"""A short run of `sugar chaos` on Apache Kafka: a fault of every kind would take minutes, a seed's first ones show that it judges."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import sugar

from cluster.launch.chaos.history import read_history

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(500), pytest.mark.usefixtures("heavy")]

SEED = 3


def test_a_short_run_of_faults_contradicts_nothing(tmp_path: Path) -> None:
    done = sugar("chaos", "--minutes", "0.3", "--seed", str(SEED), "--data-dir", str(tmp_path), timeout_s=480, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"every invariant holds: seed {SEED}" in " ".join(done.stdout.split())
    told = [one.kind for one in read_history(tmp_path / f"history-{SEED}.jsonl") if one.outcome == "ok"]
    assert told.count("swipe") > 50
    assert told.count("send") > 20
