"""matched, unmatched -> matches (one row a member) and conversations.

A pair's state only moves forward: to a higher generation, from active to ended, from anything to blocked. So a match
that two authorities recorded, or that is read again after its end, revives nothing. A block after the end leaves
``ended_at``: both may read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import Matched, Unmatched
from configs.contracts.ids import match_id
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, parsed_id

READ = """
SELECT match_id::text, member_id::text, other_id::text, status, generation, matched_at, ended_at, ended_by::text, version
FROM matches JOIN unnest(%s, %s) AS pair (low_id, high_id) ON member_id = low_id AND other_id = high_id
"""
WRITE = """
INSERT INTO matches AS stored
    (member_id, other_id, match_id, status, generation, matched_at, ended_at, ended_by, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (member_id, other_id) DO UPDATE
SET status = excluded.status, generation = excluded.generation, matched_at = excluded.matched_at,
    ended_at = excluded.ended_at, ended_by = excluded.ended_by, version = excluded.version
WHERE stored.version < excluded.version
"""
WRITE_CONVERSATIONS = """
INSERT INTO conversations AS stored (id, low_id, high_id, status, generation, created_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE
SET status = excluded.status, generation = excluded.generation, version = excluded.version
WHERE stored.version < excluded.version
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """The state of a pair that was ever matched or blocked."""

    low_id: str
    high_id: str
    status: str
    generation: int
    matched_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    version: int


def fold(stored: Mapping[str, Pair], facts: Iterable[Fact]) -> dict[str, Pair]:
    """The pairs after the facts, by match id; only those that changed."""
    changed: dict[str, Pair] = {}
    for fact in facts:
        name = fact.event.payload.match_id
        before = changed.get(name) or stored.get(name)
        after = _after(before, fact)
        if after is not None:
            changed[name] = after
    return changed


def _after(before: Pair | None, fact: Fact) -> Pair | None:
    """The pair after one fact; None: it changes nothing."""
    event, version, _ = fact
    payload = event.payload
    if before is not None and version <= before.version:
        return None
    if isinstance(payload, Matched):
        if before is not None and (before.status == "blocked" or payload.generation <= before.generation):
            return None
        return Pair(
            payload.low_id, payload.high_id, "active", payload.generation, event.occurred_at, None, None, version
        )
    pair = before or Pair(payload.low_id, payload.high_id, "active", payload.generation, None, None, None, version)
    blocking = payload.reason == "blocked" and pair.status != "blocked"
    if not blocking and (pair.status != "active" or payload.generation < pair.generation):
        return None
    return replace(
        pair, status=payload.reason, generation=max(pair.generation, payload.generation),
        ended_at=pair.ended_at or event.occurred_at, ended_by=payload.ended_by, version=version,
    )


def _checked(facts: Sequence[Fact]) -> dict[str, tuple[str, str]]:
    pairs: dict[str, tuple[str, str]] = {}
    for fact in facts:
        payload = fact.event.payload
        low, high = payload.low_id, payload.high_id
        parsed_id(low)
        parsed_id(high)
        if not low < high or payload.match_id != match_id(low, high):
            raise InvalidEvent("match does not name its pair", match_id=payload.match_id[:36])
        pairs[payload.match_id] = (low, high)
    return pairs


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    pairs = _checked(facts)
    rows = cur.execute(
        READ, (columns.uuids([low for low, _ in pairs.values()]), columns.uuids([high for _, high in pairs.values()]))
    ).fetchall()
    changed = fold({row[0]: Pair(*row[1:]) for row in rows}, facts)
    if not changed:
        return 0
    states = [*changed.values()] * 2
    half = len(changed)
    lows, highs = [pair.low_id for pair in states[:half]], [pair.high_id for pair in states[:half]]
    cur.execute(
        WRITE,
        (
            columns.uuids(lows + highs),
            columns.uuids(highs + lows),
            columns.uuids([*changed, *changed]),
            columns.texts(pair.status for pair in states),
            columns.integers([pair.generation for pair in states]),
            columns.timestamps([pair.matched_at for pair in states]),
            columns.timestamps([pair.ended_at for pair in states]),
            columns.uuids([pair.ended_by for pair in states]),
            columns.bigints([pair.version for pair in states]),
        ),
    )
    _write_conversations(cur, {name: pair for name, pair in changed.items() if pair.matched_at is not None})
    return 2 * half


def _write_conversations(cur: Cursor, pairs: Mapping[str, Pair]) -> None:
    if not pairs:
        return
    states = list(pairs.values())
    cur.execute(
        WRITE_CONVERSATIONS,
        (
            columns.uuids(list(pairs)),
            columns.uuids([pair.low_id for pair in states]),
            columns.uuids([pair.high_id for pair in states]),
            columns.texts(pair.status for pair in states),
            columns.integers([pair.generation for pair in states]),
            columns.timestamps([pair.matched_at for pair in states]),
            columns.bigints([pair.version for pair in states]),
        ),
    )


SINK = Sink("matches", (Matched, Unmatched), write)
