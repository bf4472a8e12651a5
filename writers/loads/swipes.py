"""People's swipes, received likes and pairs as arrays: one aggregated value a person and table, no Python per row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from configs.contracts.loading import ACTION_BITS, ACTION_CODES, PAIR_BITS, PAIR_CODES, SwipeRows
from writers.connections import Connection

IDEMPOTENCY_KEYS = 64

_ACTIONS = {code: name for name, code in ACTION_CODES.items()}
OWN_RECORD = np.dtype([("high", ">u8"), ("low", ">u8"), ("fact", ">u8"), ("at_us", ">i8")])
_INCOMING = np.dtype([("low", ">u8"), ("fact", ">u8")])
_PAIRS = np.dtype([("high", ">u8"), ("low", ">u8"), ("fact", ">u8")])
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Where PostgreSQL's binary timestamps start."""

OWN = f"""
SELECT swiper_id, string_agg(
    uuid_send(swiped_id) || int8send(version << {ACTION_BITS} | action) || timestamptz_send(created_at), '')
FROM swipes WHERE swiper_id = ANY(%s) GROUP BY swiper_id
"""  # noqa: S608 - constants

INCOMING = f"""
SELECT swiped_id, string_agg(substr(uuid_send(swiper_id), 9) || int8send(version << {ACTION_BITS} | action), '')
FROM swipes WHERE swiped_id = ANY(%s) AND swiper_id > swiped_id AND ever_liked GROUP BY swiped_id
"""  # noqa: S608 - constants

PAIRS = f"""
SELECT member_id, string_agg(uuid_send(other_id) || int8send(generation::bigint << {PAIR_BITS} |
    CASE status {" ".join(f"WHEN '{status}' THEN {code}" for status, code in PAIR_CODES.items())} END), '')
FROM matches WHERE member_id = ANY(%s) GROUP BY member_id
"""  # noqa: S608 - constants

KEYS = """
SELECT swiper_id, swiped_id::text, idempotency_keys FROM (
    SELECT swiper_id, swiped_id, idempotency_keys, version,
           row_number() OVER (PARTITION BY swiper_id ORDER BY version DESC) AS place
    FROM swipes WHERE swiper_id = ANY(%s) AND idempotency_keys IS NOT NULL
) AS newest WHERE place <= %s ORDER BY swiper_id, version DESC
"""

_NOTHING = np.empty(0, np.uint64)


def swipes(conn: Connection, user_ids: Sequence[str], now: datetime) -> Mapping[str, SwipeRows]:
    """One entry for every id asked for; ``likes_today`` counts the UTC day of ``now``."""
    ids = [UUID(user_id) for user_id in user_ids]

    def arrays(query: str) -> dict[UUID, bytes]:
        return dict(conn.execute(query, (ids,), binary=True).fetchall())

    own, incoming, pairs = arrays(OWN), arrays(INCOMING), arrays(PAIRS)
    keys: defaultdict[UUID, list[str]] = defaultdict(list)
    for user, target, remembered in conn.execute(KEYS, (ids, IDEMPOTENCY_KEYS)).fetchall():
        keys[user] += (f"{target} {key}" for key in remembered)
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        user_id: person_rows(
            user, own.get(user, b""), incoming.get(user, b""), pairs.get(user, b""),
            tuple(reversed(keys[user][:IDEMPOTENCY_KEYS])), today,
        )
        for user_id, user in zip(user_ids, ids, strict=True)
    }


def person_rows(
    user: UUID, own_bytes: bytes, incoming_bytes: bytes, pair_bytes: bytes, keys: tuple[str, ...], today: datetime
) -> SwipeRows:
    """One person's rows of their values of OWN, INCOMING and PAIRS; ``keys``: remembered requests, oldest first."""
    own = np.frombuffer(own_bytes, OWN_RECORD)
    incoming = np.frombuffer(incoming_bytes, _INCOMING)
    pairs = np.frombuffer(pair_bytes, _PAIRS)
    facts, at_us = own["fact"].astype(np.uint64), own["at_us"].astype(np.int64)
    own_keys, own_facts = _sorted(own["low"], facts)
    incoming_keys, incoming_facts = _sorted(incoming["low"], incoming["fact"])
    high, low = np.uint64(user.int >> 64), np.uint64(user.int & 0xFFFF_FFFF_FFFF_FFFF)
    as_lower = pairs if not len(pairs) else pairs[(pairs["high"] > high) | ((pairs["high"] == high) & (pairs["low"] > low))]
    pair_keys, pair_facts = _sorted(as_lower["low"], as_lower["fact"])
    codes = pairs["fact"] & np.uint64((1 << PAIR_BITS) - 1)
    ended = pairs["low"] if not len(pairs) else pairs["low"][(codes == PAIR_CODES["unmatched"]) | (codes == PAIR_CODES["blocked"])]
    target, action, at, version = _newest(own, facts)
    likes, super_likes = _given_since(facts, at_us, today)
    return SwipeRows(
        own_keys=own_keys, own_facts=own_facts, incoming_keys=incoming_keys, incoming_facts=incoming_facts,
        pair_keys=pair_keys, pair_facts=pair_facts,
        last_target=target, last_action=action, last_swiped_at=at, last_version=version,
        day=today.date().isoformat(), likes_today=likes, super_likes_today=super_likes, idempotency_keys=keys,
        ended_keys=np.unique(ended.astype(np.uint64)) if len(ended) else _NOTHING,
    )


def _sorted(keys: NDArray[np.uint64], facts: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Both in native byte order, by key; of two people under one key the newer fact."""
    if not len(keys):
        return _NOTHING, _NOTHING
    native, values = keys.astype(np.uint64), facts.astype(np.uint64)
    order = np.argsort(native)
    native, values = native[order], values[order]
    if not (native[1:] == native[:-1]).any():
        return native, values
    order = np.lexsort((values, native))
    native, values = native[order], values[order]
    last = np.append(native[1:] != native[:-1], True)
    return native[last], values[last]


def _newest(own: NDArray[np.void], facts: NDArray[np.uint64]) -> tuple[str | None, str | None, datetime | None, int]:
    """(target, action, time, version) of the newest swipe; target and action are None after an undo."""
    if not len(own):
        return None, None, None, 0
    place = int(np.argmax(facts))
    row, fact = own[place], int(facts[place])
    at = _EPOCH + timedelta(microseconds=int(row["at_us"]))
    code = fact & ((1 << ACTION_BITS) - 1)
    if code == ACTION_CODES["undone"]:
        return None, None, at, fact >> ACTION_BITS
    target = str(UUID(int=int(row["high"]) << 64 | int(row["low"])))
    return target, _ACTIONS[code], at, fact >> ACTION_BITS


def _given_since(facts: NDArray[np.uint64], at_us: NDArray[np.int64], today: datetime) -> tuple[int, int]:
    """(likes, super likes) of rows written on the UTC day that begins at ``today``."""
    start = (today - _EPOCH) // timedelta(microseconds=1)
    if not len(at_us) or at_us.max() < start:
        return 0, 0
    day = facts[(at_us >= start) & (at_us < start + 86_400_000_000)]
    codes = day & np.uint64((1 << ACTION_BITS) - 1)
    return int((codes == ACTION_CODES["like"]).sum()), int((codes == ACTION_CODES["super_like"]).sum())
