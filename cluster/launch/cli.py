"""The `sugar` command: one sub-command a task; all but `up` work on the platform that runs on the data directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.launch import (
    cache,
    clusters,
    dead_letters,
    logs,
    media,
    moderating,
    payments,
    payouts,
    push,
    resharding,
    verify,
    walk,
)
from cluster.launch.bench import commands as bench
from cluster.launch.chat.command import chat
from cluster.launch.ranking import commands as ranking
from cluster.launch.state import read_state, running_settings, state_path
from configs.contracts.errors import ConfigurationError, PlatformError
from configs.settings import load_settings

app = typer.Typer(
    name="sugar", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    help="Runs and operates one platform. Start with `sugar up`, look with `sugar status`, end with `sugar down`.",
)
console = Console(highlight=False)
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform's servers, keys and logs.")
]
DEFAULT_DATA_DIR = Path(".sugar")
READY_WAIT_S = 320.0
DOWN_WAIT_S = 120.0
SETTLED_S = 10.0
"""A start that has not begun by then is left to itself."""
PROFILES = ("local", "test", "production")


@app.command()
def up(
    profile: Annotated[str, typer.Option(help=f"Settings profile: {', '.join(PROFILES)}.")] = "local",
    port: Annotated[int, typer.Option(help="Port of the HTTP API; 0: 8000, or as configured.")] = 0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    demo_users: Annotated[int, typer.Option(help="People to load into an empty platform.", min=0)] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="With --detach: return once everything answers.")] = False,
) -> None:
    """Start a platform and keep it running; Ctrl-C drains and stops it."""
    if wait and not detach:
        raise typer.BadParameter("--wait goes with --detach; without it `sugar up` stays in the foreground")
    if detach:
        _up_detached(profile, port, data_dir, demo_users, wait=wait)
        return
    from cluster.launch.supervisor import Supervisor

    overrides: dict[str, object] = {"data_dir": data_dir}
    if port:
        overrides["port"] = port
    settings = load_settings(profile, **overrides)
    began = time.monotonic()

    def announce(step: str) -> None:
        with suppress(OSError):  # a full disk, or a terminal that is gone: what runs goes on
            console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {step}")

    Supervisor(settings, announce, demo_users=demo_users).run(lambda running: walk.show(console, running))
    console.print("stopped; nothing is left running")


def _up_detached(profile: str, port: int, data_dir: Path, demo_users: int, *, wait: bool) -> None:
    if read_state(data_dir).running():
        raise ConfigurationError("a platform already runs on this data directory", data_dir=str(data_dir))
    log = state_path(data_dir).with_name("supervisor.log")
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "cluster.launch.cli", "up", "--profile", profile, "--data-dir", str(data_dir.resolve())]
    command += ["--port", str(port)] if port else []
    command += ["--demo-users", str(demo_users)] if demo_users else []
    with log.open("w") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    shown = ""
    deadline = time.monotonic() + (READY_WAIT_S if wait else SETTLED_S)
    while True:
        state = read_state(data_dir)
        if child.poll() is not None:
            console.print(log.read_text(), markup=False)
            raise typer.Exit(1)
        if not wait and ((state.supervisor_pid == child.pid and state.pids) or time.monotonic() > deadline):
            console.print(f"starting in the background; `sugar status` shows how far it is, {log} what it says")
            return
        if state.supervisor_pid == child.pid:
            if state.phase == "ready":
                console.print(f"ready: http://127.0.0.1:{state.ports['api']}/docs")
                return
            if state.step != shown:
                shown = state.step
                console.print(shown)
                deadline = time.monotonic() + READY_WAIT_S
        if time.monotonic() > deadline:
            console.print(f"no step forward for {READY_WAIT_S:.0f} s; see {log}")
            raise typer.Exit(1)
        time.sleep(0.2)


@app.command()
def down(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Drain and stop the platform; returns when nothing of it is left."""
    from cluster.embedded.process import end_predecessors
    from cluster.launch.ray_head import end_leftovers

    state = read_state(data_dir)
    if not state.running():
        left = end_leftovers(data_dir)
        end_predecessors(data_dir.resolve() / "run")
        console.print(f"no platform runs on {data_dir}" + (f"; ended {left} leftover processes" if left else ""))
        return
    os.kill(state.supervisor_pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_WAIT_S
    while state.running():
        if time.monotonic() > deadline:
            console.print(f"pid {state.supervisor_pid} still runs after {DOWN_WAIT_S:.0f} s")
            raise typer.Exit(1)
        time.sleep(0.1)
    console.print("stopped; nothing is left running")


@app.command()
def status(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON document.")] = False,
) -> None:
    """Show servers, shards, replicas, consumer lag and dead letters. Exit code 1 when something is not well."""
    from cluster.launch import status as looking

    found = looking.with_requests(looking.collect(data_dir), data_dir)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        looking.show(console, found)
    if not found.well:
        raise typer.Exit(1)


@app.command()
def chaos(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="An empty directory for a platform of its own and the history.")],
    minutes: Annotated[float, typer.Option(help="How long faults are made.", min=0.1, max=1_440)] = 5.0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same faults in the same order.")] = 1,
    port: Annotated[int, typer.Option(help="Port of the HTTP API; 0: a free one.")] = 0,
) -> None:
    """Kill, pause, delay and cut off what a platform of its own consists of, and check what clients were told."""
    from cluster.launch.chaos.command import run

    if not run(data_dir, minutes=minutes, seed=seed, port=port):
        raise typer.Exit(1)


