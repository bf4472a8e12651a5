"""One measured run: load from a process of its own, CPU by component before and after."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cluster.embedded.ports import free_port
from cluster.launch.bench.accounting import APART, SERVING, Usage, usage
from cluster.launch.bench.generator import Outcome, write_requests
from cluster.launch.bench.requests import raw

NOOP_SECONDS = 5.0


@dataclass(slots=True)
class Run:
    """Load, answers and cost. Costs in CPU seconds for 1,000 answered requests."""

    name: str
    connections: int
    offered_rate: float
    outcome: Outcome
    serving: dict[str, float]
    apart: dict[str, float]

    @property
    def cost(self) -> float:
        return sum(self.serving.values())


def run(name: str, data_dir: Path, port: int, requests: Sequence[bytes], *, rate: float, seconds: float,
        connections: int) -> Run:
    """Offers the requests at a rate (0: as fast as the connections allow) and accounts for every process."""
    before = usage(data_dir)
    outcome = generate(port, requests, rate=rate, seconds=seconds, connections=connections)
    spent = usage(data_dir).since(before)
    thousands = max(outcome.answered, 1) / 1_000
    return Run(
        name, connections, rate, outcome,
        {component: spent[component] / thousands for component in SERVING},
        {component: spent[component] / thousands for component in APART},
    )


class Generating:
    """A generator that was started and tells what it saw; ``stop`` ends it before that."""

    def __init__(self, port: int, requests: Sequence[bytes], *, rate: float, seconds: float, connections: int, at: float = 0.0) -> None:
        """``at``: when the first request is due (``time.monotonic``); at once when that is over by the time it is ready."""
        self._longest_s = max(0.0, at - time.monotonic()) + seconds + 120
        self._folder = tempfile.TemporaryDirectory()
        file, spec = Path(self._folder.name) / "requests", Path(self._folder.name) / "spec.json"
        write_requests(file, requests)
        spec.write_text(json.dumps({
            "host": "127.0.0.1", "port": port, "rate": rate, "seconds": seconds, "connections": connections,
            "requests": str(file), "at": at,
        }))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cluster.launch.bench.generator", str(spec)], stdout=subprocess.PIPE, text=True,
            start_new_session=True,  # Ctrl-C is for whoever waits, who stops it
        )

    def outcome(self) -> Outcome:
        """Waits for it. Raises CalledProcessError: it failed, and has said why; TimeoutExpired: it does not end."""
        try:
            told, _ = self._process.communicate(timeout=self._longest_s)
        finally:
            self.stop()
        if self._process.returncode:
            raise subprocess.CalledProcessError(self._process.returncode, "generator")
        return Outcome(**json.loads(told))

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()


def generate(port: int, requests: Sequence[bytes], *, rate: float, seconds: float, connections: int) -> Outcome:
    """Runs the generator and returns what it saw."""
    return Generating(port, requests, rate=rate, seconds=seconds, connections=connections).outcome()


def bare_noop() -> float:
    """CPU seconds for 1,000 no-op POSTs of a bare uvicorn + FastAPI + pydantic: the ruler of this machine, now."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "cluster.launch.bench.noop:app", "--port", str(port), "--no-access-log",
         "--log-level", "error"],
    )
    try:
        process = psutil.Process(server.pid)
        for _ in range(100):
            if any(connection.status == psutil.CONN_LISTEN for connection in process.net_connections()):
                break
            time.sleep(0.1)
        request = raw("POST", "/noop", body={"targetUserId": "0", "action": "like"})
        times = process.cpu_times()
        before = times.user + times.system
        outcome = generate(port, [request] * 100_000, rate=0, seconds=NOOP_SECONDS, connections=64)
        times = process.cpu_times()
        return (times.user + times.system - before) / (outcome.answered / 1_000)
    finally:
        server.terminate()
        server.wait()


def as_json(measured: Run, noop: float) -> dict[str, object]:
    return {
        "name": measured.name, "connections": measured.connections, "offered_rate": measured.offered_rate,
        "cpu_s_per_1000": round(measured.cost, 4), "times_noop": round(measured.cost / noop, 2),
        "serving": {name: round(value, 4) for name, value in measured.serving.items()},
        "apart": {name: round(value, 4) for name, value in measured.apart.items()},
        "outcome": asdict(measured.outcome),
    }


def idle_memory(data_dir: Path) -> Usage:
    return usage(data_dir)
