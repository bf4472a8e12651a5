"""One supervised child process with a log file and a pid file."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from cluster.embedded.credentials import die_with_parent
from cluster.embedded.pids import began, still_runs
from cluster.embedded.ports import LOOPBACK
from configs.contracts.errors import ConfigurationError, DependencyUnavailable


def wheel(package: str) -> Path:
    """Where an installed wheel's files are, without importing it.

    Raises ConfigurationError: it is not installed (the ``embedded`` extra).
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError("install the 'embedded' extra or set the server's URL", package=package)
    return Path(spec.submodule_search_locations[0])


def accepts(port: int, timeout_s: float = 0.2, *, host: str = LOOPBACK) -> bool:
    """Whether something listens on a port."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return True
    except OSError:
        return False


def end_predecessors(run_dir: Path) -> None:
    """Kills whatever an earlier run recorded in this directory and left running."""
    for path in run_dir.glob("*.pid"):
        ServerProcess(path.stem, run_dir).end_predecessor()


class ServerProcess:
    """A child that is killed by the kernel when this process dies, and whose predecessor can be found and ended.

    Not thread-safe, and must be started from a thread that outlives the child (see ``die_with_parent``).
    """

    def __init__(self, name: str, run_dir: Path) -> None:
        self.name = name
        self.log_path = run_dir / f"{name}.log"
        self.pid_path = run_dir / f"{name}.pid"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's pid while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def end_predecessor(self) -> None:
        """Kills what an earlier run recorded in the pid file, if that very process still lives."""
        try:
            recorded = json.loads(self.pid_path.read_text())
            if still_runs(recorded["pid"], recorded.get("began") or recorded["created_s"]):
                leftover = psutil.Process(recorded["pid"])
                family = [*leftover.children(recursive=True), leftover]
                for process in family:
                    process.kill()
                psutil.wait_procs(family, timeout=10)
        except (OSError, ValueError, KeyError, psutil.Error):
            pass
        self.pid_path.unlink(missing_ok=True)

    def launch(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        death_signal: int = signal.SIGKILL,
        unprivileged: bool = False,
        niceness: int = 0,
    ) -> None:
        """Starts the child in its own session (Ctrl-C on the terminal reaches the supervisor only)."""
        self.end_predecessor()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, stdout=log, stderr=log,
                env=None if env is None else dict(env), cwd=cwd, start_new_session=True,
                preexec_fn=die_with_parent(death_signal, unprivileged=unprivileged, niceness=niceness),
            )
        if stdin is not None and self._process.stdin is not None:
            self._process.stdin.write(stdin)
            self._process.stdin.close()
        # On a full disk it runs all the same: only a later supervisor would look for it there.
        with suppress(OSError):
            self.pid_path.write_text(json.dumps({"pid": self._process.pid, "began": began(self._process.pid)}))

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Returns once ``ready`` holds.

        Raises DependencyUnavailable: the child ended or was not ready in time; the log's last lines are in the details.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.pid is None or time.monotonic() > deadline:
                raise DependencyUnavailable(
                    f"{self.name} did not start", exit_code=self.exit_code, log=str(self.log_path), tail=self.log_tail(),
                )
            time.sleep(0.01)

    def log_tail(self, lines: int = 8) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def send(self, number: int) -> None:
        """Sends a signal to a running child; nothing when it does not run."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL, and reaps."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 10.0) -> None:
        """Asks the child to end and kills it when it has not after ``timeout_s``; removes the pid file."""
        if self._process is not None:
            # A stopped (SIGSTOP) child would sit on the signal.
            self.send(signal.SIGCONT)
            self.send(number)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self.pid_path.unlink(missing_ok=True)
