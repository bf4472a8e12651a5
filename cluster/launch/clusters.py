"""`sugar cluster`: a platform in a Ray cluster that exists already (KubeRay, or ``ray start`` on machines of one's own)."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from configs.settings import load_settings

app = typer.Typer(
    no_args_is_help=True,
    help="A platform in a Ray cluster that exists already. Every node has the settings in its environment.",
)
console = Console(highlight=False)
Address = Annotated[str, typer.Option(envvar="RAY_ADDRESS", help="GCS address of the cluster, as seen from one of its nodes.")]
READY_S = 600.0


def _say(began: float, step: str) -> None:
    console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {step}")


@app.command(context_settings={"ignore_unknown_options": True})
def node(command: Annotated[list[str] | None, typer.Argument(help="What starts the node; empty: KubeRay's own.")] = None) -> None:
    """Run `ray start … --block` in the environment that the platform's processes need; once on each node."""
    from cluster.launch.node import run_node

    run_node(load_settings(), command or [])


@app.command()
def deploy(
    address: Address = "auto",
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Seconds in which everything must answer.", min=1)] = READY_S,
) -> None:
    """Make the cluster run what the settings say; again: converge. Returns once everything answers."""
    from cluster.launch import deployment

    began = time.monotonic()
    report = deployment.deploy(load_settings(), address, lambda step: _say(began, step), timeout_s)
    console.print(f"ready: {len(report.actors)} actors, {len(report.replicas)} replicas of the API")


@app.command()
def status(
    address: Address = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON document.")] = False,
) -> None:
    """Show shards, replicas, lag and dead letters; exit code 1 when something does not answer."""
    from cluster.launch import deployment
    from cluster.launch.status import from_report, show

    report = deployment.look(address)
    found = from_report(report)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        show(console, found)
    if not found.well:
        raise typer.Exit(1)


@app.command()
def roll(
    address: Address = "auto",
    again: Annotated[bool, typer.Option("--again", help="Also replicas that run this code already.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Seconds in which all must be replaced.", min=1)] = READY_S,
) -> None:
    """Replace the API's replicas by ones with this node's code, one after another, without a failed request."""
    from cluster.launch import deployment

    began = time.monotonic()
    count = deployment.roll(load_settings(), address, lambda step: _say(began, step), again=again, timeout_s=timeout_s)
    console.print(f"{count} replicas replaced")


@app.command()
def remove(address: Address = "auto") -> None:
    """Drain the platform and end its actors; the cluster, the log and the databases stay."""
    from cluster.launch import deployment

    began = time.monotonic()
    deployment.remove(address, lambda step: _say(began, step))
    console.print("removed")
