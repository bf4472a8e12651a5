"""What `sugar verify` runs: the promises about cards that commands measure, each in a process of its own.

A check is a command that writes JSON and a function that reads gates out of it; the figures are the commands' own. The
reduced sizes take about three minutes; ``--full`` takes the sizes of the promises, hours, in parts of which each is kept
when it is done (``cluster.launch.kept``). Exactness and no-repeat are tests and run where their sources are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from actors.cards.measure import BYTES_A_PERSON, P99_MS, SEEN_SHARE
from cluster.launch import kept

Report = Mapping[str, Any]
COLD_RULER: Final = (0.637, 0.611)
WARM_RULER: Final = (0.776, 0.687)
"""AUC of likes and of matches of a plain logistic regression on speed dating: what must be beaten."""
COLD_AIM: Final = (0.65, 0.63)
WARM_AIM: Final = (0.80, 0.73)
RULER_LOG_LOSS: Final = 0.4425
SCALE_S, SCALE_GIB = 60.0, 4.0
GEO_RATIOS: Final = {"10": 3.0}
GEO_RATIO, GEO_RAY_RATIO = 5.0, 2.0
CHECK_TIMEOUT_S: Final = 3 * 3_600.0
TAIL: Final = 600
"""Characters of a failed command's output that are told."""
FATIGUES: Final = ("standard", "half", "double")
SWIPES, SWIPES_A_PART = 10_000_000, 1_000_000
"""Of ``never a repeat``: parts differ by their seed and can be run one at a time."""

_CONTRACTS: Final = ("configs/contracts", "requirements.lock")
SIMULATION: Final = (
    "recommender/simulation", "recommender/congestion", "recommender/evaluation", "recommender/ranking.py", "recommender/waiting.py",
    *_CONTRACTS,
)
SPEED: Final = ("recommender/datasets/speed_dating", "recommender/evaluation", "recommender/mixed.py", "requirements.lock")
SHARDS: Final = ("actors", "recommender", "configs", "cluster/connections", "serve_apps", "requirements.lock")
"""What a figure depends on."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One promise. ``aim``: hoped for, not promised; missing it fails nothing."""

    check: str
    name: str
    figure: float
    limit: float
    at_most: bool = False
    aim: bool = False

    @property
    def ok(self) -> bool:
        """False for NaN."""
        return self.figure <= self.limit if self.at_most else self.figure >= self.limit


@dataclass(frozen=True, slots=True)
class Check:
    """``command``: arguments after the interpreter; it writes ``file`` into ``{out}``, or its exit code is the figure.

    ``sources``: files and directories below the repository's root that the figure depends on.
    """

    name: str
    command: tuple[str, ...]
    sources: tuple[str, ...]
    file: str = ""
    gates: Callable[[str, Report], list[Gate]] | None = None
    timed: bool = False
    """Whether seconds are among its figures, so that nothing may run beside it."""

    @property
    def key(self) -> str:
        return kept.key(self.command, self.sources)


@dataclass(frozen=True, slots=True)
class Done:
    """``skipped``: why nothing was measured; ``failed``: the end of what a command said that left no figures.

    ``measured_at``: when, if it was kept from an earlier run.
    """

    check: str
    seconds: float
    gates: tuple[Gate, ...] = ()
    skipped: str = ""
    failed: str = ""
    measured_at: str = ""

    @property
    def ok(self) -> bool:
        return not self.failed and all(gate.ok or gate.aim for gate in self.gates)


