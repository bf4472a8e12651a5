"""The command `sugar verify`: progress, the table, JSON and the exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psutil
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
    jobs: Annotated[int, typer.Option(help="Checks at once; those that measure times follow alone. 0: as many as cores.", min=0)] = 0,
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
    directory = out.with_suffix("")
    results = measured(wanted, directory, jobs or os.cpu_count() or 1, resume=resume)
    console.print(table(results))
    for done in results:
        if done.failed:
            console.print(f"{done.check} failed:\n{done.failed}", markup=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(gates.as_json(results, full), indent=1))
    console.print(f"written to {out}")
    if not all(done.ok for done in results):
        raise typer.Exit(1)


def measured(wanted: Sequence[Check | Done], directory: Path, jobs: int, *, resume: bool) -> list[Done]:
    """What came of each, in their order: first those beside which others may run, ``jobs`` at once, then the timed ones."""
    from cluster.launch import gates

    results: dict[int, Done] = {number: check for number, check in enumerate(wanted) if isinstance(check, gates.Done)}
    left: list[tuple[int, Check]] = []
    for number, check in enumerate(wanted):
        if not isinstance(check, gates.Check):
            continue
        earlier = gates.remembered(check, directory) if resume else None
        if earlier is None:
            left.append((number, check))
        else:
            results[number] = earlier
            console.print(f"{check.name}, kept from {earlier.measured_at}")
    running: list[str] = []
    total = len(left)

    def run(number: int, check: Check) -> None:
        console.print(f"{check.name}, see {gates.log_of(directory, check)}")
        running.append(check.name)
        status.update(f"{', '.join(running)} …")
        done = results[number] = gates.run(check, directory=directory)
        running.remove(check.name)
        count = total - sum(at not in results for at, _ in left)
        console.print(f"{check.name}, {'ok' if done.ok else 'FAILED'}, {done.seconds:.0f} s ({count} of {total})")

    with console.status("…") as status:
        for timed, at_once in ((False, jobs), (True, 1)):
            with ThreadPoolExecutor(at_once) as pool:
                coming = [pool.submit(run, number, check) for number, check in left if check.timed is timed]
                try:
                    for each in coming:
                        each.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    for child in psutil.Process().children(recursive=True):
                        child.terminate()
                    raise
    return [results[number] for number in range(len(wanted))]


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
