"""A local mailbox: an SMTP server on loopback that keeps what it is given in files, for `sugar mail` to list.

``python -m cluster.embedded.mailbox PORT DIRECTORY`` is the server itself.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, Final

from cluster.embedded.ports import LOOPBACK
from cluster.embedded.process import wheel
from cluster.embedded.service import LocalService

KEPT: Final = 1_000
"""Newest mails that are kept."""
MAIL_BYTES: Final = 1 << 20


class EmbeddedMailbox(LocalService):
    """One server on loopback. Mails outlive it; they go nowhere else."""

    NAME = "mailbox"
    SCHEME = "smtp"

    def __init__(self, directory: Path, run_dir: Path, *, port: int = 0) -> None:
        super().__init__(run_dir, port)
        self.directory = directory.resolve()

    def _launch(self) -> None:
        wheel("aiosmtpd")
        self._process.launch([sys.executable, "-m", __name__, str(self.port), str(self.directory)])


class Keeping:
    """aiosmtpd's handler: one file a mail, named by time, readable by the owner only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        name = f"{time.time_ns():020d}-{next(self._numbers):06d}.eml"
        fresh = self._directory / f".{name}"
        fresh.touch(mode=0o600)
        fresh.write_bytes(envelope.content)
        fresh.replace(self._directory / name)
        for old in sorted(self._directory.glob("*.eml"))[:-KEPT]:
            old.unlink(missing_ok=True)
        return "250 OK"


def mails(directory: Path) -> Iterator[EmailMessage]:
    """The mails that are kept, newest first."""
    for path in sorted(directory.glob("*.eml"), reverse=True):
        try:
            made = message_from_bytes(path.read_bytes(), policy=default)
        except FileNotFoundError:
            continue
        assert isinstance(made, EmailMessage)
        yield made


def serve(port: int, directory: Path) -> None:
    """Takes mail until SIGTERM."""
    from aiosmtpd.controller import Controller

    controller = Controller(Keeping(directory), hostname=LOOPBACK, port=port, data_size_limit=MAIL_BYTES, enable_SMTPUTF8=True)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    controller.start()
    stopping.wait()
    controller.stop()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
