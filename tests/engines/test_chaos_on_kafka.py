"""A short run of `sugar chaos` on Apache Kafka: a fault of every kind would take minutes, a seed's first ones show that it judges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import STOP_TIMEOUT_S, sugar

from cluster.launch.chaos.history import read_history

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900), pytest.mark.usefixtures("heavy")]

SEED = 3
MINUTES = "1"


def test_a_short_run_of_faults_contradicts_nothing(tmp_path: Path) -> None:
    try:
        done = sugar("chaos", "--minutes", MINUTES, "--seed", str(SEED), "--data-dir", str(tmp_path), timeout_s=660, check=False)
    finally:
        sugar("down", "--data-dir", str(tmp_path), timeout_s=STOP_TIMEOUT_S, check=False)  # one that was cut off leaves its platform
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"every invariant holds: seed {SEED}" in " ".join(done.stdout.split())
    told = [one.kind for one in read_history(tmp_path / f"history-{SEED}.jsonl") if one.outcome == "ok"]
    assert told.count("swipe") > 50
    assert told.count("send") > 20
    assert told.count("tip") > 5
    assert told.count("buy") > 2
    assert '"complete": true, "event": "drained"' in (tmp_path / "run" / "runtime.log").read_text(), "the platform ends drained"
    notes = [json.loads(line) for line in (tmp_path / f"history-{SEED}.jsonl").read_text().splitlines() if '"payments"' in line]
    paid = next(note["payments"] for note in notes if "payments" in note)
    assert paid["rows"] >= told.count("tip") + told.count("buy")
    assert min(paid["ledger"], paid["processor"]) > 7, "and each was charged and booked"
