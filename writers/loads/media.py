"""Albums for their shards, and media as the read model holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

from configs.contracts.albums import OPEN_FOR, REMOVED, Album, MediaRow, put_media, shown_photos
from configs.contracts.read_model import Operation
from writers.connections import Connection
from writers.sinks.media import read_media_row, read_requests

ALBUMS: Final = "SELECT owner_id::text, version, photos::text[], requests::text FROM albums WHERE owner_id = ANY(%s)"
MEDIA_OF: Final = """
SELECT owner_id::text, id::text, facts FROM (
    SELECT owner_id, id, version, CASE WHEN gone THEN NULL ELSE facts::text END AS facts,
           row_number() OVER (PARTITION BY owner_id, gone ORDER BY version DESC) AS place, gone
    FROM (
        SELECT owner_id, id, version, facts, state = 'removed' AND facts ->> 'removedBy' IS NULL AS gone FROM media
        WHERE owner_id = ANY(%s) AND (state <> 'pending' OR created_at > now() - %s)
    ) AS held
) AS placed WHERE NOT gone OR place <= %s ORDER BY version
"""
"""One statement, so that nothing is both there and gone; of what is gone for good the newest ids alone, oldest first."""
PHOTOS: Final = """
SELECT albums.owner_id::text, albums.version, albums.photos::text[], media.facts::text
FROM albums LEFT JOIN media ON media.owner_id = albums.owner_id AND media.id = ANY(albums.photos) AND media.state = 'ready'
WHERE albums.owner_id = ANY(%s)
"""
REPORTED: Final = """
SELECT target_id::text FROM reports WHERE target_id = ANY(%(media)s) AND status = 'open'
UNION SELECT unnest(posts.media_ids)::text FROM reports JOIN posts ON posts.id = target_id
WHERE status = 'open' AND target_type = 'post' AND creator_id = ANY(%(owners)s)
UNION SELECT unnest(attachments)::text FROM reports JOIN messages ON conversation_id = context_id AND messages.id = target_id
WHERE status = 'open' AND target_type = 'message' AND sender_id = ANY(%(owners)s)
  AND context_id IN (SELECT match_id FROM matches WHERE member_id = ANY(%(owners)s))
"""
"""Open reports are few: the queue. A reported person's other media are not among them."""
BY_ID: Final = "SELECT facts::text FROM media WHERE id = ANY(%s)"
PAGE: Final = "SELECT DISTINCT id FROM media WHERE id > %s ORDER BY id LIMIT %s"
FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"


def albums(conn: Connection, owner_ids: Sequence[str]) -> Mapping[str, Album]:
    """Only people who have uploaded anything; of what was removed for good their albums hold the newest ids."""
    ids = _uuids(owner_ids)
    found = conn.execute(ALBUMS, (ids,)).fetchall()
    media: dict[str, dict[str, MediaRow]] = {}
    withheld: dict[str, dict[str, MediaRow]] = {}
    removed: dict[str, list[str]] = {}
    if found:
        for owner, media_id, facts in conn.execute(MEDIA_OF, (ids, OPEN_FOR, REMOVED)).fetchall():
            if facts is None:
                removed.setdefault(owner, []).append(media_id)
                continue
            row = read_media_row(facts)
            (media if row.removed_by is None else withheld).setdefault(owner, {})[media_id] = row
    return {
        owner: Album(
            owner, version, tuple(photos), read_requests(requests), media.get(owner, {}), withheld.get(owner, {}),
            tuple(removed.get(owner, ())),
        )
        for owner, version, photos, requests in found
    }


def photos(conn: Connection, owner_ids: Sequence[UUID]) -> dict[str, tuple[tuple[str, ...], int]]:
    """Owner -> (the photos that others see, the album's version); only people who have uploaded anything."""
    orders: dict[str, tuple[list[str], int]] = {}
    ready: dict[str, dict[str, MediaRow]] = {}
    for owner, version, order, facts in conn.execute(PHOTOS, (list(owner_ids),)).fetchall():
        orders[owner] = (order, version)
        if facts is not None:
            row = read_media_row(facts)
            ready.setdefault(owner, {})[row.record.media_id] = row
    return {
        owner: (shown_photos(order, {name: row.record for name, row in ready.get(owner, {}).items()}), version)
        for owner, (order, version) in orders.items()
    }


def media_rows(conn: Connection, media_ids: Iterable[str]) -> dict[str, MediaRow]:
    """Only those that exist, removed ones among them."""
    rows = [read_media_row(facts) for (facts,) in conn.execute(BY_ID, (_uuids(media_ids),)).fetchall()]
    return {row.record.media_id: row for row in rows}


def reported(conn: Connection, media: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Of (owner, media) the media that wait for a decision: reported themselves, or a post or message that shows them is."""
    named = set(media)
    if not named:
        return frozenset()
    asked = {"media": _uuids(media_id for _, media_id in named), "owners": _uuids({owner for owner, _ in named})}
    found = {media_id for (media_id,) in conn.execute(REPORTED, asked)}
    return frozenset(media_id for _, media_id in named if media_id in found)


def media_operations(conn: Connection, media_ids: Iterable[str]) -> tuple[list[str], list[Operation]]:
    """(those that exist, the operations that write their records)."""
    rows = media_rows(conn, media_ids)
    return list(rows), [put_media(row.record, row.version) for row in rows.values()]


def pages_of_media(conn: Connection, size: int) -> Iterator[list[str]]:
    """The ids of all media, in order, a page at a time."""
    after = FIRST_ID
    while True:
        page = [str(row[0]) for row in conn.execute(PAGE, (after, size)).fetchall()]
        if page:
            yield page
        if len(page) < size:
            return
        after = page[-1]


def _uuids(texts: Iterable[str]) -> list[UUID]:
    return [UUID(text) for text in texts]
