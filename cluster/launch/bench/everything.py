"""`sugar bench all`: every operation on platforms of its own, how costs grow with people and replicas, and what that means."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from cluster.embedded.ports import free_port
from cluster.launch.bench.accounting import usage
from cluster.launch.bench.page import write_page
from cluster.launch.report import read_report
from configs.contracts.errors import ConfigurationError, DependencyUnavailable

console = Console(highlight=False)
UNLIMITED: Final = {
    f"SUGAR_LIMITS__{name}": "1000000" for name in (
        "LIKES_A_DAY", "MESSAGES_PER_CONVERSATION_A_MINUTE", "MESSAGES_PER_USER_A_MINUTE", "LOGINS_PER_ADDRESS_A_MINUTE",
        "LOGINS_PER_ACCOUNT_A_MINUTE", "REGISTRATIONS_PER_ADDRESS_AN_HOUR", "TOKENS_PER_ADDRESS_A_MINUTE",
    )
} | {"SUGAR_REALTIME__FRAMES_A_SECOND": "1000"}
START_S: Final = 400.0
STOP_S: Final = 150.0
IDLE_S: Final = 15.0
SETTLED_S: Final = 900.0
"""Longest wait until every consumer has taken in everybody who was loaded."""
LOADED_BY_EMBEDDED: Final = 100_000
"""More people are loaded through Kafka (Java 17, Maven): the embedded broker keeps all of its log in memory, and reading it takes the
longer the more it holds. It is empty after the start that follows, so nothing of it counts for people who came long ago."""
REBUILT_S: Final = 2e-3
"""Longest a start takes for each person of the read model. A third of it was measured on two busy cores."""
REDIS_BYTES: Final = 5_000
"""Memory of Redis for each person; twice what one took before anybody swiped or wrote."""
QUIET_LOOKS: Final = 10
"""So many times in a row, a second apart."""
PLATFORM: Final = "platform"
"""The part that is no bench: memory with everybody loaded, and what is spent while nothing happens."""
OPERATIONS: Final = ("cards", "swipe", "messages", "feed", "delivery", "login")
"""Cards first: swipes take people out of the decks that the bench asks for."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A platform to measure: how many people, what differs in its plan, and which benches run on it."""

    name: str
    people: int
    benches: Sequence[str]
    plan: Mapping[str, int] = field(default_factory=dict)


def variants(populations: Sequence[int], replicas: Sequence[int]) -> list[Variant]:
    """One for each population, one for each number of replicas and one with two gateways, these with the fewest people."""
    fewest = min(populations)
    return [
        *(Variant(f"{people} people", people, OPERATIONS) for people in sorted(populations)),
        *(
            Variant(f"{number} replicas", fewest, ("cards", "swipe"), {"SERVE_REPLICAS": number})
            for number in sorted(replicas) if number > 1
        ),
        Variant("2 gateways", fewest, ("delivery", "sockets"), {"GATEWAYS": 2}),
    ]


def loaded_by(people: int) -> dict[str, str]:
    """The setting of the broker through which so many are loaded."""
    return {"SUGAR_BROKER": "kafka"} if people > LOADED_BY_EMBEDDED else {}


