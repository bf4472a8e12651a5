"""Comparing PostgreSQL with Redis, with shard memory and with itself; and mending what can be mended from rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import redis
import structlog

from cluster.connections.redis import sync_client
from configs.contracts.albums import media_key
from configs.contracts.conversations import head_key, window_key
from configs.contracts.read_model import Operation
from configs.settings import Settings
from writers.catching_up import Progress
from writers.connections import Connection, open_rows
from writers.consistency import Inconsistency, inconsistent_money, inconsistent_pairs, missing_matches, unnotified
from writers.differences import (
    Difference,
    compare,
    compare_shard,
    head_differences,
    keys_of,
    media_differences,
    post_differences,
    post_keys,
    read_copies,
)
from writers.loader import apply_all
from writers.loads.content import load_posts, pages_of_posts, post_operations
from writers.loads.media import media_operations, media_rows, pages_of_media
from writers.loads.messages import active_members, conversation_operations, load_heads, pages_of_conversations
from writers.loads.people import load_people
from writers.loads.read_model import operations, pages_of_people
from writers.loads.reader import open_recent, written
from writers.loads.swipes import swipes
from writers.rebuild import answering

log = structlog.get_logger(__name__)

PEOPLE_A_PAGE: Final = 200
CONVERSATIONS_A_PAGE: Final = 500
POSTS_A_PAGE: Final = 500
LOOKS: Final = 4
"""A difference counts when it is seen this often in a row: what is still on its way through the log is none."""
PAUSE_S: Final = 0.7
KEYS_A_TRIP: Final = 1_000
KEPT: Final = 1_000
"""Findings that a report lists; all are counted."""

ShardFacts = Callable[[Sequence[str]], Mapping[str, bytes]]
"""For some people, what the swipe shards have as ``seen_set``; people whose shard does not answer are missing."""
NewestSeqs = Callable[[Mapping[str, str]], Mapping[str, int | None]]
"""For some conversations, each with a member: the number of the newest message as the conversation's shard knows it; None: it
says that there is no such conversation any more. Those whose shard does not answer are missing."""
Look = Callable[[Connection, Sequence[str]], list[Difference]]
"""How Redis differs from the rows of some ids; each difference has its id as ``user_id``."""
F = TypeVar("F", bound=Hashable)


@dataclass(slots=True)
class Report:
    """What one run found. ``differences`` and ``inconsistencies`` list at most 1,000 each; ``counts`` has all."""

    people: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    inconsistencies: list[Inconsistency] = field(default_factory=list)
    missing_matches: list[tuple[str, str]] = field(default_factory=list)
    """(lower id, higher id) of people who like each other without a match: for their authority to match."""
    repaired: int = 0
    """People whose keys were written anew and agree now."""

    @property
    def agrees(self) -> bool:
        """Whether nothing is left: no difference that was not mended, no inconsistency."""
        return not self.differences and not self.inconsistencies and not self.missing_matches


def reconcile(
    settings: Settings, *, repair: bool = False, facts: ShardFacts | None = None, newest: NewestSeqs | None = None,
    progress: Progress | None = None, pause_s: float = PAUSE_S,
) -> Report:
    """Compares every person, a page at a time, and what the tables say about each other.

    ``repair`` writes the keys of people who differ anew from rows; differing shards and inconsistent rows are only
    reported. Raises DependencyUnavailable: a server does not answer.
    """
    report = Report()
    with sync_client(settings) as client, open_rows(settings, "reconcile") as primary, answering():
        with open_recent(settings, "reconcile", written(primary)) as conn:
            rows = _Rows(conn, primary, repair)
            row = conn.execute("SELECT count(*) FROM users").fetchone()
            total = int(row[0]) if row is not None else 0
            for page in pages_of_people(conn, PEOPLE_A_PAGE):
                _compare(
                    rows, page, report, pause_s, lambda conn, ids: _differences(conn, client, ids), lambda ids: _mend(primary, client, ids)
                )
                if facts is not None:
                    _compare_shards(rows, page, report, facts, pause_s)
                _note(report, lasting(_narrowing(page, rows, lambda conn, ids: unnotified(conn, ids)), pause_s))
                report.people += len(page)
                if progress is not None:
                    progress("people", report.people, max(total, report.people))
            for page in pages_of_conversations(conn, CONVERSATIONS_A_PAGE):
                _compare(
                    rows, page, report, pause_s, lambda conn, ids: head_differences(client, load_heads(conn, ids)),
                    lambda ids: _anew(
                        client, [key for name in ids for key in (head_key(name), window_key(name))],
                        lambda: conversation_operations(primary, ids)[1],
                    ),
                )
                if newest is not None:
                    _list(report, lasting(_narrowing(page, rows, lambda conn, ids: _seq_differences(conn, ids, newest)), pause_s))
            for page in pages_of_posts(conn, POSTS_A_PAGE):
                _compare(
                    rows, page, report, pause_s, lambda conn, ids: post_differences(client, load_posts(conn, ids)),
                    lambda ids: _anew(client, [key for name in ids for key in post_keys(name)], lambda: post_operations(primary, ids)[1]),
                )
            for page in pages_of_media(conn, CONVERSATIONS_A_PAGE):
                _compare(
                    rows, page, report, pause_s, lambda conn, ids: media_differences(client, media_rows(conn, ids)),
                    lambda ids: _anew(client, list(map(media_key, ids)), lambda: media_operations(primary, ids)[1]),
                )
        report.missing_matches = lasting(lambda: missing_matches(primary), pause_s)
        report.counts["match_missing"] += len(report.missing_matches)
        _note(report, lasting(lambda: inconsistent_pairs(primary), pause_s))
        _note(report, lasting(lambda: inconsistent_money(primary), pause_s))
    log.info("reconciled", people=report.people, repaired=report.repaired, found=dict(report.counts))
    return report


def lasting(look: Callable[[], list[F]], pause_s: float = PAUSE_S) -> list[F]:
    """What ``look`` finds several times in a row, in the first finding's order."""
    found = look()
    for _ in range(LOOKS - 1):
        if not found:
            break
        time.sleep(pause_s)
        again = set(look())
        found = [item for item in found if item in again]
    return found


