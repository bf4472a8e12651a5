"""A process that was written down is told from another with its pid, also when the clock is set meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.embedded import pids
from cluster.embedded.pids import began, still_runs
from cluster.embedded.process import ServerProcess, end_predecessors
from cluster.launch.keeper import _stopped
from cluster.launch.state import State, own_state


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


@pytest.fixture
def clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever computes from the second of the boot when a process began is an hour off from now on."""
    right = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: right(self) + 3_600)


def record(directory: Path, pid: int, **when: object) -> None:
    (directory / "server.pid").write_text(json.dumps({"pid": pid, **when}))


def test_a_pid_that_another_process_has_or_that_another_boot_gave_is_not_the_one_that_was_written_down(
    sleeper: subprocess.Popen[bytes]
) -> None:
    since = began(sleeper.pid)
    assert still_runs(sleeper.pid, since)
    boot, _, ticks = since.partition("/")
    assert not still_runs(sleeper.pid, f"{boot}/{int(ticks) + 1}")
    assert not still_runs(sleeper.pid, f"another/{ticks}")
    assert not still_runs(sleeper.pid, "")
    sleeper.kill()
    sleeper.wait()
    assert not still_runs(sleeper.pid, since)
    assert began(sleeper.pid) == ""
    assert not still_runs(0, began(0))


def test_without_a_proc_file_system_the_kernels_second_tells_them_apart(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pids, "_boot", lambda: "")
    assert still_runs(sleeper.pid, began(sleeper.pid))
    assert not still_runs(sleeper.pid, "1.0")


@pytest.mark.usefixtures("clock_was_set")
def test_what_was_launched_is_found_and_ended_after_the_clock_was_set(tmp_path: Path) -> None:
    server = ServerProcess("server", tmp_path)
    server.launch([sys.executable, "-c", "import time; time.sleep(600)"])
    pid = server.pid
    assert pid is not None
    end_predecessors(tmp_path)
    assert server.pid is None
    assert not psutil.pid_exists(pid)
    assert not (tmp_path / "server.pid").exists()


def test_the_supervisor_and_an_actor_are_the_same_after_the_clock_was_set(
    sleeper: subprocess.Popen[bytes], request: pytest.FixtureRequest
) -> None:
    state, since = own_state(State()), began(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)
    request.getfixturevalue("clock_was_set")
    assert state.running()
    assert _stopped(sleeper.pid, since)
    assert not _stopped(sleeper.pid, since + "0")


def test_what_an_earlier_release_wrote_down_is_found_by_its_second(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    created_s = psutil.Process(sleeper.pid).create_time()
    assert State(supervisor_pid=sleeper.pid, created_s=created_s).running()
    assert not State(supervisor_pid=sleeper.pid, created_s=created_s - 100).running()
    for unknown in ({"created_s": created_s - 100}, {}):
        record(tmp_path, sleeper.pid, **unknown)
        end_predecessors(tmp_path)
        assert sleeper.poll() is None
    record(tmp_path, sleeper.pid, created_s=created_s)
    end_predecessors(tmp_path)
    assert not psutil.pid_exists(sleeper.pid)


def test_a_recycled_pid_in_a_file_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    record(tmp_path, sleeper.pid, began=began(sleeper.pid) + "0")
    end_predecessors(tmp_path)
    assert sleeper.poll() is None
    assert not list(tmp_path.iterdir())
