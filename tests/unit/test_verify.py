"""`sugar verify` says which promise is missed, by figures that other commands measured, and fails then and only then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster.launch import gates, kept
from cluster.launch.cli import app
from cluster.launch.gates import Check, Done, Gate
from cluster.launch.verify import measured, table


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
        done = gates.run(Check(name, ("-m", "recommender.simulation", name, *size, "--json", "{out}/s.json"), (), "s.json", read))
        assert not done.failed, done.failed
        assert len(done.gates) == 2, done
    document = gates.as_json([done], full=False)
    assert json.loads(json.dumps(document))["checks"][0]["gates"][0]["limit"] == 1.0


def test_a_command_that_leaves_no_figures_is_a_failure_with_its_last_words() -> None:
    done = gates.run(Check("broken", ("-c", "raise SystemExit('no such market')"), (), "x.json", gates.own_gates))
    assert not done.ok
    assert "no such market" in done.failed


def test_a_command_that_never_ends_is_stopped() -> None:
    done = gates.run(Check("slow", ("-c", "import time; time.sleep(60)"), (), "x.json", gates.own_gates), timeout_s=0.5)
    assert "not done after" in done.failed


def test_a_part_that_passed_is_not_run_again_until_its_sources_or_its_command_change(tmp_path: Path) -> None:
    source, kept_in = tmp_path / "model.py", tmp_path / "kept"
    source.write_text("rate = 1")
    program = f"open({str(tmp_path / 'ran')!r}, 'a').write('x')"
    check = Check("part, one", ("-c", program), (str(source),))
    assert gates.remembered(check, kept_in) is None
    first = gates.run(check, directory=kept_in)
    again = gates.remembered(check, kept_in)
    assert first.ok
    assert again is not None
    assert (again.gates, bool(again.measured_at), (tmp_path / "ran").read_text()) == (first.gates, True, "x")
    assert gates.remembered(Check("part, one", ("-c", program + ";1"), (str(source),)), kept_in) is None
    source.write_text("rate = 2")
    assert gates.remembered(check, kept_in) is None


def test_a_part_that_missed_its_gate_or_was_written_by_halves_is_run_again(tmp_path: Path) -> None:
    failing = Check("failing", ("-c", "print('why'); raise SystemExit(1)"), ())
    assert "why" in gates.run(failing, directory=tmp_path).failed
    assert "why" in (tmp_path / "failing.log").read_text()
    assert gates.remembered(failing, tmp_path) is None
    passing = Check("passing", ("-c", ""), ())
    assert gates.run(passing, directory=tmp_path).ok
    (tmp_path / f"{passing.key}.json").write_text('{"report": ')
    assert gates.remembered(passing, tmp_path) is None


def test_a_kept_figure_depends_on_every_module_that_its_command_imports() -> None:
    """A forgotten source would let a figure of older code stand."""
    modules = {
        "recommender.datasets.speed_dating.__main__": gates.SPEED, "recommender.simulation.__main__": gates.SIMULATION,
        "actors.cards.measure": gates.SHARDS,
    }
    for module, sources in modules.items():
        listed = subprocess.run(
            [sys.executable, "-c", f"import sys, {module}; print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', 0)))"],
            capture_output=True, text=True, check=True, cwd=kept.ROOT,
            # Nothing that another test may have left in the environment.
            env={name: value for name, value in os.environ.items() if name in ("PATH", "HOME")} | {"PYTHONPATH": str(kept.ROOT)},
        ).stdout.split()
        ours = [Path(file).relative_to(kept.ROOT) for file in listed if Path(file).is_relative_to(kept.ROOT)]
        ours = [file for file in ours if file.parts[0] in ("actors", "cluster", "configs", "recommender", "serve_apps", "writers")]
        assert len(ours) > 5, (module, listed[:20], kept.ROOT)
        missing = [
            str(file) for file in ours
            if file.name != "__init__.py" and not any(file.is_relative_to(source) for source in sources)
        ]
        assert not missing, (module, missing)


def test_ten_million_swipes_are_parts_of_different_seeds(tmp_path: Path) -> None:
    parts = [one for one in gates.checks(True, tmp_path, Path("tests")) if isinstance(one, Check) and "repeat" in one.name]
    swipes = sum(int(part.command[part.command.index("--swipes") + 1]) for part in parts)
    assert swipes == gates.SWIPES
    assert len({part.key for part in parts}) == len(parts)


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


def test_what_measures_times_runs_alone_after_the_others(tmp_path: Path) -> None:
    meets = """import pathlib, sys, time
here, own, other = pathlib.Path(sys.argv[1]), *sys.argv[2:]
(here / own).touch()
until = time.monotonic() + 60
while not (here / other).exists():
    time.sleep(0.01)
    assert time.monotonic() < until
(here / f"{own} done").touch()"""
    alone = "import os, sys; assert {'one done', 'two done'} <= set(os.listdir(sys.argv[1]))"
    there = str(tmp_path)
    checks = [
        Check("one", ("-c", meets, there, "one", "two"), ()), Check("timed", ("-c", alone, there), (), timed=True),
        Check("two", ("-c", meets, there, "two", "one"), ()),
    ]
    done = measured(checks, tmp_path / "said", 2, resume=False)
    assert [(one.check, one.ok) for one in done] == [("one", True), ("timed", True), ("two", True)]