def _compare(rows: _Rows, page: Sequence[str], report: Report, pause_s: float, look: Look, mend: Callable[[Sequence[str]], None]) -> None:
    """What lasts is noted; before that, ``mend`` writes what differs anew where it is to be repaired."""
    found = lasting(_narrowing(page, rows, look), pause_s)
    if found and rows.repair:
        names = list(dict.fromkeys(item.user_id for item in found))
        mend(names)
        found = lasting(_narrowing(names, rows, look), pause_s)
        report.repaired += len(names) - len({item.user_id for item in found})
    _list(report, found)


def _compare_shards(rows: _Rows, page: Sequence[str], report: Report, facts: ShardFacts, pause_s: float) -> None:
    _list(report, lasting(_narrowing(page, rows, lambda conn, ids: _shard_differences(conn, ids, facts)), pause_s))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where rows are read: at first perhaps on a replica; what differs there is looked at again on the primary, since a
    replica that falls behind meanwhile would differ from a Redis that is right."""

    first: Connection
    primary: Connection
    repair: bool


def _narrowing(
    page: Sequence[str], rows: _Rows, look: Callable[[Connection, Sequence[str]], list[Any]]
) -> Callable[[], list[Any]]:
    """Looks at the whole page first and then only at the people of the last finding."""
    people, conn = list(page), rows.first

    def look_again() -> list[Any]:
        nonlocal people, conn
        found, conn = look(conn, people), rows.primary
        people = list(dict.fromkeys(item.user_id for item in found))
        return found

    return look_again


def _differences(conn: Connection, client: redis.Redis, user_ids: Sequence[str]) -> list[Difference]:
    people = load_people(conn, user_ids)
    copies = read_copies(client, people)
    return [item for user_id, person in people.items() for item in compare(user_id, person, copies[user_id])]


def _shard_differences(conn: Connection, user_ids: Sequence[str], facts: ShardFacts) -> list[Difference]:
    """What the swipe shards have seen otherwise than the rows; a shard that keeps silent cannot agree."""
    seen = facts(user_ids)
    rows = swipes(conn, [user_id for user_id in user_ids if user_id in seen], datetime.now(UTC))
    silent = [Difference("shard_silent", user_id, "seen") for user_id in user_ids if user_id not in seen]
    return silent + [item for user_id, row in rows.items() for item in compare_shard(user_id, row, seen[user_id])]


def _seq_differences(conn: Connection, conversation_ids: Sequence[str], newest: NewestSeqs) -> list[Difference]:
    """Conversations that have not ended and whose shard says otherwise, ends with another message than the rows, or keeps silent;
    noted under the conversation's id."""
    members = active_members(conn, conversation_ids)
    known = newest(members)
    heads = load_heads(conn, list(known))
    found = [Difference("shard_silent", name, "newest message") for name in members if name not in known]
    for name, seq in known.items():
        last = heads[name].last if name in heads else None
        stored = 0 if last is None else last.entry.seq
        if seq is None:
            found.append(Difference("shard_ended", name, "conversation", rows_version=stored))
        elif seq != stored:
            found.append(Difference("shard_seq", name, "newest message", stored, seq))
    return found


def _mend(conn: Connection, client: redis.Redis, user_ids: Sequence[str]) -> None:
    """Writes everything of these people anew. Meanwhile the missing marks make readers ask the loader."""
    def steps() -> list[Operation]:
        return [step for user_id, person in load_people(conn, user_ids).items() for step in operations(user_id, person)]

    _anew(client, keys_of(user_ids, load_people(conn, user_ids)), steps)


def _anew(client: redis.Redis, keys: Sequence[str], steps: Callable[[], Sequence[Operation]]) -> None:
    """Forgets the keys first and reads the rows then, from the primary.

    Projections are never ahead of rows: whatever was projected before the keys went is in the rows that are read now,
    and whatever is projected later stays, being newer.
    """
    for start in range(0, len(keys), KEYS_A_TRIP):
        client.unlink(*keys[start:start + KEYS_A_TRIP])
    apply_all(client, steps())


def _list(report: Report, found: Sequence[Difference]) -> None:
    report.counts.update(item.kind for item in found)
    report.differences += found[:KEPT - len(report.differences)]


def _note(report: Report, found: Sequence[Inconsistency]) -> None:
    report.counts.update(item.kind for item in found)
    report.inconsistencies += found[:KEPT - len(report.inconsistencies)]