def checks(full: bool, speed_dating: Path, tests: Path) -> list[Check | Done]:
    """What is to be run, in order; a ``Done`` for what cannot be."""
    found: list[Check | Done] = []
    if speed_dating.exists():
        found.append(Check("speed dating", (
            "-m", "recommender.datasets.speed_dating", str(speed_dating), "--protocol", "both", "--output", "{out}",
        ), SPEED, "speed_dating.json", speed_dating_gates))
    else:
        found.append(Done("speed dating", 0.0, skipped=f"no file {speed_dating}"))
    reading = {"served": served_gates, "scale": scale_gates}
    for name, sizes in (_whole() if full else _reduced()).items():
        kind = name.partition(",")[0]
        found.append(Check(
            name, ("-m", "recommender.simulation", kind, *sizes, "--json", "{out}/simulation.json"), SIMULATION,
            "simulation.json", reading.get(kind, own_gates), timed=kind in ("markets", "scale"),
        ))
    found.append(Check("deck in its shard", (
        "-m", "actors.cards.measure", "--people", "1000", "13000", "40000", "--seen", "50000", "--rounds", "300" if full else "100", "--out", "{out}",
    ), SHARDS, "cards.json", deck_gates, timed=True))
    if tests.is_dir():
        exact, no_repeat = tests / "property" / "test_cards_exact.py", tests / "no_repeat.py"
        sources = (*SHARDS, *(str(path.resolve()) for path in sorted(tests.glob("*.py"))))
        found.append(Check("exact", ("-m", "pytest", "-q", "-p", "no:cacheprovider", str(exact)), sources))
        parts = SWIPES // SWIPES_A_PART if full else 1
        for part in range(1, parts + 1):
            swipes = str(SWIPES_A_PART if full else 100_000)
            found.append(Check(
                f"never a repeat, {part} of {parts}", (str(no_repeat), "--swipes", swipes, "--seed", str(part)), sources,
            ))
    else:
        found.append(Done("exact, never a repeat", 0.0, skipped=f"no directory {tests}"))
    if full:
        found.append(Check("geo against Redis", (
            "-m", "cluster.launch.cli", "bench", "geo", "--out", "{out}",
        ), (*SHARDS, "cluster/launch"), "geo.json", geo_gates, timed=True))
    return found


def _reduced() -> dict[str, tuple[str, ...]]:
    return {
        "markets": ("--seeds", "2"), "served": ("--seeds", "5", "--people", "2000"),
        "days": ("--seeds", "3", "--people", "400", "--policy", "product", "served"),
        "cold-start": ("--seeds", "4", "--people", "400"), "scale": ("--people", "20000"),
    }


def _whole() -> dict[str, tuple[str, ...]]:
    """Arguments of the simulator's commands; what follows a comma only tells parts of one command apart."""
    month = ("--seeds", "20", "--people", "1000", "--policy", "product", "served")
    return {
        "markets": ("--seeds", "10"), "served": ("--seeds", "10", "--people", "3000"),
        **{f"days, {fatigue} fatigue": (*month, "--fatigue", fatigue) for fatigue in FATIGUES},
        "cold-start": ("--seeds", "10", "--people", "500"), "scale": ("--people", "100000"),
    }


def own_gates(check: str, report: Report) -> list[Gate]:
    """Those that the command itself measured."""
    return [
        Gate(check, name, float(gate["value"]), float(gate["bound"]), at_most=gate["kind"] == "at most")
        for name, gate in report.get("gates", {}).items()
    ]


def speed_dating_gates(check: str, report: Report) -> list[Gate]:
    found = []
    for protocol, rulers, aims in (("cold", COLD_RULER, COLD_AIM), ("warm", WARM_RULER, WARM_AIM)):
        if protocol not in report:
            continue
        model = report[protocol]["model"]
        for kind, ruler, aim in zip(("like", "match"), rulers, aims, strict=True):
            value = float(model[f"{kind}_auc"]["value"])
            found += [
                Gate(check, f"{protocol} {kind}-AUC, the plain regression's", value, ruler),
                Gate(check, f"{protocol} {kind}-AUC, the aim", value, aim, aim=True),
            ]
        if protocol == "cold":
            found.append(Gate(check, "cold log loss of matches, the plain regression's", float(model["match_log_loss"]["value"]),
                              RULER_LOG_LOSS, at_most=True))
    return found


def served_gates(check: str, report: Report) -> list[Gate]:
    """The priced ranking against the best of the simple ones, in each market that was served."""
    return [
        Gate(check, f"{row['market']}, noise {row['noise']:g}: times the de-meaned sum, lower bound",
             float(row["to_demeaned_sum"]["low"]), 1.0)
        for row in report["rows"]
    ]


def scale_gates(check: str, report: Report) -> list[Gate]:
    people = f"{report['people']:,} people"
    return [
        Gate(check, f"{people}, seconds to solve", float(report["solve_s"]), SCALE_S, at_most=True),
        Gate(check, f"{people}, GiB at the peak", float(report["peak_gib"]), SCALE_GIB, at_most=True),
    ]


