"""A local stand-in for Stripe: an HTTP server on loopback that the real client talks to. Test mode only, always."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from cluster.embedded.service import LocalService


class EmbeddedSandboxProvider(LocalService):
    """One server on loopback. Its state outlives it, in one file."""

    NAME = "payments"

    def __init__(self, directory: Path, run_dir: Path, *, key: str, secret: str, webhook_url: str, port: int = 0) -> None:
        super().__init__(run_dir, port)
        self._directory = directory.resolve()
        self._key = key
        self._secret = secret
        self._webhook_url = webhook_url

    def _launch(self) -> None:
        options = {
            "port": self.port, "path": str(self._directory / "sandbox.sqlite"), "key": self._key, "secrets": [self._secret],
            "webhook_url": self._webhook_url,
        }
        self._process.launch(
            [sys.executable, "-m", "cluster.embedded.sandbox_provider.server"], stdin=msgspec.json.encode(options) + b"\n"
        )
