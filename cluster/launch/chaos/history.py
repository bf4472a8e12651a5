"""What clients asked and were told, a line an event, written as it happens: a run that is cut off leaves it too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TextIO

Outcome = Literal["ok", "refused", "unknown"]
LINES_MOST: Final = 2_000_000
"""Clients stop when a history is so long: some 400 MB."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request of one person and its outcome. ``unknown``: never answered, so it may have taken effect."""

    person: str
    kind: str
    asked_s: float
    answered_s: float
    outcome: Outcome
    about: dict[str, Any] = field(default_factory=dict)


class History:
    """Appends operations and faults to a file; seconds since it began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.operations: list[Operation] = []
        self._began = time.monotonic()
        self._file: TextIO = path.open("w", buffering=1)

    def now(self) -> float:
        return round(time.monotonic() - self._began, 6)

    @property
    def full(self) -> bool:
        return len(self.operations) >= LINES_MOST

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        self._file.write(json.dumps(asdict(operation)) + "\n")

    def note(self, **what: Any) -> None:
        """A line that is no operation: the run's seed, a fault's beginning or end."""
        self._file.write(json.dumps({"at_s": self.now(), **what}) + "\n")

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> Iterator[Operation]:
    """The operations of a file."""
    with path.open() as lines:
        for line in lines:
            fields = json.loads(line)
            if "kind" in fields:
                yield Operation(**fields)
