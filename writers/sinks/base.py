"""What a sink is: facts of some event types -> rows, inside somebody else's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import psycopg

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import Payload
from writers.records import Fact

Cursor = psycopg.Cursor[Any]
Write = Callable[[Cursor, Sequence[Fact]], int]


@dataclass(frozen=True, slots=True)
class Sink:
    """Stores facts; repeated, late and replayed ones change nothing that is newer.

    ``write(cur, facts)`` gets the facts of its ``events`` in log order, at least one, and returns the rows it wrote.
    Rows whose events all have their key are read and written back without a lock, since all of those come by one partition
    number, whose positions the transaction holds (Citus locks no rows across shards); others need ``FOR UPDATE``.
    It raises InvalidEvent or a psycopg data error when one of them can never be stored.
    """

    name: str
    events: tuple[type[Payload], ...]
    write: Write


def parsed_id(text: str) -> UUID:
    """An id in canonical text. Raises InvalidEvent."""
    try:
        value = UUID(text)
    except ValueError as error:
        raise InvalidEvent("not an id") from error
    if str(value) != text:
        raise InvalidEvent("not an id")
    return value


def hash_as_id(digest: str) -> str:
    """An md5 in hex (32 digits) as the canonical text of a 16-byte value. Raises InvalidEvent."""
    try:
        if len(digest) != 32:
            raise InvalidEvent("not an md5")
        return str(UUID(digest))
    except ValueError as error:
        raise InvalidEvent("not an md5") from error


def parsed_day(text: str) -> date:
    """A calendar day. Raises InvalidEvent."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidEvent("not a date") from error
