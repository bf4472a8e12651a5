"""`sugar status`: what runs, how far the writers are, what waits for an operator."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table

from cluster.launch.report import READY, ActorReport, ReplicaReport, Report, read_report
from cluster.launch.scrape import Requests, requests_at
from cluster.launch.state import Phase, ServerStatus, read_state, servers_of

STALE_S = 15.0
"""The runtime reports every second; under load a probe round may take several."""


class PlatformStatus(BaseModel):
    """Everything that `status` knows; field names are stable."""

    running: bool
    well: bool = Field(False, description="everything runs and answers; lag and dead letters are not judged")
    phase: Phase = "starting"
    step: str = ""
    problem: str = ""
    uptime_s: int = 0
    url: str = ""
    dashboard_url: str = ""
    payments_url: str = Field("", description="the payments' sandbox; empty: a real processor")
    api: str = Field("", description="'ready', or why the API's /ready is not 200")
    servers: list[ServerStatus] = []
    actors: list[ActorReport] = []
    replicas: list[ReplicaReport] = []
    lag: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="consumer (rows, derive, mail) -> topic -> records appended and not yet consumed"
    )
    dead_letters: dict[str, int] = Field(default_factory=dict, description="topic -> dead letters that wait")
    moderation: dict[str, int] = Field(default_factory=dict, description="reports and appeals: waiting, and overdue")
    by_hand: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="payouts that staff makes, refunds that came back: waiting, and since when the oldest (oldest_s)"
    )
    exposure_gini: dict[str, float] = Field(default_factory=dict, description="model -> inequality of exposure, 0 to 1")
    requests: Requests | None = Field(None, description="none: Ray's metrics do not answer, or were not asked")


def collect(data_dir: Path) -> PlatformStatus:
    """The platform's state from what its supervisor and runtime recorded; asks no process, so it never hangs."""
    state = read_state(data_dir)
    if not state.running():
        return PlatformStatus(running=False, problem=state.problem)
    report = read_report(data_dir, state.pids.get("runtime"))
    fresh = report is not None and time.time() - report.at_s < STALE_S
    servers = servers_of(state)
    found = PlatformStatus(
        running=True, phase=state.phase, step=state.step, problem=state.problem,
        uptime_s=int(time.time() - state.started_s),
        url=f"http://127.0.0.1:{state.ports['api']}" if "api" in state.ports else "",
        dashboard_url=f"http://127.0.0.1:{state.ports['dashboard']}" if "dashboard" in state.ports else "",
        payments_url=f"http://127.0.0.1:{state.ports['payments']}" if "payments" in state.pids else "",
        servers=servers,
    )
    if report is not None:
        _take(found, report)
        found.step = found.step or ("" if fresh else "the runtime does not report")
    found.well = state.phase == "ready" and fresh and _answers(found) and all(server.runs for server in servers)
    return found


def from_report(report: Report | None) -> PlatformStatus:
    """The state of a platform in a cluster of others, as its runtime reported it; None: there is none."""
    if report is None:
        return PlatformStatus(running=False)
    found = PlatformStatus(
        running=True, phase="ready" if report.ready else "starting", step="" if report.ready else report.step,
    )
    _take(found, report)
    found.well = report.ready and time.time() - report.at_s < STALE_S and _answers(found)
    return found


def _take(found: PlatformStatus, report: Report) -> None:
    found.actors, found.replicas, found.api = report.actors, report.replicas, report.api
    found.lag, found.dead_letters, found.moderation = report.lag, report.dead_letters, report.moderation
    found.exposure_gini, found.by_hand = report.exposure_gini, report.by_hand


def _answers(found: PlatformStatus) -> bool:
    """Whether every actor, every replica and the API do, and every topic is consumed."""
    return (
        found.api == READY
        and bool(found.actors) and all(actor.answers and actor.ready and not _stopped(actor) for actor in found.actors)
        and bool(found.replicas) and all(replica.state.endswith("RUNNING") for replica in found.replicas)
    )


def with_requests(found: PlatformStatus, data_dir: Path) -> PlatformStatus:
    """The status with what Ray's metrics say of requests: waits up to 2 s for them."""
    port = read_state(data_dir).ports.get("metrics_export")
    return found.model_copy(update={"requests": requests_at(port)}) if found.running and port else found


def _stopped(actor: ActorReport) -> dict[str, list[str]]:
    """Consumer -> topics that it takes nothing from any more, since too much of them became dead letters."""
    return {
        name: facts["stopped"] for name, facts in actor.figures.items()
        if isinstance(facts, dict) and isinstance(facts.get("stopped"), list) and facts["stopped"]
    }


