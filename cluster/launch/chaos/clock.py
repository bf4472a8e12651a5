"""Clocks that are wrong in one process and right in all others: a library that is loaded before the C library (skew.c)."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ENTRIES: Final = 64
ENTRY: Final = struct.Struct("=qq")
SOURCE: Final = Path(__file__).with_name("skew.c")
TABLE_VARIABLE: Final = "SUGAR_CLOCK_TABLE"


class Clocks:
    """Moves the wall clocks of processes that were started in ``environment``; monotonic clocks stay, as on a real machine."""

    def __init__(self, directory: Path) -> None:
        self._library = directory / "skew.so"
        self._table = directory / "clocks"

    @staticmethod
    def possible() -> bool:
        """Whether this machine can build the library."""
        return os.uname().sysname == "Linux" and shutil.which("cc") is not None

    def environment(self) -> dict[str, str]:
        """Builds the library; what to start processes with. Raises CalledProcessError."""
        self._table.write_bytes(bytes(ENTRY.size * ENTRIES))
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE), "-ldl"],
            check=True, capture_output=True, timeout=60,
        )
        return {"LD_PRELOAD": str(self._library), TABLE_VARIABLE: str(self._table)}

    def move(self, pids: Sequence[int], seconds: float) -> None:
        """These processes' clocks, at once; all others are right."""
        entries = b"".join(ENTRY.pack(pid, int(seconds * 1e9)) for pid in pids[:ENTRIES])
        with self._table.open("r+b") as table:
            table.write(entries.ljust(ENTRY.size * ENTRIES, b"\0"))

    def restore(self) -> None:
        self.move([], 0)
