"""A local stand-in for Stripe: an HTTP server on loopback that the real client talks to. Test mode only, always."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec

from cluster.embedded.ports import LOOPBACK, free_port
from cluster.embedded.process import ServerProcess, accepts

START_TIMEOUT_S: Final = 60.0
"""A guess: ten times its imports on a busy machine with two cores."""


class EmbeddedSandboxProvider:
    """One server on loopback. Its state outlives it, in one file."""

    def __init__(self, directory: Path, run_dir: Path, *, key: str, secret: str, webhook_url: str, port: int = 0) -> None:
        self._directory = directory.resolve()
        self._key = key
        self._secret = secret
        self._webhook_url = webhook_url
        self.port = port
        self._process = ServerProcess("payments", run_dir.resolve())

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> str:
        """Starts the server and returns its URL once it accepts connections.

        Raises DependencyUnavailable: it did not start.
        """
        if self.pid is not None:
            return self.url
        self.port = self.port or free_port()
        options = {
            "port": self.port, "path": str(self._directory / "sandbox.sqlite"), "key": self._key, "secrets": [self._secret],
            "webhook_url": self._webhook_url,
        }
        self._process.launch(
            [sys.executable, "-m", "cluster.embedded.sandbox_provider.server"], stdin=msgspec.json.encode(options) + b"\n"
        )
        self._process.wait_ready(lambda: accepts(self.port), START_TIMEOUT_S)
        return self.url

    def stop(self) -> None:
        self._process.stop(timeout_s=5.0)

    def kill(self) -> None:
        self._process.kill()

    def send(self, number: int) -> None:
        self._process.send(number)
