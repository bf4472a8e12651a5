"""The supervisor without a process: a lost log, a full disk, what belongs to a platform, and whether it is well."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.launch.ray_head import members, session_root
from cluster.launch.report import READY, ActorReport, ReplicaReport, Report
from cluster.launch.state import read_state
from cluster.launch.status import from_report, show
from cluster.launch.supervisor import Supervisor
from configs.contracts.errors import DependencyUnavailable
from configs.settings import load_settings


class Server:
    """A server as the supervisor handles it."""

    keeps_log = False

    def __init__(self, pid: int | None) -> None:
        self.pid = pid

    def start(self) -> None:
        self.pid = 1

    launch = wait_ready = start

    def stop(self) -> None:
        self.pid = None

    kill = stop


class Servers(list[tuple[str, Server]]):
    """The embedded servers, of which the broker has died."""

    def __init__(self) -> None:
        self.broker = Server(None)
        super().__init__([("broker", self.broker)])

    def start(self) -> None:
        self.broker.start()

    def pids(self) -> dict[str, int]:
        return {}


def test_after_a_lost_log_nothing_starts_before_topics_have_their_next_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards under the old generation would number their versions wrong, also when the first try fails."""
    settings, prepared = load_settings("test", data_dir=tmp_path), load_settings("test", data_dir=tmp_path, port=1)
    supervisor: Any = Supervisor(settings, lambda step: None)
    servers, ray = Servers(), Server(1)
    supervisor._servers, supervisor._ray, supervisor._runtime = servers, ray, Server(1)
    monkeypatch.setattr(supervisor, "_may_restart", lambda name: True)
    started: list[Any] = []

    def launch_runtime(settings: Any) -> None:
        started.append(settings)
        supervisor._runtime.start()

    def away() -> Any:
        raise DependencyUnavailable("PostgreSQL is away")

    monkeypatch.setattr(supervisor, "_launch_runtime", launch_runtime)
    monkeypatch.setattr(supervisor, "_prepare", away)
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            supervisor._mend(settings)
        assert servers.broker.pid is not None
        assert ray.pid is None
        assert started == []
    monkeypatch.setattr(supervisor, "_prepare", lambda: prepared)
    assert supervisor._mend(settings) is prepared
    assert started == [prepared]
    assert supervisor._mend(prepared) is prepared
    assert len(started) == 1


def test_a_full_disk_ends_nothing_and_the_state_is_written_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[str] = []
    supervisor: Any = Supervisor(load_settings("test", data_dir=tmp_path), announced.append)
    supervisor._lock = object()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("cluster.launch.supervisor.write_state", full)
        supervisor._record(step="one")
        supervisor._record(step="two")
        assert len(announced) == 1
    ticks: list[str] = []

    def mend(settings: Any) -> Any:
        ticks.append(read_state(tmp_path).step)
        if len(ticks) == 2:
            supervisor._stop_signal = signal.SIGTERM
        full()

    monkeypatch.setattr(supervisor, "_mend", mend)
    supervisor._supervise(None)
    assert ticks == ["two", "two"]
    assert "No space left" in read_state(tmp_path).problem


def test_a_topic_that_is_consumed_no_more_is_not_well() -> None:
    """Too many dead letters stop a topic, while its writer runs and answers."""
    def report(stopped: list[str]) -> Report:
        figures = {"rows": {"state": "running", "stopped": stopped}, "settling": {"stopped": 2}}
        return Report(
            ready=True, api=READY, at_s=time.time(), replicas=[ReplicaReport(deployment="api", replica="r", state="RUNNING")],
            actors=[ActorReport(name="writer-0", answers=True, ready=True, figures=figures)],
        )

    assert from_report(report([])).well
    found = from_report(report(["matching.swipe"]))
    assert not found.well
    output = StringIO()
    show(Console(file=output, width=200), found)
    assert "rows stopped matching.swipe" in output.getvalue()


def test_whoever_only_reads_the_logs_of_a_platform_is_no_part_of_it(tmp_path: Path) -> None:
    """Starting and ending a platform kills its members: not a log shipper, not an operator's `tail -f`."""
    root = session_root(tmp_path)
    root.mkdir()
    try:
        log = root / "some.log"
        log.write_text("a line\n")
        reading = subprocess.Popen(["tail", "-f", str(log)], stdout=subprocess.PIPE)
        assert reading.stdout is not None
        reading.stdout.readline()
        with log.open("a") as output:
            writing = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output)
        try:
            assert {process.pid for process in members(tmp_path)} == {writing.pid}
        finally:
            for process in (reading, writing):
                process.kill()
                process.communicate()
    finally:
        shutil.rmtree(root)
