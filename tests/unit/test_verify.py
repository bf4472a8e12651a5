"""`sugar verify` says which promise is missed, by figures that other commands measured, and fails then and only then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster.launch import gates
from cluster.launch.cli import app
from cluster.launch.gates import Check, Done, Gate
from cluster.launch.verify import table


def printed(results: list[Done]) -> str:
    console = Console(width=200, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(table(results))
    return capture.get()


def test_a_missed_gate_fails_and_a_missed_aim_does_not() -> None:
    kept, missed = Gate("a", "seconds", 1.0, 2.0, at_most=True), Gate("a", "ratio", 1.0, 2.0)
    aim = Gate("a", "hoped", 1.0, 2.0, aim=True)
    assert Done("a", 1.0, (kept, aim)).ok
    assert not Done("a", 1.0, (kept, missed)).ok
    assert not Done("a", 1.0, failed="it broke").ok
    text = printed([Done("a", 1.0, (kept, missed, aim)), Done("b", 0.0, skipped="no file"), Done("c", 0.0, failed="it broke")])
    assert "MISSED" in text
    assert "aim missed" in text
    assert "skipped: no file" in text
    assert "FAILED" in text


def test_a_figure_that_is_not_a_number_keeps_no_gate() -> None:
    assert not Gate("a", "x", float("nan"), 1.0).ok
    assert not Gate("a", "x", float("nan"), 1.0, at_most=True).ok


def test_the_commands_figures_become_gates(tmp_path: Path) -> None:
    """A real run of two tiny sizes: the JSON that the commands write has what the gates read."""
    for name, size, read in (
        ("scale", ("--people", "400", "--candidates", "20"), gates.scale_gates),
        ("served", ("--seeds", "1", "--people", "60", "--candidates", "20", "--market", "standard"), gates.served_gates),
    ):
        done = gates.run(Check(name, ("-m", "recommender.simulation", name, *size, "--json", "{out}/s.json"), "s.json", read))
        assert not done.failed, done.failed
        assert len(done.gates) == 2, done
    document = gates.as_json([done], full=False)
    assert json.loads(json.dumps(document))["checks"][0]["gates"][0]["limit"] == 1.0


def test_a_command_that_leaves_no_figures_is_a_failure_with_its_last_words() -> None:
    done = gates.run(Check("broken", ("-c", "raise SystemExit('no such market')"), "x.json", gates.own_gates))
    assert not done.ok
    assert "no such market" in done.failed


def test_a_command_that_never_ends_is_stopped() -> None:
    done = gates.run(Check("slow", ("-c", "import time; time.sleep(60)"), "x.json", gates.own_gates), timeout_s=0.5)
    assert "not done after" in done.failed


@pytest.mark.parametrize("full", [False, True])
def test_what_is_not_there_is_skipped_and_said(tmp_path: Path, full: bool) -> None:
    found = gates.checks(full, tmp_path / "no.csv", tmp_path / "none")
    skipped = [one for one in found if isinstance(one, Done)]
    assert [one.check for one in skipped] == ["speed dating", "exact, never a repeat"]
    assert any(isinstance(one, Check) and one.name == "geo against Redis" for one in found) == full


def test_reports_of_speed_dating_and_decks_have_every_gate() -> None:
    figure = {"value": 0.7}
    model = {"like_auc": figure, "match_auc": figure, "match_log_loss": {"value": 0.44}}
    found = {gate.name: gate.ok for gate in gates.speed_dating_gates("s", {"cold": {"model": model}, "warm": {"model": model}})}
    assert len(found) == 9
    assert found["cold like-AUC, the aim"]
    assert not found["warm match-AUC, the aim"]
    one = {"with seen": (0.5, 6.0), "seen share": 0.01}
    deck = gates.deck_gates("d", {"1000": {"bytes a person": 90.0, "baseline": one, "reciprocal, history, prices": one}})
    assert [gate.ok for gate in deck] == [True, False, True, False, True]
    line = {"viewers": "everywhere", "radius_km": 10.0, "ratio_redis": 4.0, "ratio_redis_through_ray": 1.0}
    assert [gate.ok for gate in gates.geo_gates("g", {"lines": [line, line | {"radius_km": 50.0}]})] == [True, False, False, False]


def test_the_command_prints_the_table_writes_json_and_fails_by_exit_code(tmp_path: Path) -> None:
    out = tmp_path / "verify.json"
    arguments = ["verify", "--only", "speed dating", "--speed-dating", str(tmp_path / "no.csv"), "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["checks"][0]["skipped"]
    broken = tmp_path / "broken.csv"
    broken.write_text("not,what,was,expected\n")
    done = CliRunner().invoke(app, [*arguments[:3], "--speed-dating", str(broken), "--out", str(out)])
    assert done.exit_code == 1, done.output
    assert json.loads(out.read_text())["ok"] is False
