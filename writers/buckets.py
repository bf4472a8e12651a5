"""The bucket in rows of swipes: the partition of their swiper, which changes with the number of partitions only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cluster.connections.postgres import translated
from configs.settings import Settings
from writers.connections import open_rows

SWIPERS_A_STEP: Final = 2_000
STEP: Final = """
WITH swipers AS (SELECT DISTINCT swiper_id FROM swipes WHERE swiper_id > %(after)s ORDER BY swiper_id LIMIT %(limit)s),
wanted AS (
    SELECT swiper_id, (('x' || substr(md5(swiper_id::text), 1, 8))::bit(32)::bigint & 4294967295) %% %(partitions)s AS bucket
    FROM swipers
),
moved AS (
    UPDATE swipes SET bucket = wanted.bucket FROM wanted
    WHERE swipes.swiper_id = wanted.swiper_id AND swipes.bucket <> wanted.bucket RETURNING 1
)
SELECT (SELECT swiper_id::text FROM swipers ORDER BY swiper_id DESC LIMIT 1), (SELECT count(*) FROM moved)
"""
"""``ids.partition_of`` in SQL; each step commits by itself."""


def rewrite(settings: Settings, progress: Callable[[int], None]) -> int:
    """Writes the bucket where it is another one; returns how many rows. Raises DependencyUnavailable.

    ``progress`` hears after each step how many swipers were looked at. Nothing reads a bucket while it runs but operators.
    """
    after, seen, rows = "00000000-0000-0000-0000-000000000000", 0, 0
    with open_rows(settings, "buckets") as conn, translated():
        while True:
            found = conn.execute(
                STEP, {"after": after, "limit": SWIPERS_A_STEP, "partitions": settings.log.partitions}
            ).fetchone()
            last, moved = found if found is not None else (None, 0)
            if last is None:
                return rows
            after, seen, rows = last, seen + SWIPERS_A_STEP, rows + moved
            progress(seen)
