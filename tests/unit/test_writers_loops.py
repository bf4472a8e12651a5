"""How long a consuming thread waits after failures; its servers are made up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from configs.contracts.errors import DependencyUnavailable
from configs.settings import load_settings
from writers import loops
from writers.connections import Connection
from writers.loops import RETRY_S, ConsumingThread
from writers.positions import Ownership
from writers.records import LogRecord, Place

PLACE = ("matching.swipe", 0)


class Away:
    """What the handler needs is away while ``fails``."""

    consumer = "test"

    def __init__(self, fails: Iterator[bool]) -> None:
        self.fails = fails

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        if next(self.fails):
            raise DependencyUnavailable("away")

    def close(self) -> None:
        """Holds nothing."""


def test_pauses_grow_until_a_batch_is_handled_although_each_attempt_begins_well(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [True] * 7 + [False] + [True] * 2
    waited: list[float] = []
    thread = ConsumingThread(load_settings("test"), "test", Away(iter(outcomes)), [PLACE], fenced=pytest.fail)

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == outcomes.count(True):
            thread.stop()

    monkeypatch.setattr(thread._stopping, "wait", wait)
    record = LogRecord(*PLACE, 0, b"", b"")
    servers: dict[str, Any] = {
        "open_rows": lambda *args: contextlib.nullcontext(), "reader": lambda *args: SimpleNamespace(close=lambda: None),
        "claim": lambda *args: (Ownership("test", 1, {}), {PLACE: 0}), "regain": lambda *args: {PLACE: 0}, "assign": lambda *args: None,
        "as_record": lambda message: message, "Pace": lambda settings: SimpleNamespace(take=lambda *args, **named: [record]),
    }
    for name, made_up in servers.items():
        monkeypatch.setattr(loops, name, made_up)
    thread._run()
    assert waited == [*RETRY_S, RETRY_S[-1], RETRY_S[-1], *RETRY_S[:2]]
