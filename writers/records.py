"""What the log holds, as the writers hand it on: raw records, and the facts decoded from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import Barrier, Event, decode
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
    facts: list[tuple[LogRecord, Fact]] = []
    failures: list[Undecoded] = []
    bases = {topic: generations.get(topic, 1) << OFFSET_BITS for topic in {record.topic for record in records}}
    for record in records:
        topic, partition, offset, _, value, _ = record  # a third of what the names would cost
        try:
            event = decode(value)
        except InvalidEvent as error:
            failures.append(Undecoded(record, error))
            continue
        if type(event.payload) is not Barrier:
            facts.append((record, Fact(event, bases[topic] | offset, partition)))
    return facts, failures


def next_offsets(records: Iterable[LogRecord]) -> dict[Place, int]:
    """Place -> offset after its last record; offsets may have gaps."""
    ends: dict[Place, int] = {}
    for topic, partition, offset, *_ in records:
        place = (topic, partition)
        if offset >= ends.get(place, 0):
            ends[place] = offset + 1
    return ends
