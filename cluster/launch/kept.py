"""Reports of `sugar verify` that are kept, so that hours of commands can be interrupted and go on where they were.

A report is found again by its command, the sources that it is the figure of, and the files that it read: when any of them
changed, it is measured anew. Only reports that kept every gate are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""Where the packages lie."""


def key(command: Sequence[str], sources: Sequence[str]) -> str:
    """Names the report of ``command`` by this code: hex, the same wherever the sources and its files lie.

    ``sources``: files and directories (their Python files) below ``ROOT``, or absolute.
    """
    digest = hashlib.sha256()
    for part in command:
        file = Path(part)
        digest.update(b"\0" + (file.read_bytes() if file.is_file() else part.encode()))
    for source in sources:
        for path in _files(ROOT / source):
            digest.update(b"\0" + str(path.relative_to((ROOT / source).parent)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:24]


def found(directory: Path, name: str) -> Mapping[str, Any] | None:
    """``report``, ``seconds``, ``measured_at``; None when there is none or it cannot be read."""
    try:
        kept = json.loads((directory / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and {"report", "seconds", "measured_at"} <= kept.keys() else None


def keep(directory: Path, name: str, check: str, command: Sequence[str], report: Any, seconds: float) -> None:
    """Whole or not at all: it may be interrupted."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{name}.json"
    beside = target.with_suffix(".tmp")
    beside.write_text(json.dumps({
        "check": check, "command": list(command), "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1), "report": report,
    }, indent=1))
    os.replace(beside, target)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(path.rglob("*.py"))
    else:
        raise FileNotFoundError(path)
