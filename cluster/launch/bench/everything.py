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

from cluster.embedded.process import free_port
from cluster.launch.bench.accounting import usage
from cluster.launch.bench.page import write_page
from configs.contracts.errors import ConfigurationError, DependencyUnavailable

console = Console(highlight=False)
UNLIMITED: Final = {
    f"SUGAR_LIMITS__{name}": "1000000" for name in (
        "LIKES_A_DAY", "MESSAGES_PER_CONVERSATION_A_MINUTE", "MESSAGES_PER_USER_A_MINUTE", "LOGINS_PER_ADDRESS_A_MINUTE",
        "LOGINS_PER_ACCOUNT_A_MINUTE", "REGISTRATIONS_PER_ADDRESS_AN_HOUR", "TOKENS_PER_ADDRESS_A_MINUTE",
    )
}
START_S: Final = 400.0
STOP_S: Final = 150.0
IDLE_S: Final = 15.0
WITHOUT_SECONDS: Final = ("sockets",)
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


def everything(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="An empty directory for platforms of its own.")],
    output: Annotated[Path, typer.Option(help="Directory of the report; what it holds already is not measured again.")] = Path("bench-results/all"),
    seconds: Annotated[float, typer.Option(help="Length of each run at the peak.", min=2, max=600)] = 20,
    populations: Annotated[str, typer.Option(help="How many people, one platform each, with commas between.")] = "10000,100000",
    replicas: Annotated[str, typer.Option(help="How many API replicas, one platform each.")] = "1,2",
) -> None:
    """Measure every operation and write one report: index.html with plots, and all.json.

    Costs by component, how they grow with people and replicas, memory, and a model of what 100,000 and 1,000,000 people
    online need. A run that was cut off goes on where it stopped. 1,000,000 people take half an hour to load.
    """
    try:
        sizes, numbers = ([int(part) for part in text.split(",")] for text in (populations, replicas))
    except ValueError as error:
        raise ConfigurationError("populations and replicas are whole numbers with commas between") from error
    if not sizes or min(sizes) < 2_000 or max(sizes) > 1_000_000 or not numbers or min(numbers) < 1 or max(numbers) > 16:
        raise ConfigurationError("between 2,000 and 1,000,000 people, and 1 to 16 replicas")
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    wanted = variants(sizes, numbers)
    for number, variant in enumerate(wanted, 1):
        kept = output / f"{variant.name.replace(' ', '-')}.json"
        if kept.exists():
            console.print(f"{number}/{len(wanted)} {variant.name}: measured before ({kept})")
        else:
            console.print(f"{number}/{len(wanted)} {variant.name}")
            fresh = kept.with_suffix(".partial")
            fresh.write_text(json.dumps(_measured(variant, data_dir.resolve(), seconds), indent=1))
            fresh.replace(kept)
        found[variant.name] = json.loads(kept.read_text())
    page = write_page(found, output)
    console.print(f"written to {page} and {page.with_name('all.json')}")


def _measured(variant: Variant, data_dir: Path, seconds: float) -> dict[str, Any]:
    """Runs one platform, from its start to its end. Raises DependencyUnavailable."""
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    port = free_port()
    environment = os.environ | UNLIMITED | {f"SUGAR_PLAN__{name}": str(value) for name, value in variant.plan.items()}
    began = time.monotonic()

    def sugar(*arguments: str, timeout_s: float = 3_600.0) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "cluster.launch.cli", *arguments], env=environment, cwd=data_dir, check=False,
            capture_output=True, text=True, timeout=timeout_s,
        )
        console.print(f"  [dim]{time.monotonic() - began:6.0f} s[/dim]  {' '.join(arguments[:2])}")
        if done.returncode:
            raise DependencyUnavailable(f"sugar {' '.join(arguments)} failed", tail=(done.stdout + done.stderr)[-3_000:])

    here = ("--data-dir", str(data_dir))
    try:
        sugar("up", "--port", str(port), *here, "--detach", "--wait", timeout_s=START_S)
        sugar("seed", "--users", str(variant.people), "--seed", "1", *here)
        before = usage(data_dir)
        time.sleep(IDLE_S)
        after = usage(data_dir)
        idle = {name: round(value / IDLE_S, 4) for name, value in after.since(before).items()}
        for bench in variant.benches:
            sugar("bench", bench, *here, *(() if bench in WITHOUT_SECONDS else ("--seconds", str(seconds))))
        results = {bench: json.loads((data_dir / "bench-results" / f"{bench}.json").read_text()) for bench in variant.benches}
        return {
            "people": variant.people, "plan": dict(variant.plan), "cores": os.cpu_count(), "idle_cores": idle,
            "memory_mib": {name: round(value, 1) for name, value in after.memory_mib.items()}, "benches": results,
        }
    finally:
        sugar("down", *here, timeout_s=STOP_S)
