"""What a swipe shard is asked, and what it answers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from actors.idempotency import IdempotencyConflict
from configs.contracts.events import SwipeAction

__all__ = [
    "Delivery",
    "EndPair",
    "IdempotencyConflict",
    "LastSwipe",
    "LimitReached",
    "PairEnded",
    "Seen",
    "SeenKeys",
    "SeenSet",
    "Swipe",
    "SwipeAnswer",
    "Swiped",
    "Undo",
    "UndoRefused",
    "Undone",
    "Verdict",
]


class _Message(msgspec.Struct, frozen=True, gc=False):
    """Base of all messages. Structs: they are pickled several times faster than dataclasses."""


class Swipe(_Message, frozen=True, gc=False):
    """One swipe. The route has checked that the target exists, is active, not blocked and not the swiper."""

    swiper_id: str
    target_id: str
    action: SwipeAction
    idempotency_key: str | None = None
    impression_id: str | None = None


class SwipeAnswer(_Message, frozen=True, gc=False):
    """The swipe is durable; what it made of the pair.

    ``recorded`` False: it repeated what was recorded before, nothing was appended. ``match_version``: the version of
    the ``matched`` event; 0 (and ``matched_at`` None): the match is so old that rows and projections hold it.
    """

    matched: bool = False
    match_id: str | None = None
    generation: int = 0
    match_version: int = 0
    matched_at: datetime | None = None
    recorded: bool = False


class LimitReached(_Message, frozen=True, gc=False):
    """The person's likes (or super likes) of this UTC day are used up; nothing was recorded."""

    resets_at: datetime


class LastSwipe(_Message, frozen=True, gc=False):
    """Whom an undo would concern: the target of the person's last swipe, unless the key names an earlier undo."""

    swiper_id: str
    idempotency_key: str | None = None


class Swiped(_Message, frozen=True, gc=False):
    """The target of the last swipe; None: there is none to undo. ``undone``: the key's undo is recorded already."""

    target_id: str | None
    undone: bool = False


class Undo(_Message, frozen=True, gc=False):
    """Withdraw the person's last swipe; with a ``target_id`` only if it named that one.

    ``until``: the conversation is held no longer than that, so nothing is withdrawn later; None: it need not be held.
    """

    swiper_id: str
    idempotency_key: str | None = None
    target_id: str | None = None
    until: datetime | None = None


class Undone(_Message, frozen=True, gc=False):
    """The swipe is withdrawn and the pair's authority knows it.

    ``ended_match``: the pair had a match and an undo ended it (this one, or an earlier one after which it did not match
    again). ``match_version``: the version of that ``unmatched`` event; 0: rows and projections hold it. ``generation``: of the
    match that ended.
    """

    target_id: str
    action: SwipeAction
    ended_match: bool = False
    match_version: int = 0
    generation: int = 0


class UndoRefused(_Message, frozen=True, gc=False):
    """Nothing was withdrawn."""

    reason: Literal["nothing_to_undo", "too_late", "changed"]


class EndPair(_Message, frozen=True, gc=False):
    """End the match of a pair; ``blocked`` also keeps a pair from ever matching."""

    user_id: str
    other_id: str
    reason: Literal["unmatched", "blocked"]


class PairEnded(_Message, frozen=True, gc=False):
    """The pair's state. ``ended`` False: there is no match to end (only for ``unmatched``).

    ``version`` of the ``unmatched`` event; 0: nothing ended, or so long ago that rows and projections hold it.
    """

    match_id: str
    ended: bool
    generation: int = 0
    version: int = 0


class Seen(_Message, frozen=True, gc=False):
    """Which of these people must not be shown to the viewer. ``keys``: ``key64`` of each, little-endian uint64.

    Answered by a byte for each, in order: 1 or 0.
    """

    viewer_id: str
    keys: bytes


class SeenSet(_Message, frozen=True, gc=False):
    """Everybody who must not be shown to the viewer, or what has changed since a token of an earlier answer."""

    viewer_id: str
    since: int = 0


class SeenKeys(_Message, frozen=True, gc=False):
    """Sorted little-endian uint64 ``key64``s of everybody who must not be shown.

    ``token`` names this state; 0: the set is so small that it is always told whole. ``base`` not 0: only what changed
    since that token is told: ``keys`` must not be shown now, ``gone`` may be.
    """

    keys: bytes
    token: int = 0
    base: int = 0
    gone: bytes = b""


class Delivery(_Message, frozen=True, gc=False):
    """What a swiper's shard tells the pair's authority: the swipe on ``target_id`` says ``code`` since ``version``.

    ``code``: ``loading.ACTION_CODES``. Delivering again, or late, changes nothing. Version 0: nothing new; the pair is only judged.
    """

    swiper_id: str
    target_id: str
    code: int
    version: int


class Verdict(_Message, frozen=True, gc=False):
    """The pair after a delivery: ``loading.PAIR_CODES`` (0: never matched), match generation, and when it became so."""

    code: int = 0
    generation: int = 0
    version: int = 0
    at: datetime | None = None
