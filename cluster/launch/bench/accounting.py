"""CPU seconds and memory of every process of a platform, by component, as the kernel accounts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cluster.launch.ray_head import members
from cluster.launch.report import read_report
from cluster.launch.state import read_state, server_of

TITLES = {
    "haproxy": "haproxy -db",
    "replica": "ray::ServeReplica",
}
SERVING = (
    "haproxy", "replica", "gateway", "swipes", "identity", "messages", "commerce", "cards", "ray system", "valkey", "broker",
)
"""Counted in the cost of a request; with APART every kind of actor, whether a plan gives it actors of its own or not."""
APART = ("writer", "loader", "postgres", "supervision")
"""Shown apart: they work after the answer."""


@dataclass(slots=True)
class Usage:
    """Accumulated CPU seconds by component; processes that ended in between count up to the last look."""

    seconds: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)

    def since(self, before: Usage) -> dict[str, float]:
        return {name: max(0.0, value - before.seconds.get(name, 0.0)) for name, value in self.seconds.items()}


def usage(data_dir: Path) -> Usage:
    """CPU seconds so far and resident memory (shared pages counted once a process's share: PSS) by component."""
    found = Usage(dict.fromkeys((*SERVING, *APART), 0.0), dict.fromkeys((*SERVING, *APART), 0.0))
    for component, process in processes(data_dir):
        try:
            with process.oneshot():
                times = process.cpu_times()
                memory = process.memory_full_info()
        except psutil.Error:
            continue
        found.seconds[component] += times.user + times.system
        found.memory_mib[component] += getattr(memory, "pss", memory.rss) / 2**20
    return found


def processes(data_dir: Path) -> list[tuple[str, psutil.Process]]:
    """(component, process) of everything that belongs to the platform."""
    state = read_state(data_dir)
    report = read_report(data_dir)
    actors = {actor.pid: actor.name.rsplit("-", 1)[0] for actor in report.actors} if report else {}
    servers: Mapping[int, str] = {pid: name for name, pid in state.pids.items()}
    found: dict[int, tuple[str, psutil.Process]] = {}
    for process in members(data_dir):
        found[process.pid] = (_ray_component(process, actors), process)
    for pid, name in servers.items():
        component = server if (server := server_of(name)) in ("valkey", "broker", "postgres") else "supervision"
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)] if component == "postgres" else [process]
        except (psutil.Error, ValueError):
            continue
        for member in family:
            if name != "ray" or member.pid not in found:
                found[member.pid] = (component, member)
    return list(found.values())


def _ray_component(process: psutil.Process, actors: Mapping[int, str]) -> str:
    if process.pid in actors:
        return actors[process.pid]
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return "ray system"
    return next((name for name, title in TITLES.items() if title in command), "ray system")
