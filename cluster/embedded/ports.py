"""Loopback ports for servers that this user starts: free now, and not handed to another living process."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

from cluster.embedded.pids import began, still_runs
from configs.contracts.errors import DependencyUnavailable

LOOPBACK: Final = "127.0.0.1"
PORTS: Final = range(10_000, 20_000)
"""Below the kernel's usual ephemeral ports (32768 and up): one of those is taken by the next outgoing connection, also
between choosing it and binding it, and while its server is being started again."""
TRIES: Final = 50
_given: set[int] = set()
"""Ports that this process was given: who asks for any other may find one of them not bound yet."""


def free_port(preferred: int = 0) -> int:
    """``preferred`` when it is free and no other process's, else one of which that is true and that this process was not
    given before. It is then this process's.

    Raises DependencyUnavailable: there is none.
    """
    wanted = [preferred] if preferred else []
    others = (port for port in random.sample(PORTS, TRIES) if port not in _given)
    for port in [*wanted, *others]:
        if is_free(port) and claim(port):
            _given.add(port)
            return port
    raise DependencyUnavailable("no free port on loopback", tried=TRIES)


def keep(port: int) -> int:
    """The port, which something that does not run yet had before and wants again: this process gives it to nothing else."""
    claim(port)
    _given.add(port)
    return port


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether the port can be bound now, also beside connections that are only waiting to end."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def claim(port: int) -> bool:
    """Makes the port this process's among processes of this user, for as long as it lives; False: another has it.

    What binds a port does so seconds later; whoever chooses meanwhile would find it free as well.
    """
    directory = Path(tempfile.gettempdir()) / f"sugar-ports-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    owner = directory / str(port)
    with (directory / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            pid, _, since = owner.read_text().partition(" ")
            if int(pid) != os.getpid() and still_runs(int(pid), since):
                return False
        except (FileNotFoundError, ValueError):
            pass  # nobody's
        owner.write_text(f"{os.getpid()} {began(os.getpid())}")
    return True
