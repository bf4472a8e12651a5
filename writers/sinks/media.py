"""The events of media.uploaded -> media, albums, and the block list of what was taken down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from configs.contracts.albums import ArrangeRequest, MediaRow, media_after, requests_after
from configs.contracts.events import (
    MediaProcessed,
    MediaRejected,
    MediaRemoved,
    MediaRequested,
    MediaRestored,
    MediaReviewed,
    MediaUploaded,
    PhotosArranged,
)
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

REMOVED: Final = "removed"
"""The block list of what was taken down here."""

READ = """
SELECT stored.id::text, facts::text FROM media AS stored
JOIN unnest(%s, %s) AS asked (owner_id, id) ON stored.owner_id = asked.owner_id AND stored.id = asked.id
"""
WRITE = """
INSERT INTO media AS stored (owner_id, id, kind, state, review, matched, preserved, facts, created_at, version)
SELECT owner_id, id, kind, state, review, matched, preserved, facts::jsonb, created_at, version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    AS batch (owner_id, id, kind, state, review, matched, preserved, facts, created_at, version)
ON CONFLICT (owner_id, id) DO UPDATE
SET state = excluded.state, review = excluded.review, matched = excluded.matched,
    preserved = stored.preserved OR excluded.preserved, facts = excluded.facts, version = excluded.version
WHERE stored.version < excluded.version
"""
ALBUMS = """
INSERT INTO albums AS stored (owner_id, version) SELECT * FROM unnest(%s, %s)
ON CONFLICT (owner_id) DO UPDATE SET version = greatest(stored.version, excluded.version)
RETURNING owner_id::text, photos::text[], requests::text, version
"""
"""Also locks them."""
ARRANGE = "UPDATE albums SET photos = %s::uuid[], requests = %s::jsonb WHERE owner_id = %s"
BLOCK = """
INSERT INTO media_hashes (hash, list, source, added_at) SELECT hash, %s, source, added_at
FROM unnest(%s, %s, %s) AS batch (hash, source, added_at)
ON CONFLICT DO NOTHING
"""
_ROWS: Final = msgspec.json.Decoder(MediaRow)
_REQUESTS: Final = msgspec.json.Decoder(tuple[ArrangeRequest, ...])


def read_media_row(facts: str) -> MediaRow:
    """The media of a row's ``facts``."""
    return _ROWS.decode(facts)


def read_requests(text: str) -> tuple[ArrangeRequest, ...]:
    """An album's remembered requests."""
    return _REQUESTS.decode(text)


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    """Late and repeated facts change nothing: the fold compares versions, and each fact of a media is in one partition."""
    newest = {fact.event.payload.owner_id: fact.version for fact in facts}
    _albums(cur, facts, newest)
    single = [fact for fact in facts if not isinstance(fact.event.payload, PhotosArranged)]
    names = sorted({(fact.event.payload.owner_id, fact.event.payload.media_id) for fact in single})
    if not names:
        return len(newest)
    asked = (columns.uuids([owner for owner, _ in names]), columns.uuids([media for _, media in names]))
    stored: Mapping[str, MediaRow] = {
        media_id: read_media_row(text) for media_id, text in cur.execute(READ, asked).fetchall()
    }
    changed: dict[str, MediaRow] = {}
    for event, version, _ in single:
        name = event.payload.media_id
        held = changed.get(name) or stored.get(name)
        after = media_after(held, event, version)
        if after is not None and after is not held:
            changed[name] = after
    if changed:
        _write(cur, list(changed.values()))
    return len(newest) + len(changed)


def _albums(cur: Cursor, facts: Sequence[Fact], newest: Mapping[str, int]) -> None:
    """Versions of all owners, and photos of those who arranged them."""
    arranged: dict[str, list[Fact]] = {}
    for fact in facts:
        if isinstance(fact.event.payload, PhotosArranged):
            arranged.setdefault(fact.event.payload.owner_id, []).append(fact)
    known = dict(cur.execute(
        "SELECT owner_id::text, version FROM albums WHERE owner_id = ANY(%s)", (columns.uuids(sorted(newest)),)
    ).fetchall()) if arranged else {}
    owners = sorted(newest)
    rows = cur.execute(ALBUMS, (columns.uuids(owners), columns.bigints([newest[owner] for owner in owners]))).fetchall()
    for owner, _, requests, _ in rows:
        later = [fact for fact in arranged.get(owner, ()) if fact.version > known.get(owner, 0)]
        if not later:
            continue
        remembered = read_requests(requests)
        for fact in later:
            remembered = requests_after(remembered, fact.event)
        photos = list(later[-1].event.payload.media_ids)
        cur.execute(ARRANGE, (photos, msgspec.json.encode(remembered).decode(), owner))


def _write(cur: Cursor, rows: Sequence[MediaRow]) -> None:
    records = [row.record for row in rows]
    cur.execute(WRITE, (
        columns.uuids([record.owner_id for record in records]),
        columns.uuids([record.media_id for record in records]),
        columns.texts(record.kind for record in records),
        columns.texts(record.state for record in records),
        columns.texts(record.review for record in records),
        columns.texts(row.matched for row in rows),
        columns.booleans([row.preserved for row in rows]),
        columns.texts(msgspec.json.encode(row).decode() for row in rows),
        columns.timestamps([row.requested_at for row in rows]),
        columns.bigints([row.version for row in rows]),
    ))
    blocked: list[tuple[bytes, str, datetime]] = [
        (bytes.fromhex(value), row.record.media_id, row.requested_at)
        for row in rows if row.blocked for value in row.hashes
    ]
    if blocked:
        cur.execute(BLOCK, (
            REMOVED, columns.byte_strings(value for value, _, _ in blocked), columns.texts(source for _, source, _ in blocked),
            columns.timestamps([at for _, _, at in blocked]),
        ))


SINK = Sink(
    "media",
    (
        MediaRequested, MediaUploaded, MediaProcessed, MediaRejected, MediaReviewed, MediaRemoved, MediaRestored, PhotosArranged,
    ),
    write,
)