def deck_gates(check: str, report: Report) -> list[Gate]:
    found = []
    for people, figures in report.items():
        found.append(Gate(check, f"{people} people: bytes a person beside model vectors", float(figures["bytes a person"]),
                          BYTES_A_PERSON, at_most=True))
        for name in ("baseline", "reciprocal, history, prices"):
            found += [
                Gate(check, f"{people} people, {name}: p99 ms", float(figures[name]["with seen"][1]), P99_MS, at_most=True),
                Gate(check, f"{people} people, {name}: share of the seen people", float(figures[name]["seen share"]), SEEN_SHARE,
                     at_most=True),
            ]
    return found


def geo_gates(check: str, report: Report) -> list[Gate]:
    found = []
    for line in report["lines"]:
        place = f"{line['viewers']}, {line['radius_km']:g} km"
        least = GEO_RATIOS.get(f"{line['radius_km']:g}", GEO_RATIO)
        found.append(Gate(check, f"{place}: times Redis, in process", float(line["ratio_redis"]), least))
        if line["ratio_redis_through_ray"]:
            found.append(Gate(check, f"{place}: times Redis, through Ray", float(line["ratio_redis_through_ray"]), GEO_RAY_RATIO))
    return found


def run(check: Check, timeout_s: float = CHECK_TIMEOUT_S, directory: Path | None = None) -> Done:
    """Runs one command in a process of its own and reads its gates; a command without figures is a failure, not an error.

    ``directory``: where what it says can be followed (``<check>.log``), and its report is kept when every gate is.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, *(part.replace("{out}", scratch) for part in check.command)]
        log = log_of(directory or Path(scratch), check)
        log.parent.mkdir(parents=True, exist_ok=True)
        name = check.key  # of the sources that are run, not of those there when it is done
        with log.open("wb") as said:
            try:
                done = subprocess.run(
                    command, stdout=said, stderr=subprocess.STDOUT, check=False, timeout=timeout_s,
                    env=dict(os.environ) | _paths(check),
                )
            except subprocess.TimeoutExpired:
                return Done(check.name, time.monotonic() - began, failed=f"not done after {timeout_s:.0f} s")
        seconds, last = time.monotonic() - began, log.read_text(errors="replace")[-TAIL:]
        try:
            report = json.loads((Path(scratch) / check.file).read_text()) if check.gates else {"exit code": done.returncode}
            gates = _read(check, report)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Done(check.name, seconds, failed=f"{error!r}\n{last}")
    failed = "" if gates and (check.gates or not done.returncode) else last or "no figure"
    found = Done(check.name, seconds, gates, failed=failed)
    if directory is not None and found.ok:
        kept.keep(directory, name, check.name, check.command, report, seconds)
    return found


def remembered(check: Check, directory: Path) -> Done | None:
    """What an earlier run of the same command and sources came to, judged by today's limits; None: run it."""
    found = kept.found(directory, check.key)
    if found is None:
        return None
    try:
        done = Done(check.name, float(found["seconds"]), _read(check, found["report"]), measured_at=str(found["measured_at"]))
    except (ValueError, KeyError, TypeError):
        return None
    return done if done.gates and done.ok else None


def log_of(directory: Path, check: Check) -> Path:
    return directory / (check.name.replace(",", "").replace(" ", "-") + ".log")


def _read(check: Check, report: Report) -> tuple[Gate, ...]:
    if check.gates is not None:
        return tuple(check.gates(check.name, report))
    return (Gate(check.name, "exit code of " + " ".join(check.command), float(report["exit code"]), 0.0, at_most=True),)


def _paths(check: Check) -> dict[str, str]:
    """Sources that a test's own program imports beside it, wherever the command is started."""
    sources = [str(Path(__file__).resolve().parents[2]), *(str(Path(part).parent) for part in check.command if part.endswith(".py"))]
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([*sources, known] if known else sources)}


def as_json(results: Sequence[Done], full: bool) -> dict[str, Any]:
    return {
        "full": full, "ok": all(done.ok for done in results),
        "checks": [
            {"check": done.check, "seconds": round(done.seconds, 1), "ok": done.ok, "skipped": done.skipped, "failed": done.failed,
             "measured_at": done.measured_at, "gates": [asdict(gate) | {"ok": gate.ok} for gate in done.gates]}
            for done in results
        ],
    }