@app.command()
def distribute(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    profile: Annotated[str, typer.Option(help="Profile whose DATABASE_URL names the coordinator when no platform runs.")] = "local",
) -> None:
    """Spread the schema over a Citus cluster: after `migrate`, on the coordinator, while the platform stands still."""
    from writers.distribution import distribute as run

    settings = running_settings(data_dir) if read_state(data_dir).running() else load_settings(profile)
    if not settings.database_url.get_secret_value():
        console.print("no platform runs here and DATABASE_URL is not set: there is no database to distribute")
        raise typer.Exit(1)
    done = run(settings)
    console.print("\n".join(done) if done else "every table has its place already")


@app.command()
def migrate(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    profile: Annotated[str, typer.Option(help="Profile whose DATABASE_URL is migrated when no platform runs.")] = "local",
    rewrite: Annotated[bool, typer.Option(
        "--rewrite", help="Also what rewrites a large table under a lock (PostGIS's column): while nobody uses the platform.",
    )] = False,
) -> None:
    """Bring the database's schema up to date (also done by every `up`)."""
    from writers.migrations import migrate as run

    settings = running_settings(data_dir) if read_state(data_dir).running() else load_settings(profile)
    if not settings.database_url.get_secret_value():
        console.print("no platform runs here and DATABASE_URL is not set: there is no database to migrate")
        raise typer.Exit(1)
    applied = run(settings, rewrite=rewrite)
    console.print("applied: " + ", ".join(applied) if applied else "nothing to apply: the schema is up to date")


@app.command()
def seed(
    users: Annotated[int, typer.Option(help="How many people.", min=1, max=1_000_000)] = 2_000,
    near: Annotated[str, typer.Option(help="City they live around; empty: spread over all known cities.")] = "",
    seed: Annotated[int, typer.Option("--seed", help="The same seed makes the same people.")] = 1,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Load a made-up population through the log, as registrations would."""
    from cluster.launch.seeding import load_population

    load_population(running_settings(data_dir), users=users, near=near or None, seed=seed, console=console)


@app.command()
def mail(
    to: Annotated[str, typer.Option(help="Only mails to addresses that contain this.")] = "",
    limit: Annotated[int, typer.Option(help="How many of the newest.", min=1, max=1_000)] = 20,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show what was mailed into the embedded mailbox, the newest last (it holds 1,000)."""
    from cluster.launch import mailbox

    mailbox.show(console, data_dir, to=to or None, limit=limit)


app.add_typer(bench.app, name="bench")
app.add_typer(cache.app, name="cache")
app.add_typer(clusters.app, name="cluster")
app.add_typer(dead_letters.app, name="dlq")
app.add_typer(media.app, name="media")
app.add_typer(ranking.app, name="ranking")
app.add_typer(payments.app, name="payments")
app.add_typer(payouts.app, name="payouts")
app.add_typer(moderating.admin, name="admin")
app.add_typer(moderating.moderate, name="moderate")
app.command()(verify.verify)
app.command()(chat)
app.command()(push.push)
app.command("reshard")(resharding.command)


@app.command()
def reconcile(
    repair: Annotated[bool, typer.Option("--repair", help="Write differing keys anew and make missing matches.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON document.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare PostgreSQL, Redis and shard memory; exit code 1 when something differs and is not mended."""
    from cluster.launch.ray_head import command_environment

    settings = running_settings(data_dir)
    command = [sys.executable, "-m", "cluster.launch.reconcile", str(data_dir), "repair" if repair else "", "json" if as_json else ""]
    # A process of its own: only one that starts under the platform's Ray environment reaches its cluster.
    done = subprocess.run(command, env=command_environment(settings), check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


@app.command()
def roll(
    again: Annotated[bool, typer.Option("--again", help="Also replicas that run this code already.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Seconds in which all must be replaced.", min=1)] = 600.0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Replace the API's replicas by ones with the code that is installed now, one after another, without a failed request."""
    from cluster.launch.ray_head import command_environment

    settings = running_settings(data_dir)
    command = [sys.executable, "-m", "cluster.launch.rolling", str(data_dir), str(timeout_s), "again" if again else ""]
    done = subprocess.run(command, env=command_environment(settings), check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


token = typer.Typer(no_args_is_help=True, help="Tokens for services of your own.")
app.add_typer(token, name="token")


@token.command("issue")
def issue_token(
    service: Annotated[str, typer.Option(help="Name of the service that will use it; appears in logs.")],
    ttl_s: Annotated[int, typer.Option("--ttl-s", help="Seconds it is valid.", min=60, max=7 * 86_400)] = 3_600,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print a service token (audience `internal`) for internal routes; the public edge refuses it elsewhere."""
    from configs.contracts.access_tokens import AccessTokens

    typer.echo(AccessTokens(running_settings(data_dir).auth).issue_service(service, ttl_s))



def main() -> None:
    """Entry point: errors of the platform end with their message and exit code 1, not with a traceback."""
    logs.for_people()
    try:
        app()
    except PlatformError as error:
        facts = ", ".join(f"{name}: {value}" for name, value in error.details.items() if name != "tail")
        console.print(f"[red]{error.message}[/red]" + (f" ({facts})" if facts else ""))
        if error.details.get("tail"):
            console.out(str(error.details["tail"]), highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
