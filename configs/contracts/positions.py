"""Positions in the log and the versions made of them."""

from __future__ import annotations

from dataclasses import dataclass

OFFSET_BITS = 40
"""A version is ``generation << 40 | offset``: 2**40 records a partition, and 2**13 generations stay exact in a double."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a record stands in the partition of its key: log generation, then offset.

    Comparable only within one topic and key. A generation is one life of a topic: recreating it starts the next.
    """

    generation: int
    offset: int

    @property
    def version(self) -> int:
        return version_of(self.generation, self.offset)


def version_of(generation: int, offset: int) -> int:
    """The position as one integer that grows with the log; 0 is before everything."""
    return generation << OFFSET_BITS | offset


def version_text(version: int) -> str:
    """The version as 16 hex digits, so that comparing text compares versions (Lua, Redis)."""
    return f"{version:016x}"
