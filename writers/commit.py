"""One commit: positions advance and rows are written in one transaction, or nothing happens."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import psycopg

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import BY_TYPE, Payload, PaymentObserved
from configs.contracts.payment_facts import PaymentFact
from writers import dead_letters
from writers.connections import Connection
from writers.positions import Ownership, advance
from writers.records import Fact, LogRecord, Place, decode_all, next_offsets
from writers.sinks import SINKS
from writers.sinks.base import Sink

RECORD_ERRORS = (InvalidEvent, psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""What a record itself is to blame for; everything else is the connection's, the server's or the code's."""

Failure = tuple[LogRecord, Exception]

KINDS: Final = (*BY_TYPE, *(str(fact.__struct_config__.tag) for fact in get_args(PaymentFact)))
"""What ``Committed.by_type`` counts; a figure exists from the beginning on, so that its first increase is seen."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit did."""

    positions: Mapping[Place, int]
    records: int
    rows: int
    dead: int
    by_type: Mapping[str, int]
    """How many of each event; of a payment's observed fact, the fact's kind."""


def commit_batch(
    conn: Connection,
    owned: Ownership,
    before: Mapping[Place, int],
    records: Sequence[LogRecord],
    *,
    dead_letter_limit: int,
    copy_dead: Callable[[Sequence[Failure]], None],
    sinks: tuple[Sink, ...] = SINKS,
) -> Committed:
    """Stores a batch of records exactly once: rows and positions together.

    Records that can never be applied go to the dead letters in the same transaction; ``copy_dead`` also gets them,
    before the commit, and may get them again after a crash.
    Raises PartitionFenced: the stored positions are not ``before``, or not this owner's. DeadLetterLimit.
    """
    after = next_offsets(records)
    generations = dict(owned.generations)
    decoded, undecoded = decode_all(records, generations)
    failures: list[Failure] = [(failure.record, failure.error) for failure in undecoded]
    with conn.transaction(), conn.cursor() as cur:
        advance(cur, owned, before, after)
        rows = _write(conn, cur, decoded, sinks, failures)
        if failures:
            dead_letters.keep(cur, failures, generations, dead_letter_limit)
            copy_dead(failures)
    return Committed(after, len(records), rows, len(failures), _kinds([fact.event.payload for _, fact in decoded]))


def _kinds(payloads: Sequence[Payload]) -> Counter[str]:
    """How many of each of ``KINDS``."""
    counted: Counter[type[Payload]] = Counter(map(type, payloads))
    found = Counter({kind.TYPE: count for kind, count in counted.items() if kind is not PaymentObserved})
    found.update(payload.fact.kind for payload in payloads if type(payload) is PaymentObserved)
    return found


def _write(
    conn: Connection, cur: psycopg.Cursor[Any], decoded: Sequence[tuple[LogRecord, Fact]], sinks: tuple[Sink, ...],
    failures: list[Failure],
) -> int:
    """Writes all facts; halves a batch that fails until the records to blame stand alone, and sets those aside."""
    if not decoded:
        return 0
    try:
        with conn.transaction():
            return write_facts(cur, [fact for _, fact in decoded], sinks)
    except RECORD_ERRORS as error:
        if len(decoded) == 1:
            failures.append((decoded[0][0], error))
            return 0
    middle = len(decoded) // 2
    return _write(conn, cur, decoded[:middle], sinks, failures) + _write(conn, cur, decoded[middle:], sinks, failures)


def write_facts(cur: psycopg.Cursor[Any], facts: Sequence[Fact], sinks: tuple[Sink, ...] = SINKS) -> int:
    """Hands every fact to the sinks of its event; returns the rows written."""
    kinds = [type(fact[0].payload) for fact in facts]
    by_type: Mapping[type[Payload], Sequence[Fact]] = {kinds[0]: facts} if len(set(kinds)) == 1 else _by_kind(kinds, facts)
    rows = 0
    for sink in sinks:
        wanted = [by_type[event] for event in sink.events if event in by_type]
        if not wanted:
            continue
        mixed = wanted[0] if len(wanted) == 1 else _in_log_order(wanted)
        rows += sink.write(cur, mixed)
    return rows


def _by_kind(kinds: Sequence[type[Payload]], facts: Sequence[Fact]) -> Mapping[type[Payload], Sequence[Fact]]:
    found: dict[type[Payload], list[Fact]] = defaultdict(list)
    for kind, fact in zip(kinds, facts, strict=True):
        found[kind].append(fact)
    return found


def _in_log_order(groups: Sequence[Sequence[Fact]]) -> list[Fact]:
    """Facts of one partition by version; between partitions any order is right."""
    merged = [fact for group in groups for fact in group]
    merged.sort(key=lambda fact: (fact.partition, fact.version))
    return merged
