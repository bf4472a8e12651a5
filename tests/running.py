"""A whole platform under test, driven as an operator drives it: by the `sugar` command and by signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from cluster.embedded.broker import EmbeddedBroker
from cluster.embedded.ports import free_port
from cluster.engines.kafka import KafkaCluster
from cluster.launch.ray_head import members
from cluster.launch.report import read_report
from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from cluster.launch.state import read_state, settings_path
from cluster.launch.status import collect
from configs.settings import Payments, Settings, load_settings, read_settings

MakeBroker = Callable[[Path], EmbeddedBroker | KafkaCluster]
START_TIMEOUT_S = 330
STOP_TIMEOUT_S = 150
PATIENCE_S = 30.0
FIGURES_S = 4.0
"""So often the runtime looks at what it reports, some time for looking included."""
TITLES = {
    "haproxy": "haproxy -db",
    "replica": "ray::ServeReplica",
    "controller": "ray::ServeController",
    "raylet": "raylet/raylet",
    "gcs": "gcs/gcs_server",
    "dashboard": "dashboard/dashboard.py",
}
"""What is in a process's command line, by component."""
ACTORS = ("swipes", "identity", "cards", "writer", "loader", "gateway")
SERVERS = ("postgres", "valkey", "broker", "runtime", "supervisor")


def start_servers(data_dir: Path) -> EmbeddedServers:
    """Running servers of one's own, empty."""
    settings = with_keys(load_settings("test", data_dir=data_dir))
    # Few tests pay, and those start a sandbox of their own (payments_world): no processor is known to the others.
    servers = EmbeddedServers(settings.model_copy(update={"payments": Payments()}))
    servers.start()
    return servers


def sugar(*arguments: str, timeout_s: float = 120.0, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs the command line tool and returns its output."""
    done = subprocess.run(
        [sys.executable, "-m", "cluster.launch.cli", *arguments], capture_output=True, text=True, timeout=timeout_s,
        check=False, env=dict(os.environ) | {"COLUMNS": "200"},
    )
    if check and done.returncode != 0:
        raise AssertionError(f"sugar {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    return done


def alive(pid: int) -> bool:
    """Whether a process runs or is stopped; one that only waits to be reaped does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(what: Callable[[], Any], timeout_s: float, *, every_s: float = 0.2) -> Any:
    """The first true value of ``what()``; AssertionError when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(every_s)


class PatientTransport(httpx.HTTPTransport):
    """Asks again after 503, when the answer says and under one Idempotency-Key, as every client does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "GET":
            request.headers.setdefault("Idempotency-Key", uuid.uuid4().hex)
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = super().handle_request(request)
            if answer.status_code != 503 or time.monotonic() > until:
                return answer
            answer.close()
            time.sleep(float(answer.headers.get("Retry-After", "1")))


@dataclass(slots=True)
class Platform:
    """A running platform and what tests need to reach, look at and harm it."""

    data_dir: Path
    port: int
    harmed_s: float = 0.0
    """When a process of it was killed last (Unix seconds); 0: it was well since."""
    profile: str = "test"

    @classmethod
    def start(cls, data_dir: Path, *, port: int = 0, demo_users: int = 0, profile: str = "test") -> Platform:
        """Starts one in the background and returns once it answers."""
        platform = cls(data_dir, port or free_port(), profile=profile)
        try:
            platform.up(demo_users=demo_users)
        except BaseException:  # a test's time may be over as well; what is detached would go on
            platform.stop()
            raise
        return platform

    def up(self, *, demo_users: int = 0) -> None:
        """Starts it (again) on its data directory and port."""
        arguments = ["up", "--profile", self.profile, "--port", str(self.port), "--data-dir", str(self.data_dir)]
        arguments += ["--demo-users", str(demo_users)] if demo_users else []
        sugar(*arguments, "--detach", "--wait", timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """Drains and stops it; nothing when it does not run."""
        sugar("down", "--data-dir", str(self.data_dir), timeout_s=STOP_TIMEOUT_S)

    @property
    def url(self) -> str:
        """Root of the HTTP API, without the trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        """A client of the HTTP API, patient with what is only for a moment not there."""
        return httpx.Client(base_url=self.url + "/api/v1", timeout=20.0, transport=PatientTransport(verify=False))

    @property
    def settings(self) -> Settings:
        """The resolved settings, with secrets; new after a broker's death."""
        return read_settings(settings_path(self.data_dir))

    def status(self) -> dict[str, Any]:
        """What `sugar status --json` prints."""
        return collect(self.data_dir).model_dump(mode="json")

    def wait_well(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """The status once everything runs and answers again."""
        def well() -> dict[str, Any] | None:
            report = read_report(self.data_dir)
            # What was found out before the last process was killed says nothing of what is without it.
            if report is None or (self.harmed_s and report.lag_at_s < self.harmed_s + FIGURES_S):
                return None
            found = self.status()
            return found if found["well"] else None

        found: dict[str, Any] = eventually(well, timeout_s, every_s=0.5)
        self.harmed_s = 0.0
        return found

    def pids(self) -> dict[str, list[int]]:
        """Pids by component; a component that does not run has none. Kinds of actor that only some plans have come with them."""
        state = read_state(self.data_dir)
        found: dict[str, list[int]] = {name: [] for name in (*TITLES, *ACTORS, *SERVERS)}
        found |= {name: [pid] for name in SERVERS if (pid := state.pids.get(name, 0)) and alive(pid)}
        for process in members(self.data_dir):
            try:
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            for name, title in TITLES.items():
                if title in command:
                    found[name].append(process.pid)
        for actor in self.status()["actors"]:
            of_kind = found.setdefault(actor["name"].rsplit("-", 1)[0], [])
            if alive(actor["pid"]):
                of_kind.append(actor["pid"])
        return found

    def kill(self, component: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to one process of a component; returns its pid."""
        pid = self.pids()[component][0]
        os.kill(pid, number)
        self.harmed_s = time.time()
        return pid

    def processes(self) -> list[psutil.Process]:
        """Every process of the platform, the embedded servers' children included."""
        found = {process.pid: process for process in members(self.data_dir)}
        for pid in read_state(self.data_dir).pids.values():
            try:
                process = psutil.Process(pid)
                found |= {member.pid: member for member in [process, *process.children(recursive=True)]}
            except (psutil.Error, ValueError):
                continue
        return [process for process in found.values() if alive(process.pid)]
