"""One key's facts as the fold of its events over its row, exact also when a predecessor's event comes late."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from operator import itemgetter
from typing import Final, Generic, Protocol, TypeVar

from configs.contracts.events import Event


class Versioned(Protocol):
    @property
    def version(self) -> int: ...


R = TypeVar("R", bound=Versioned)

KEPT_EVENTS: Final = 32
"""Newest events of one key that are kept apart, so that a predecessor's late one is folded in at its place."""


class Folded(Generic[R]):
    """What rows and older events add up to, and the newest events above it."""

    __slots__ = ("_after", "base", "base_version", "events", "loaded", "row")

    def __init__(self, after: Callable[[R | None, Event, int], R | None]) -> None:
        self._after = after
        self.loaded = False
        self.base: R | None = None
        self.base_version = 0
        self.events: list[tuple[int, Event]] = []
        self.row: R | None = None

    def take(self, event: Event, version: int) -> None:
        """Takes in an event at its place; one that is known, or older than what was folded for good, changes nothing."""
        if version <= self.base_version or any(known == version for known, _ in self.events):
            return
        insort(self.events, (version, event), key=itemgetter(0))
        while len(self.events) > KEPT_EVENTS and self.loaded:
            self.base_version, oldest = self.events.pop(0)
            self.base = self._after(self.base, oldest, self.base_version)
        self._fold()

    def load(self, row: R | None) -> None:
        """Puts the events above the row; a row older than what is folded already changes nothing."""
        self.loaded = True
        if row is not None and row.version > self.base_version:
            self.base, self.base_version = row, row.version
            self.events = [(version, event) for version, event in self.events if version > row.version]
        self._fold()

    def forget_history(self) -> None:
        """Keeps what everything adds up to and none of the events that did; an earlier one that comes late is not taken."""
        if self.events:
            self.base, self.base_version, self.events = self.row, self.events[-1][0], []

    def _fold(self) -> None:
        self.row = self.base
        for version, event in self.events:
            self.row = self._after(self.row, event, version)

    @property
    def newest(self) -> int:
        return self.events[-1][0] if self.events else self.base_version
