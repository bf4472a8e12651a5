"""content_published, content_updated, content_removed, content_restored -> posts: the fold of a post's events, as its shard has it."""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.content import PostRecord, post_after
from configs.contracts.errors import InvalidEvent
from configs.contracts.events import ContentPublished, ContentRemoved, ContentRestored, ContentUpdated
from writers import columns
from writers.loads.content import COLUMNS, instant, record_of
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

READ = f"""
SELECT {COLUMNS} FROM posts JOIN unnest(%s, %s) AS wanted (owner, name) ON creator_id = owner AND id = name
"""  # noqa: S608 - constants
WRITE = """
INSERT INTO posts AS stored
    (creator_id, id, content_type, caption, media_ids, depicted, visibility, required_tier_id, required_rank, price_minor,
     currency, state, review, sold, created_at, published_at, scheduled_at, schedule_id, removed_by, also_removed_by,
     removed_from, request_digest, version, recipient_id)
SELECT creator_id, id, content_type, caption, media_ids::uuid[], depicted::uuid[], visibility, required_tier_id,
       required_rank, price_minor, currency, state, review, sold, created_at, published_at, scheduled_at, schedule_id,
       removed_by, also_removed_by::uuid[], removed_from::text[], request_digest, version, recipient_id
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
     AS batch (creator_id, id, content_type, caption, media_ids, depicted, visibility, required_tier_id, required_rank,
               price_minor, currency, state, review, sold, created_at, published_at, scheduled_at, schedule_id,
               removed_by, also_removed_by, removed_from, request_digest, version, recipient_id)
ON CONFLICT (creator_id, id) DO UPDATE
SET content_type = excluded.content_type, caption = excluded.caption, media_ids = excluded.media_ids,
    depicted = excluded.depicted, visibility = excluded.visibility, required_tier_id = excluded.required_tier_id,
    required_rank = excluded.required_rank, price_minor = excluded.price_minor, currency = excluded.currency,
    state = excluded.state, review = excluded.review, sold = excluded.sold, published_at = excluded.published_at,
    scheduled_at = excluded.scheduled_at, schedule_id = excluded.schedule_id, removed_by = excluded.removed_by,
    also_removed_by = excluded.also_removed_by, removed_from = excluded.removed_from, version = excluded.version
WHERE stored.version < excluded.version
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    names = sorted({(fact.event.payload.creator_id, fact.event.payload.post_id) for fact in facts})
    places = (columns.uuids([creator for creator, _ in names]), columns.uuids([post for _, post in names]))
    stored = {(row.creator_id, row.post_id): row for row in map(record_of, cur.execute(READ, places).fetchall())}
    changed: dict[tuple[str, str], PostRecord] = {}
    for event, version, _ in facts:
        name = (event.payload.creator_id, event.payload.post_id)
        if event.key != event.payload.creator_id:
            raise InvalidEvent("a post's events have its creator's key")
        row = changed.get(name) or stored.get(name)
        if row is not None and row.version >= version:
            continue
        after = post_after(row, event, version)
        if after is not None and after is not row:
            changed[name] = after
    if changed:
        cur.execute(WRITE, _rows(list(changed.values())))
    return len(changed)


def _rows(rows: Sequence[PostRecord]) -> tuple[columns.Column, ...]:
    return (
        columns.uuids([row.creator_id for row in rows]),
        columns.uuids([row.post_id for row in rows]),
        columns.texts(row.content_type for row in rows),
        columns.texts(row.caption for row in rows),
        columns.texts("{" + ",".join(row.media_ids) + "}" for row in rows),
        columns.texts("{" + ",".join(row.depicted) + "}" for row in rows),
        columns.texts(row.visibility for row in rows),
        columns.uuids([row.required_tier_id for row in rows]),
        columns.integers([row.required_rank for row in rows]),
        columns.bigints([row.price_minor for row in rows]),
        columns.texts(row.currency for row in rows),
        columns.texts(row.state for row in rows),
        columns.texts(row.review for row in rows),
        columns.booleans([row.sold for row in rows]),
        columns.timestamps([instant(row.created_at) for row in rows]),
        columns.timestamps([instant(row.published_at) for row in rows]),
        columns.timestamps([instant(row.scheduled_at) for row in rows]),
        columns.uuids([row.schedule_id for row in rows]),
        columns.uuids([row.removed_by for row in rows]),
        columns.texts("{" + ",".join(row.also_removed_by) + "}" for row in rows),
        columns.texts(None if row.removed_from is None else "{" + ",".join(row.removed_from) + "}" for row in rows),
        columns.texts(row.request_digest for row in rows),
        columns.bigints([row.version for row in rows]),
        columns.uuids([row.recipient_id for row in rows]),
    )


SINK = Sink("posts", (ContentUpdated, ContentPublished, ContentRemoved, ContentRestored), write)
