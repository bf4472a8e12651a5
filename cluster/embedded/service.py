"""What the platform's own local servers have in common: one port on loopback, one supervised process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final

from cluster.embedded.ports import LOOPBACK, free_port
from cluster.embedded.process import ServerProcess, accepts

START_TIMEOUT_S: Final = 60.0
"""A guess: what the imports take on two cores at load 20, and as much again."""
STOP_TIMEOUT_S: Final = 5.0


class LocalService(ABC):
    """One server on loopback, by its ``NAME`` in logs and pid files."""

    NAME: ClassVar[str]
    SCHEME: ClassVar[str] = "http"

    def __init__(self, run_dir: Path, port: int) -> None:
        self.port = port
        self._process = ServerProcess(self.NAME, run_dir.resolve())

    @abstractmethod
    def _launch(self) -> None:
        """Starts the process, which is to listen on ``self.port``."""

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"{self.SCHEME}://{LOOPBACK}:{self.port}"

    def start(self) -> str:
        """Starts the server and returns its URL once it accepts connections.

        Raises DependencyUnavailable: it did not start.
        """
        if self.pid is None:
            self.port = self.port or free_port()
            self._launch()
            self._process.wait_ready(lambda: accepts(self.port), START_TIMEOUT_S)
        return self.url

    def stop(self) -> None:
        self._process.stop(timeout_s=STOP_TIMEOUT_S)

    def kill(self) -> None:
        self._process.kill()

    def send(self, number: int) -> None:
        """Sends a signal to the server while it runs."""
        self._process.send(number)