def _says(actor: ActorReport) -> str:
    """What an actor is doing, in a few words."""
    if not actor.answers:
        return f"silent for {actor.silent_s:.0f} s"
    if actor.figures.get("waits_for"):
        return str(actor.figures["waits_for"])
    states = {
        name: facts["state"] for name, facts in actor.figures.items() if isinstance(facts, dict) and "state" in facts
    }
    unusual = [f"{name} {state}" for name, state in states.items() if state != "running"]
    unusual += [f"{name} stopped {', '.join(topics)}: too many dead letters" for name, topics in _stopped(actor).items()]
    ranking = actor.figures.get("services", {}).get("cards", {}).get("ranking", {})
    unusual += [f"refuses {version}: {why}" for version, why in ranking.get("refused", {}).items()]
    gateway = actor.figures.get("gateway", {})
    if gateway:
        slow = f", {gateway['overflowed']} closed as too slow" if gateway["overflowed"] else ""
        return (
            f"{gateway['state']}, {gateway['sockets']} sockets on port {gateway['port']}, {gateway['frames']} frames heard, "
            f"{gateway['told']} told{slow}"
        )
    return ", ".join(unusual) or ("running" if states else f"{actor.figures.get('commands', '')} commands".strip())


def _mark(good: bool) -> str:
    return "[green]yes[/green]" if good else "[red]no[/red]"


def show(console: Console, found: PlatformStatus) -> None:
    """Prints the tables that an operator reads."""
    if not found.running:
        console.print("no platform runs here" + (f"; last problem: {found.problem}" if found.problem else ""))
        return
    word = "[green]well[/green]" if found.well else "[red]not well[/red]"
    where = f"{found.url}  {word}, {found.phase}, up {found.uptime_s} s" if found.url else f"{word}, {found.phase}"
    console.print(where + (f", {found.step}" if found.step else ""))
    if found.api not in ("", READY):
        console.print(f"API: {found.api}", markup=False)
    if found.payments_url:
        console.print(f"payments: test mode, the sandbox is at {found.payments_url}")
    if found.problem:
        console.print(f"last problem: {found.problem}", markup=False)
    if found.servers:
        servers = Table("server", "pid", "runs", "restarts", "MiB", title="Servers")
        for server in found.servers:
            servers.add_row(server.name, str(server.pid), _mark(server.runs), str(server.restarts), str(server.memory_mib))
        console.print(servers)
    actors = Table("actor", "pid", "ready", "restored in", "epoch", "says", "restarts", title="Shards, writers, loader, gateways")
    for actor in found.actors:
        services = actor.figures.get("services", {})
        by_service = {name: facts["epoch"] for name, facts in services.items() if "epoch" in facts}
        alike = len(set(by_service.values())) == 1
        epochs = str(next(iter(by_service.values()))) if alike else ", ".join(f"{name} {epoch}" for name, epoch in by_service.items())
        restored = actor.figures.get("restore_s")
        actors.add_row(
            actor.name, str(actor.pid), _mark(actor.answers and actor.ready),
            "" if restored is None else f"{restored:.2f} s", epochs or str(actor.figures.get("epoch", "")),
            _says(actor), str(actor.restarts),
        )
    console.print(actors)
    replicas = Table("deployment", "replica", "pid", "state", title="API replicas")
    for replica in found.replicas:
        replicas.add_row(replica.deployment, replica.replica, str(replica.pid), replica.state.rpartition(".")[2].lower())
    console.print(replicas)
    if found.requests is not None:
        answered = ", ".join(f"{count} × {status}" for status, count in found.requests.by_status.items()) or "none"
        slow = "" if found.requests.p99_s is None else f", 99 % within {found.requests.p99_s:g} s"
        console.print(f"requests: {answered}, {found.requests.in_flight} in flight{slow}")
    for model, gini in found.exposure_gini.items():
        console.print(f"exposure under {model}: Gini {gini:.2f}")
    topics = Table("topic", "behind", "dead letters", title="Log, in records")
    for topic in sorted({topic for behind in found.lag.values() for topic in behind} | set(found.dead_letters)):
        behind = [f"{consumer} {topics_of[topic]}" for consumer, topics_of in found.lag.items() if topics_of.get(topic)]
        topics.add_row(topic, ", ".join(behind) or "nobody", str(found.dead_letters.get(topic, 0)))
    console.print(topics)
    if found.moderation.get("waiting"):
        overdue = found.moderation["overdue"]
        alarm = f", [red]{overdue} past their deadline[/red]" if overdue else ""
        console.print(f"moderation: {found.moderation['waiting']} wait for a decision{alarm} (sugar moderate list)")
    for of, waits in found.by_hand.items():
        if waits["waiting"]:
            console.print(f"by hand: {waits['waiting']} {of}, the oldest for {waits['oldest_s'] // 3_600} h (docs/runbook.md)")
