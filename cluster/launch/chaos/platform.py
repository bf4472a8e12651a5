"""A platform of a run's own: PostgreSQL with a standby and Valkey behind proxies, everything else as `sugar up` starts it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from cluster.embedded.ports import LOOPBACK, free_port
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.valkey import EmbeddedValkey
from cluster.engines.postgres import PostgresReplica
from cluster.launch.chaos.clock import Clocks
from cluster.launch.chaos.proxy import Proxy
from cluster.launch.chaos.schedule import Step
from cluster.launch.ray_head import members
from cluster.launch.state import read_state, server_of
from cluster.launch.status import collect
from configs.contracts.errors import DependencyUnavailable

START_TIMEOUT_S: Final = 330.0
WELL_TIMEOUT_S: Final = 180.0
QUIET_TIMEOUT_S: Final = 120.0
LOOK_S: Final = 0.5
TITLES: Final = {"replica": "ray::ServeReplica", "haproxy": "haproxy -db"}
"""What is in the command line of processes that are no actors."""


class ChaosPlatform:
    """Starts and stops it, and does to it what a step says. Its servers belong to this process: use it from one thread."""

    def __init__(self, data_dir: Path, port: int, seed: int) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        run = data_dir / "servers"
        self.postgres = EmbeddedPostgres(run / "postgres", run)
        self.standby = PostgresReplica(self.postgres, run / "standby", run)
        self.valkey = EmbeddedValkey(run)
        self._seed = seed
        self.clocks = Clocks(run) if Clocks.possible() else None
        self.proxies: dict[str, Proxy] = {}

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def database_url(self) -> str:
        """PostgreSQL itself, beside the proxy."""
        return self.postgres.url

    async def start_proxies(self) -> dict[str, str]:
        """Starts the servers and the proxies; the environment that leads a platform through them."""
        self.postgres.start()
        self.standby.start()
        self.valkey.start()
        ports: dict[str, int] = {}
        for name, port in (("postgres", self.postgres.port), ("valkey", self.valkey.port)):
            self.proxies[name] = Proxy(port, self._seed)
            ports[name] = await self.proxies[name].start()
        return {
            "DATABASE_URL": _through(self.postgres.url, ports["postgres"]), "REDIS_URL": _through(self.valkey.url, ports["valkey"]),
            "DATABASE_REPLICA_URLS": f'["{self.standby.url}"]',
            # Nobody pays so often; and a payment whose webhooks and answer were lost is looked for before the run ends.
            "SUGAR_LIMITS__CHECKOUTS_PER_USER_AN_HOUR": "100000", "SUGAR_PAYMENTS__POLL_S": "3",
        } | (self.clocks.environment() if self.clocks is not None else {})

    def up(self, environment: dict[str, str]) -> None:
        """Returns once the platform answers. Raises DependencyUnavailable."""
        self._sugar(
            "up", "--profile", "test", "--port", str(self.port), "--detach", "--wait", timeout_s=START_TIMEOUT_S,
            environment=environment,
        )

    async def down(self) -> None:
        """Stops everything, proxies and servers last."""
        try:
            # Beside this loop, in which the proxies are: the platform drains through them.
            await asyncio.to_thread(self._sugar, "down", timeout_s=WELL_TIMEOUT_S)
        finally:
            for proxy in self.proxies.values():
                await proxy.close()
            for server in (self.valkey, self.standby, self.postgres):
                server.stop()

    def reconcile(self) -> str:
        """Empty once PostgreSQL, Redis and the shards agree; otherwise what does not."""
        done = self._sugar("reconcile", timeout_s=WELL_TIMEOUT_S, check=False)
        return "" if done.returncode == 0 else (done.stdout + done.stderr)[-2_000:]

    def wait_well(self) -> float:
        """Seconds until everything runs and answers. Raises DependencyUnavailable: it never did."""
        began = time.monotonic()
        while not collect(self.data_dir).well:
            if time.monotonic() - began > WELL_TIMEOUT_S:
                raise DependencyUnavailable("the platform did not recover", status=collect(self.data_dir).model_dump())
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def wait_quiet(self) -> None:
        """Returns once every consumer has read what was appended. Raises DependencyUnavailable."""
        deadline = time.monotonic() + QUIET_TIMEOUT_S
        still = 0
        while still < 4:
            lag = collect(self.data_dir).lag
            still = still + 1 if lag and not any(sum(topics.values()) for topics in lag.values()) else 0
            if time.monotonic() > deadline:
                raise DependencyUnavailable("the writers did not catch up", lag=lag)
            time.sleep(LOOK_S)

    def begin(self, step: Step) -> list[int] | None:
        """Does it; the pids that it stopped, killed or gave another clock. None: there is nobody to whom it could be done."""
        nemesis = step.nemesis
        if nemesis.fault in ("delay", "loss", "partition"):
            self.proxies[nemesis.component].weather = nemesis.fault  # type: ignore[assignment]  # one of Weather
            return []
        pids = step.one_of(self._pids(nemesis.component))
        if not pids:
            return None
        if nemesis.fault == "clock" and self.clocks is not None:
            self.clocks.move(pids, step.clock_s)
            return pids
        if nemesis.fault == "pause":
            pids = [each for pid in pids for each in _family(pid)]
        number = signal.SIGSTOP if nemesis.fault == "pause" else signal.SIGKILL
        return [pid for pid in pids if _signalled(pid, number)] or None

    def end(self, step: Step, pids: list[int]) -> None:
        """Takes it back: what was paused runs on (beside its replacement, perhaps), what is restarted starts."""
        nemesis = step.nemesis
        if nemesis.component in self.proxies:
            self.proxies[nemesis.component].weather = "pass"
        if nemesis.fault == "pause":
            for pid in pids:
                _signalled(pid, signal.SIGCONT)
        elif nemesis.fault == "clock" and self.clocks is not None:
            self.clocks.restore()
        elif nemesis.fault == "restart":
            self._server(nemesis.component).start()

    def _server(self, name: str) -> EmbeddedPostgres | EmbeddedValkey:
        return self.valkey if name == "valkey" else self.standby if name == "standby" else self.postgres

    def _pids(self, component: str) -> list[int]:
        """The processes of the component that run."""
        if component in ("postgres", "valkey", "standby"):
            pid = self._server(component).pid
            return [pid] if pid else []
        if component in ("broker", "payments"):
            found = [pid for name, pid in read_state(self.data_dir).pids.items() if server_of(name) == component and pid]
        elif component in TITLES:
            found = [process.pid for process in members(self.data_dir) if TITLES[component] in " ".join(_line(process))]
        else:
            found = [actor.pid for actor in collect(self.data_dir).actors if actor.name.rpartition("-")[0] == component]
        return [pid for pid in found if psutil.pid_exists(pid)]

    def _sugar(
        self, *arguments: str, timeout_s: float, check: bool = True, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "cluster.launch.cli", *arguments, "--data-dir", str(self.data_dir)], capture_output=True,
            text=True, check=False, timeout=timeout_s, env={**os.environ, **(environment or {}), "COLUMNS": "200"},
        )
        if check and done.returncode:
            raise DependencyUnavailable(f"sugar {arguments[0]} failed", output=(done.stdout + done.stderr)[-2_000:])
        return done


def _through(url: str, port: int) -> str:
    """The URL with another port."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}").geturl()


def _signalled(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to be signalled."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _line(process: psutil.Process) -> list[str]:
    try:
        line: list[Any] = process.cmdline()
    except psutil.Error:
        return []
    return line


def _family(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []
