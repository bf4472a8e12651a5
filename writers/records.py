"""Records as they come out of the log, decoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Message

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import Barrier, Event, decode
from configs.contracts.positions import version_of


@dataclass(frozen=True, slots=True)
class Stored:
    """A decoded event and where it stands."""

    topic: str
    partition: int
    offset: int
    version: int
    event: Event


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that cannot be applied, as it came, and why."""

    topic: str
    partition: int
    offset: int
    generation: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    error: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read brought: good records by topic, poison, the raw messages, and the next offset of each partition."""

    stored: Mapping[str, Sequence[Stored]]
    poison: Sequence[Poison]
    messages: Mapping[tuple[str, int, int], Message]
    next_offsets: Mapping[tuple[str, int], int]

    @property
    def count(self) -> int:
        return len(self.messages)


def poison_of(message: Message, generation: int, error: str) -> Poison:
    """The message as a dead letter keeps it."""
    return Poison(
        message.topic(), message.partition(), message.offset(), generation, message.key(), message.value(),
        tuple((name, value) for name, value in message.headers() or ()), error,
    )


def batch_of(messages: Sequence[Message], generations: Mapping[str, int]) -> Batch:
    """Decodes messages; barriers only move the position."""
    stored: dict[str, list[Stored]] = {}
    poison: list[Poison] = []
    raw: dict[tuple[str, int, int], Message] = {}
    next_offsets: dict[tuple[str, int], int] = {}
    for message in messages:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        raw[(topic, partition, offset)] = message
        next_offsets[(topic, partition)] = offset + 1
        generation = generations.get(topic, 1)
        try:
            event = decode(message.value())
        except InvalidEvent as error:
            poison.append(poison_of(message, generation, str(error)))
            continue
        if not isinstance(event.payload, Barrier):
            stored.setdefault(topic, []).append(Stored(topic, partition, offset, version_of(generation, offset), event))
    return Batch(stored, poison, raw, next_offsets)
