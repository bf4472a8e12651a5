"""swiped, swipe_undone -> swipes: one row a pair, holding the newest fact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import Swiped, SwipeUndone
from configs.contracts.impressions import unsealed
from configs.contracts.loading import ACTION_CODES
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

KEYS_A_PAIR = 8
KEY_SEPARATOR = "\x1f"
Pair = tuple[str, str]
"""(who swiped, whom)"""
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
    told = [fact[0].payload for fact in facts]
    pairs = [(payload.swiper_id, payload.swiped_id) for payload in told]
    newest = dict(zip(pairs, facts, strict=True))
    chosen, payloads, liked = facts, told, frozenset[Pair]()
    if len(newest) < len(facts):
        liked = _folded(newest, pairs, facts)
        chosen = list(newest.values())
        payloads = [fact[0].payload for fact in chosen]
    keys = _keys(pairs, told)
    codes, impression_ids = _told(payloads)
    likes = [code in _LIKES for code in codes]
    cur.execute(
        UPSERT,
        (
            columns.uuids([payload.swiper_id for payload in payloads]),
            columns.uuids([payload.swiped_id for payload in payloads]),
            columns.timestamps([fact[0].occurred_at for fact in chosen]),
            columns.bigints([fact[1] for fact in chosen]),
            columns.smallints(codes),
            columns.smallints([fact[2] for fact in chosen]),
            columns.booleans([like or pair in liked for like, pair in zip(likes, newest, strict=True)] if liked else likes),
            columns.texts([_joined(keys.get(pair)) for pair in newest]) if keys else columns.nulls(columns.Texts, len(newest)),
            *_shown(impression_ids),
        ),
    )
    return len(newest)


def _folded(newest: dict[Pair, Fact], pairs: Sequence[Pair], facts: Sequence[Fact]) -> frozenset[Pair]:
    """Leaves the last fact of each pair in ``newest``; which pairs with several were ever liked in them."""
    newest.clear()
    liked: set[Pair] = set()
    for pair, fact in zip(pairs, facts, strict=True):
        known = newest.get(pair)
        if known is not None:
            liked.update(pair for one in (known, fact) if _code(one.event.payload) in _LIKES)
        if known is None or known.version < fact.version:
            newest[pair] = fact
    return frozenset(liked)


def _keys(pairs: Sequence[Pair], payloads: Sequence[Swiped | SwipeUndone]) -> dict[Pair, list[str]]:
    """The idempotency keys of each pair, oldest first."""
    keys: dict[Pair, list[str]] = {}
    for pair, payload in zip(pairs, payloads, strict=True):
        key = payload.idempotency_key
        if key is not None:
            if KEY_SEPARATOR in key:
                raise InvalidEvent("idempotency key holds a control character")
            keys.setdefault(pair, []).append(key)
    return keys


def _told(payloads: Sequence[Swiped | SwipeUndone]) -> tuple[list[int], list[str | None]]:
    """Each fact's action code, and the id of the card that was swiped, if the swipe says which."""
    if set(map(type, payloads)) == {Swiped}:  # mostly; a call a fact less
        swipes = cast("Sequence[Swiped]", payloads)
        return [ACTION_CODES[swipe.action] for swipe in swipes], [swipe.impression_id for swipe in swipes]
    return [_code(payload) for payload in payloads], [
        payload.impression_id if type(payload) is Swiped else None for payload in payloads
    ]


def _code(payload: Swiped | SwipeUndone) -> int:
    return ACTION_CODES[payload.action] if type(payload) is Swiped else 0


def _shown(impression_ids: Sequence[str | None]) -> tuple[columns.Uuids, columns.Smallints]:
    """(responses, positions in them) of the cards that were swiped; NULL and -1 where a swipe does not say which."""
    count = len(impression_ids)
    if impression_ids.count(None) == count:
        return columns.nulls(columns.Uuids, count), columns.smallints(np.full(count, -1))
    shown = [None if impression_id is None else unsealed(impression_id) for impression_id in impression_ids]
    return (
        columns.uuids([None if impression is None else impression.response_id for impression in shown]),
        columns.smallints([-1 if impression is None else impression.position for impression in shown]),
    )


def _joined(keys: list[str] | None) -> str | None:
    """The newest keys of a pair, newest first."""
    return KEY_SEPARATOR.join(keys[: -KEYS_A_PAIR - 1 : -1]) if keys else None


SINK = Sink("swipes", (Swiped, SwipeUndone), write)
