"""A network namespace of its own for a server, joined to this machine by a link that can be cut: a host on a network that fails."""

from __future__ import annotations

import os
import random
import shutil
import subprocess

from configs.contracts.errors import ConfigurationError

TIMEOUT_S = 10.0


class Namespace:
    """``here`` and ``there`` are the two ends' addresses; ``command`` goes before what is to run there.

    Needs root and ``ip``. What runs there must have ended before ``close``.
    """

    def __init__(self, number: int = 1) -> None:
        self.name = f"sugar-{os.getpid()}-{number}"
        self._here_end, self._there_end = f"sg{os.getpid()}h{number}", f"sg{os.getpid()}t{number}"
        net = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"  # noqa: S311  # any that nobody uses
        self.here, self.there = f"{net}.1", f"{net}.2"
        self.command = ("ip", "netns", "exec", self.name)

    def open(self) -> None:
        """Raises ConfigurationError: this user or this machine may not make one; nothing of it is left."""
        try:
            _ip("netns", "add", self.name)
            _ip("link", "add", self._here_end, "type", "veth", "peer", "name", self._there_end, "netns", self.name)
            _ip("address", "add", f"{self.here}/24", "dev", self._here_end)
            _ip("link", "set", self._here_end, "up")
            _ip("-n", self.name, "address", "add", f"{self.there}/24", "dev", self._there_end)
            _ip("-n", self.name, "link", "set", "lo", "up")
            self.join()
        except ConfigurationError:
            self.close()
            raise

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told: what is sent waits or is lost."""
        _ip("-n", self.name, "link", "set", self._there_end, "down")

    def join(self) -> None:
        """Takes a cut back."""
        _ip("-n", self.name, "link", "set", self._there_end, "up")

    def close(self) -> None:
        """Removes it with its link; nothing when it is not there."""
        for arguments in (("link", "delete", self._here_end), ("netns", "delete", self.name)):
            subprocess.run(["ip", *arguments], capture_output=True, timeout=TIMEOUT_S, check=False)


def _ip(*arguments: str) -> None:
    if shutil.which("ip") is None:
        raise ConfigurationError("network namespaces need the command ip (apt-get install iproute2)")
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise ConfigurationError("no network namespace can be made here", command=" ".join(arguments), output=done.stderr.strip())
