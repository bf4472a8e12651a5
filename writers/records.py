"""What the log holds, as the writers hand it on: raw records, and the facts decoded from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import Barrier, Event, decode_many
from configs.contracts.positions import OFFSET_BITS

Place = tuple[str, int]
"""(topic, partition)"""
Headers = tuple[tuple[str, bytes | None], ...]


class LogRecord(NamedTuple):
    """One record as it stands in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    def header(self, name: str) -> bytes | None:
        return next((value for known, value in self.headers if known == name), None)


class Fact(NamedTuple):
    """A decoded event with its version and the partition in which it stands."""

    event: Event
    version: int
    partition: int


@dataclass(frozen=True, slots=True)
class Undecoded:
    """A record that is no event of ours."""

    record: LogRecord
    error: InvalidEvent


def decode_all(
    records: Sequence[LogRecord], generations: Mapping[str, int]
) -> tuple[list[tuple[LogRecord, Fact]], list[Undecoded]]:
    """The facts of the records, in order, without barriers; and the records that could not be decoded."""
    events = decode_many([record[4] for record in records])
    bases = {topic: generations.get(topic, 1) << OFFSET_BITS for topic in {record[0] for record in records}}
    # A third less than the class's own constructor takes, and there are as many as records.
    make = tuple.__new__
    facts = [
        (record, make(Fact, (event, bases[record[0]] | record[2], record[1])))
        for record, event in zip(records, events, strict=True) if type(event) is Event and type(event.payload) is not Barrier
    ]
    failures = [Undecoded(record, event) for record, event in zip(records, events, strict=True) if isinstance(event, InvalidEvent)]
    return facts, failures


def next_offsets(records: Iterable[LogRecord]) -> dict[Place, int]:
    """Place -> offset after its last record. Records of one partition stand in their order; offsets may have gaps."""
    return {place: offset + 1 for place, offset in {record[:2]: record[2] for record in records}.items()}
