"""swiped, swipe_undone -> swipes: one row a pair, holding the newest fact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import Swiped, SwipeUndone
from configs.contracts.impressions import unsealed
from configs.contracts.loading import ACTION_CODES
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

KEYS_A_PAIR = 8
KEY_SEPARATOR = "\x1f"
_LIKES = (ACTION_CODES["like"], ACTION_CODES["super_like"])

UPSERT = """
INSERT INTO swipes AS stored
    (swiper_id, swiped_id, created_at, version, action, bucket, ever_liked, idempotency_keys, response_id,
     response_position)
SELECT swiper_id, swiped_id, created_at, version, action, bucket, ever_liked, string_to_array(keys, E'\\x1f'),
     response_id, nullif(position, -1)
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
     AS batch (swiper_id, swiped_id, created_at, version, action, bucket, ever_liked, keys, response_id, position)
ON CONFLICT (swiper_id, swiped_id) DO UPDATE
SET created_at = excluded.created_at, version = excluded.version, action = excluded.action,
    bucket = excluded.bucket, response_id = excluded.response_id,
    response_position = excluded.response_position, ever_liked = stored.ever_liked OR excluded.ever_liked,
    idempotency_keys = CASE
        WHEN excluded.idempotency_keys IS NULL THEN stored.idempotency_keys
        ELSE (excluded.idempotency_keys || stored.idempotency_keys)[1:8]
    END
WHERE stored.version < excluded.version
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    """One upsert for the batch; several facts of a pair are folded to the last."""
    newest: dict[tuple[str, str], tuple[datetime, int, int, int]] = {}
    liked: set[tuple[str, str]] = set()
    keys: dict[tuple[str, str], list[str]] = {}
    shown: dict[tuple[str, str], tuple[str, int]] = {}
    codes = ACTION_CODES
    for event, version, partition in facts:
        payload = event.payload
        pair = (payload.swiper_id, payload.swiped_id)
        code = codes[payload.action] if type(payload) is Swiped else 0
        known = newest.get(pair)
        if known is None or known[1] < version:
            newest[pair] = (event.occurred_at, version, code, partition)
            shown.pop(pair, None)
            if code and payload.impression_id is not None:
                impression = unsealed(payload.impression_id)
                if impression is not None:
                    shown[pair] = (impression.response_id, impression.position)
        if code in _LIKES:
            liked.add(pair)
        if payload.idempotency_key is not None:
            if KEY_SEPARATOR in payload.idempotency_key:
                raise InvalidEvent("idempotency key holds a control character")
            keys.setdefault(pair, []).append(payload.idempotency_key)
    times, versions, actions, buckets = zip(*newest.values(), strict=True)
    cur.execute(
        UPSERT,
        (
            columns.uuids([swiper for swiper, _ in newest]),
            columns.uuids([swiped for _, swiped in newest]),
            columns.timestamps(times),
            columns.bigints(versions),
            columns.smallints(actions),
            columns.smallints(buckets),
            columns.booleans([pair in liked for pair in newest]),
            columns.texts([_joined(keys.get(pair)) for pair in newest] if keys else [None] * len(newest)),
            columns.uuids([shown[pair][0] if pair in shown else None for pair in newest]),
            columns.smallints([shown[pair][1] if pair in shown else -1 for pair in newest]),
        ),
    )
    return len(newest)


def _joined(keys: list[str] | None) -> str | None:
    """The newest keys of a pair, newest first."""
    return KEY_SEPARATOR.join(keys[: -KEYS_A_PAIR - 1 : -1]) if keys else None


SINK = Sink("swipes", (Swiped, SwipeUndone), write)
