"""The command `sugar verify`: progress, the table, JSON and the exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cluster.launch.gates import Check, Done

# What is measured imports scipy: `sugar --help` must not wait for it.

console = Console(highlight=False)
RESULTS = Path("bench-results/verify.json")
SPEED_DATING = Path("../shared/data/speed_dating.csv.gz")
TESTS = Path("tests")


def verify(
    full: Annotated[bool, typer.Option("--full", help="The sizes of the promises instead of reduced ones; hours.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Take what passed with the same command and sources from earlier runs.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only checks whose name contains this; repeat.")] = None,
    speed_dating: Annotated[Path, typer.Option(help="speed_dating.csv or .csv.gz; without it that check is skipped.")] = SPEED_DATING,
    tests: Annotated[Path, typer.Option(help="The tests' sources; without them exactness is skipped.")] = TESTS,
    out: Annotated[Path, typer.Option(help="The figures as JSON.")] = RESULTS,
) -> None:
    """Measure what is promised about cards and print gate, figure, limit, ok. Exit code 1 when a gate is missed.

    Needs no running platform. Run it on a machine that does nothing else: some gates are times. What every part says can
    be followed in a directory beside the JSON, where reports of parts that passed are kept for --resume.
    """
    from cluster.launch import gates

    wanted = [
        check for check in gates.checks(full, speed_dating, tests)
        if not only or any(part in _name(check) for part in only)
    ]
    if not wanted:
        raise typer.BadParameter("no check has such a name")
    results: list[gates.Done] = []
    directory = out.with_suffix("")
    for number, check in enumerate(wanted, 1):
        if isinstance(check, gates.Done):
            results.append(check)
            continue
        place = f"{number} of {len(wanted)}: {check.name}"
        if resume and (earlier := gates.remembered(check, directory)):
            results.append(earlier)
            console.print(f"{place}, kept from {earlier.measured_at}")
            continue
        console.print(f"{place}, see {gates.log_of(directory, check)}")
        with console.status(f"{place} …"):
            results.append(gates.run(check, directory=directory))
        console.print(f"{place}, {'ok' if results[-1].ok else 'FAILED'}, {results[-1].seconds:.0f} s")
    console.print(table(results))
    for done in results:
        if done.failed:
            console.print(f"{done.check} failed:\n{done.failed}", markup=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(gates.as_json(results, full), indent=1))
    console.print(f"written to {out}")
    if not all(done.ok for done in results):
        raise typer.Exit(1)


def _name(check: Check | Done) -> str:
    from cluster.launch.gates import Check

    return check.name if isinstance(check, Check) else check.check


def table(results: Sequence[Done]) -> Table:
    """One row a gate; a check without figures has one row that says why."""
    shown = Table(title="what is promised about cards")
    for title in ("check", "gate", "figure", "limit", "ok"):
        shown.add_column(title, justify="right" if title in ("figure", "limit") else "left")
    for done in results:
        for gate in done.gates:
            missed = "aim missed" if gate.aim else "MISSED"
            shown.add_row(done.check, gate.name, f"{gate.figure:.4g}", ("≤ " if gate.at_most else "≥ ") + f"{gate.limit:g}",
                          "ok" if gate.ok else missed)
        if not done.gates:
            shown.add_row(done.check, "skipped: " + done.skipped if done.skipped else "no figures", "", "", "" if done.skipped else "FAILED")
    return shown
