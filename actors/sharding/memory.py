"""What a kind of shard decides, apart from how it is made durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from configs.contracts.events import Event
from configs.contracts.topics import Topic

C_contra = TypeVar("C_contra", contravariant=True)
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Append:
    """One event to append; its partition is ``partition_of(key)``."""

    topic: Topic
    key: str
    event: Event


@dataclass(frozen=True, slots=True)
class Decision(Generic[A]):
    """What to append, and the answer once the versions of the appended events are known (in their order)."""

    appends: tuple[Append, ...]
    answer: Callable[[tuple[int, ...]], A]


class Memory(Protocol[C_contra, A]):
    """The facts of many keys and the decisions on them. Synchronous, no I/O, rebuildable from rows plus the log."""

    def needs(self, command: C_contra) -> Sequence[str]:
        """Keys whose rows must be in memory before this command can be decided."""
        ...

    def known(self, key: str) -> bool:
        """Whether the key's rows were loaded (or are known not to exist)."""
        ...

    def load(self, key: str, row: object | None) -> None:
        """Merges a loaded row (None: there is none). Events newer than the row may have been applied before."""
        ...

    def conflict_key(self, command: C_contra) -> str:
        """Commands with one conflict key are decided one after the other, each seeing the one before."""
        ...

    def decide(self, command: C_contra, now: datetime) -> Decision[A]:
        """The decision by what is known; changes nothing. May raise a PlatformError: it becomes the answer."""
        ...

    def apply(self, event: Event, version: int) -> None:
        """Takes in an event that is in the log. Never fails; repeated and late ones change nothing."""
        ...

    def entries(self) -> int:
        """How many keys are in memory."""
        ...

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """Forgets the least recently used keys beyond ``limit`` and returns how many.

        Only keys whose newest version is below ``committed(key)``, the version up to which rows hold its partition.
        """
        ...