def everything(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="A directory for platforms of its own, one after another in `platform` there.")],
    output: Annotated[Path, typer.Option(help="Directory of the report; what it holds already is not measured again.")] = Path("bench-results/all"),
    seconds: Annotated[float, typer.Option(help="Length of each run at the peak.", min=2, max=600)] = 20,
    populations: Annotated[str, typer.Option(help="How many people, one platform each, with commas between.")] = "10000,100000",
    replicas: Annotated[str, typer.Option(help="How many API replicas, one platform each.")] = "1,2",
    sockets: Annotated[int, typer.Option(help="Idle sockets whose memory is measured.", min=100, max=50_000)] = 10_000,
    minutes: Annotated[float, typer.Option(help="Begin no part after so long; the same command goes on then. 0: all of it.", min=0)] = 0,
) -> None:
    """Measure every operation and write one report: index.html with plots, and all.json.

    Costs by component, how they grow with people and replicas, memory, and a model of what 100,000 and 1,000,000 people
    online need. A run that was cut off goes on with the bench at which it stopped, on a platform made anew.
    1,000,000 people take half an hour to load, through Kafka (Java 17, Maven).
    """
    try:
        sizes, numbers = ([int(part) for part in text.split(",")] for text in (populations, replicas))
    except ValueError as error:
        raise ConfigurationError("populations and replicas are whole numbers with commas between") from error
    if not sizes or min(sizes) < 2_000 or max(sizes) > 1_000_000 or not numbers or min(numbers) < 1 or max(numbers) > 16:
        raise ConfigurationError("between 2,000 and 1,000,000 people, and 1 to 16 replicas")
    lengths = {bench: ("--seconds", str(seconds)) for bench in OPERATIONS} | {
        "sockets": ("--idle", str(sockets), "--active", str(sockets // 5), "--seconds", str(seconds)),
    }
    until = time.monotonic() + minutes * 60 if minutes else float("inf")
    wanted = variants(sizes, numbers)
    for number, variant in enumerate(wanted, 1):
        kept = output / variant.name.replace(" ", "-")
        missing = [name for name in (PLATFORM, *variant.benches) if not _part(kept, name).exists()]
        console.print(f"{number}/{len(wanted)} {variant.name}: " + (", ".join(missing) if missing else f"measured before ({kept})"))
        if missing and time.monotonic() < until:
            missing = _measure(variant, missing, data_dir.resolve() / "platform", kept, lengths, until)
        if missing:
            console.print(f"{minutes:g} minutes have passed; the same command goes on")
            return
    page = write_page({variant.name: _found(variant, output / variant.name.replace(" ", "-")) for variant in wanted}, output)
    console.print(f"written to {page} and {page.with_name('all.json')}")


def _settle(data_dir: Path) -> None:
    """Returns once nothing waits in the log: what is spent afterwards is spent on nothing.

    Raises DependencyUnavailable: the consumers do not catch up.
    """
    until, quiet = time.monotonic() + SETTLED_S, 0
    while quiet < QUIET_LOOKS:
        if time.monotonic() > until:
            raise DependencyUnavailable("the consumers do not catch up with the people who were loaded")
        report = read_report(data_dir)
        quiet = quiet + 1 if report is not None and not report.behind else 0
        time.sleep(1.0)


def _part(kept: Path, name: str) -> Path:
    return kept / f"{name}.json"


def _found(variant: Variant, kept: Path) -> dict[str, Any]:
    """One platform, its parts put together."""
    whole: dict[str, Any] = json.loads(_part(kept, PLATFORM).read_text())
    return whole | {"benches": {bench: json.loads(_part(kept, bench).read_text()) for bench in variant.benches}}


def _keep(kept: Path, name: str, text: str) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    fresh = _part(kept, name).with_suffix(".partial")
    fresh.write_text(text)
    fresh.replace(_part(kept, name))


def _measure(
    variant: Variant, missing: Sequence[str], data_dir: Path, kept: Path, lengths: Mapping[str, Sequence[str]], until: float
) -> list[str]:
    """Runs one platform, from its start to its end, and keeps each part that it measured; those for which no time was left.

    Raises DependencyUnavailable: the platform does not start, or a bench fails; what was measured before is kept.
    """
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    port = free_port()
    environment = os.environ | UNLIMITED | {f"SUGAR_PLAN__{name}": str(value) for name, value in variant.plan.items()} | {
        "SUGAR_REDIS_MEMORY_MIB": str(max(1_024, variant.people * REDIS_BYTES >> 20)),
    }
    began = time.monotonic()

    def sugar(*arguments: str, timeout_s: float = 3_600.0, **settings: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "cluster.launch.cli", *arguments], env=environment | settings, cwd=data_dir, check=False,
            capture_output=True, text=True, timeout=timeout_s,
        )
        console.print(f"  [dim]{time.monotonic() - began:6.0f} s[/dim]  {' '.join(arguments[:2])}")
        if done.returncode:
            raise DependencyUnavailable(f"sugar {' '.join(arguments)} failed", tail=(done.stdout + done.stderr)[-3_000:])

    here = ("--data-dir", str(data_dir))
    left = list(missing)
    try:
        up = ("up", "--port", str(port), *here, "--detach", "--wait")
        sugar(*up, timeout_s=START_S, **loaded_by(variant.people))
        sugar("seed", "--users", str(variant.people), "--seed", "1", *here)
        _settle(data_dir)
        sugar("down", *here, timeout_s=STOP_S)
        sugar(*up, timeout_s=START_S + variant.people * REBUILT_S)
        if PLATFORM in left:
            _settle(data_dir)
            before = usage(data_dir)
            time.sleep(IDLE_S)
            after = usage(data_dir)
            idle = {name: round(value / IDLE_S, 4) for name, value in after.since(before).items()}
            _keep(kept, PLATFORM, json.dumps({
                "people": variant.people, "plan": dict(variant.plan), "cores": os.cpu_count(), "idle_cores": idle,
                "memory_mib": {name: round(value, 1) for name, value in after.memory_mib.items()},
            }, indent=1))
            left.remove(PLATFORM)
        for bench in list(left):
            if time.monotonic() > until:
                break
            sugar("bench", bench, *here, *lengths[bench])
            _keep(kept, bench, (data_dir / "bench-results" / f"{bench}.json").read_text())
            left.remove(bench)
        return left
    finally:
        sugar("down", *here, timeout_s=STOP_S)
