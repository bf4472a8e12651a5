"""Positions of the row writers and epochs of shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from configs.contracts.loading import Positions
from configs.settings import Settings
from writers.connections import Connection

ROWS = "rows"
"""The consumer whose position says what the tables hold."""

POSITIONS = """
SELECT topic, partition, generation, next_offset FROM writer_positions
WHERE consumer = %s AND topic = ANY(%s)
"""

CLAIM = """
INSERT INTO shard_epochs AS stored (kind, shard, epoch)
SELECT %(kind)s, unnest(%(shards)s::int[]), (
    SELECT CASE WHEN max(epoch) IS NULL THEN 1
                ELSE greatest(max(epoch) + 1, extract(epoch FROM now() - timestamptz '2026-01-01 00:00:00+00')::bigint) END
    FROM shard_epochs WHERE kind = %(kind)s
)
ON CONFLICT (kind, shard) DO UPDATE SET epoch = greatest(stored.epoch + 1, excluded.epoch), claimed_at = now()
RETURNING shard, epoch
"""
"""1 at first; then above every epoch of the kind: with another number of partitions a key's next shard must be ahead of its
last one. And not below the seconds since 2026: a database that was restored, or a replica that lagged when it was promoted,
does not know of the last claims, and what is said under a lower epoch than a conversation's last message counts nowhere."""

EPOCHS = "SELECT shard, epoch FROM shard_epochs WHERE kind = %s AND shard = ANY(%s::int[])"


def positions(conn: Connection, settings: Settings, topics: Sequence[str], consumer: str = ROWS) -> Positions:
    """Every partition of every topic; one without a position in the topic's present generation is at 0."""
    found: dict[str, dict[int, int]] = {
        topic: dict.fromkeys(range(settings.log.partitions), 0) for topic in topics
    }
    for topic, partition, generation, next_offset in conn.execute(POSITIONS, (consumer, list(topics))).fetchall():
        if generation == settings.log.generations.get(topic, 1):
            found[topic][partition] = next_offset
    return found


def claim_epochs(conn: Connection, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
    """Shard -> its new epoch. Sorted, so that two claimants never wait for each other in a circle."""
    return dict(conn.execute(CLAIM, {"kind": kind, "shards": sorted(set(shards))}).fetchall())


def epochs(conn: Connection, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
    """Shard -> its newest epoch, of those that were ever claimed."""
    return dict(conn.execute(EPOCHS, (kind, list(shards))).fetchall())
