"""One person's memory in a swipe shard: own swipes, likes received from higher ids, pairs, limits, requests."""

from __future__ import annotations

import hashlib
import secrets
from array import array
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from actors.swipes.commands import SeenKeys
from actors.swipes.facts import STALE, FactMap
from configs.contracts.events import SwipeAction, Swiped, SwipeUndone
from configs.contracts.ids import key64
from configs.contracts.loading import ACTION_BITS, ACTION_CODES, PAIR_BITS, PAIR_CODES, SwipeRows

LIKES = (ACTION_CODES["like"], ACTION_CODES["super_like"])
PASS = ACTION_CODES["pass"]
REMEMBERED_REQUESTS = 64
TOLD_WHOLE = 2_048
"""Seen people up to which the whole set is told each time: 16 KB."""
CHANGES_REMEMBERED = 512
_COUNT_BITS = 32
_DIGEST_BYTES = 7
_REQUEST_BYTES = 16
_PAIR_MASK = (1 << PAIR_BITS) - 1
SWIPE_SCOPE = "swipe"
SWIPED_SCOPE = "swiped"
"""In the log and in rows, of swipes that name their action; memory knows them by ``SWIPE_SCOPE`` and the key alone."""
UNDO_SCOPE = "undo"

ACTIVE, UNMATCHED, BLOCKED, UNDONE = (PAIR_CODES[name] for name in ("active", "unmatched", "blocked", "undone"))
_RANK = {ACTIVE: 0, UNDONE: 1, UNMATCHED: 2, BLOCKED: 3}
"""Within one match generation a pair only moves up, and a block is final in all; so states merge in any order to the same one."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The state of a pair that was ever matched or blocked; version 0 and no time when it came from rows."""

    generation: int
    code: int
    version: int = 0
    at: datetime | None = None

    def succeeds(self, other: Pair) -> bool:
        """Whether this state comes after the other, or tells more of the same one."""
        mine, others = self._order(), other._order()
        return mine > others or (mine == others and not other.version)

    def _order(self) -> tuple[bool, int, int]:
        return self.code == BLOCKED, self.generation, _RANK[self.code]


class Changes:
    """The keys whose state has changed last, in order, so that a large set need not be told again and again.

    A token is this object's random number and how many changes there were.
    """

    __slots__ = ("_count", "_keys", "_lineage")

    def __init__(self) -> None:
        self._lineage = secrets.randbits(31) + 1
        self._count = 0
        self._keys: deque[int] = deque(maxlen=CHANGES_REMEMBERED)

    @property
    def token(self) -> int:
        return self._lineage << _COUNT_BITS | self._count

    def note(self, key: int) -> None:
        self._count += 1
        self._keys.append(key)

    def since(self, token: int) -> list[int] | None:
        """Sorted keys that changed since the token; None: it is another life's, or too many have changed."""
        ago = self.token - token
        if token >> _COUNT_BITS != self._lineage or not 0 <= ago <= len(self._keys):
            return None
        return sorted(set(islice(reversed(self._keys), ago)))


def _packed(keys: NDArray[np.uint64]) -> bytes:
    return keys.astype("<u8").tobytes()


def swipe_request(action: str, key: str) -> str:
    """The ``idempotency_key`` of a swiped event; names what was said, so that the key cannot say something else later."""
    return f"{SWIPED_SCOPE} {action} {key}"


def undo_request(action: str, key: str) -> str:
    """The ``idempotency_key`` of a swipe_undone event; names what was undone, so that a replay can repeat the answer."""
    return f"{UNDO_SCOPE} {action} {key}"


def _split(text: str) -> tuple[str, str | None]:
    """(the hashed request, the action of the swipe or of what was undone; None: written before swipes named theirs)."""
    scope, _, rest = text.partition(" ")
    if scope in (SWIPED_SCOPE, UNDO_SCOPE):
        action, _, key = rest.partition(" ")
        return f"{SWIPE_SCOPE if scope == SWIPED_SCOPE else UNDO_SCOPE} {key}", action
    return text, None


def _digest(request: str) -> bytes:
    return hashlib.blake2b(request.encode(), digest_size=_DIGEST_BYTES).digest()


class Requests:
    """The newest 64 Idempotency-Keys of one person, 16 bytes each: hash of the key, code of the action, ``key64`` of its target.

    56 hashed bits: a person would have to make 10**7 requests to confuse two of their own.
    """

    __slots__ = ("_entries", "_undone")

    def __init__(self) -> None:
        self._entries = bytearray()
        self._undone: dict[bytes, tuple[str, SwipeAction]] | None = None

    def __len__(self) -> int:
        return len(self._entries) // _REQUEST_BYTES

    def remember(self, text: str, target_id: str) -> None:
        """Keeps an event's ``idempotency_key`` and whom the event named."""
        request, action = _split(text)
        digest = _digest(request)
        if self._find(digest) >= 0:
            return
        entry = digest + bytes((ACTION_CODES.get(action or "", 0),)) + key64(target_id).to_bytes(8, "big")
        if len(self) == REMEMBERED_REQUESTS:
            self._forget_oldest()
        self._entries += entry
        if action is not None and request.startswith(UNDO_SCOPE):
            if self._undone is None:
                self._undone = {}
            self._undone[digest] = (target_id, action)  # type: ignore[assignment]  # an action of the event's own

    def swiped(self, key: str) -> tuple[int, int] | None:
        """(``key64`` of whom the swipe under this key named, its action's code; 0: not known); None: the key is not known."""
        place = self._find(_digest(f"{SWIPE_SCOPE} {key}"))
        if place < 0:
            return None
        entry = self._entries[place : place + _REQUEST_BYTES]
        return int.from_bytes(entry[_DIGEST_BYTES + 1 :], "big"), entry[_DIGEST_BYTES]

    def undone(self, key: str) -> tuple[str, SwipeAction] | None:
        """What the undo under this key withdrew."""
        return None if self._undone is None else self._undone.get(_digest(f"{UNDO_SCOPE} {key}"))

    def _forget_oldest(self) -> None:
        """In the buffer that is there: a deletion at its front would make the next entries ask for another one."""
        if self._undone:
            self._undone.pop(bytes(self._entries[:_DIGEST_BYTES]), None)
        self._entries[:-_REQUEST_BYTES] = self._entries[_REQUEST_BYTES:]
        del self._entries[-_REQUEST_BYTES:]

    def _find(self, digest: bytes) -> int:
        place = self._entries.find(digest)
        while place >= 0 and place % _REQUEST_BYTES:
            place = self._entries.find(digest, place + 1)
        return place


class Person:
    """Until ``loaded``, own swipes wait in order; everything else merges with rows in any order."""

    __slots__ = (
        "_row_pair_facts",
        "_row_pair_keys",
        "changed",
        "changes",
        "day",
        "ended",
        "incoming",
        "last_action",
        "last_at",
        "last_target",
        "last_version",
        "likes",
        "loaded",
        "own",
        "pairs",
        "requests",
        "super_likes",
        "used",
        "waiting",
    )

    def __init__(self) -> None:
        self.loaded = False
        self.waiting: list[tuple[Swiped | SwipeUndone, datetime, int]] = []
        self.own = FactMap()
        self.incoming: FactMap | None = None
        self.pairs: dict[int, Pair] | None = None
        self.ended: set[int] | None = None
        self.requests = Requests()
        self.last_target: str | None = None
        self.last_action: SwipeAction | None = None
        self.last_at: datetime | None = None
        self.last_version = 0
        self.day = 0
        self.likes = 0
        self.super_likes = 0
        self.changes: Changes | None = None
        self.changed = 0
        self.used = 0
        self._row_pair_keys = array("Q")
        self._row_pair_facts = array("I")

    def pair(self, key: int) -> Pair | None:
        """The state of the pair with a person of higher id; None: never matched nor blocked."""
        known = self.pairs.get(key) if self.pairs else None
        return known if known is not None else self._row_pair(key)

    def join(self, key: int, state: Pair) -> None:
        """Takes in a state of the pair with a person of higher id; the later one stays."""
        known = self.pair(key)
        if known is None or state.succeeds(known):
            if self.pairs is None:
                self.pairs = {}
            # A block that follows from rows may not know the latest match that it ends.
            behind = known is not None and state.generation < known.generation
            self.pairs[key] = replace(state, generation=known.generation) if known is not None and behind else state

    def receive(self, key: int, code: int, version: int) -> None:
        """Takes in what a person of higher id says of this one; a pass on no earlier like is not worth remembering."""
        if code == PASS and self.loaded and not (self.incoming is not None and self.incoming.get(key)):
            return
        if self.incoming is None:
            self.incoming = FactMap()
        self.incoming.put(key, version << ACTION_BITS | code)

    def end(self, key: int) -> None:
        """The pair with this person (lower or higher id) has ended."""
        if self.ended is None:
            self.ended = set()
        self.ended.add(key)
        if self.changes is not None:
            self.changes.note(key)

    def swiped(self, payload: Swiped | SwipeUndone, at: datetime, version: int) -> int:
        """Takes in an own event; returns the fact before, or ``facts.STALE`` if a newer one is known."""
        undone = isinstance(payload, SwipeUndone)
        code = 0 if isinstance(payload, SwipeUndone) else ACTION_CODES[payload.action]
        if payload.idempotency_key is not None:
            self.requests.remember(payload.idempotency_key, payload.swiped_id)
        before = self.own.put(key64(payload.swiped_id), version << ACTION_BITS | code)
        if before == STALE:
            return STALE
        if self.changes is not None:
            self.changes.note(key64(payload.swiped_id))
        if version > self.last_version:
            self.last_version = version
            self.last_target = None if undone else payload.swiped_id
            self.last_action = None if isinstance(payload, SwipeUndone) else payload.action
            self.last_at = at
        if code in LIKES:
            self._count(code, at.toordinal())
        return before

    def given(self, today: int) -> tuple[int, int]:
        """(likes, super likes) given on this UTC day (its ordinal)."""
        return (self.likes, self.super_likes) if self.day == today else (0, 0)

    def load(self, rows: SwipeRows | None) -> None:
        """Merges what the rows hold with what was taken in before. Only the first load counts: memory is newer."""
        if self.loaded:
            return
        self.loaded = True
        waiting, self.waiting = self.waiting, []
        if rows is not None:
            self.own = FactMap.of(rows.own_keys, rows.own_facts)
            self._load_received(rows)
            self.last_target = rows.last_target
            self.last_action = rows.last_action  # type: ignore[assignment]  # written by this shard
            self.last_at = rows.last_swiped_at
            self.last_version = max(rows.last_version, self.own.newest())
            self.day = date.fromisoformat(rows.day).toordinal() if rows.day else 0
            self.likes, self.super_likes = rows.likes_today, rows.super_likes_today
            for entry in rows.idempotency_keys:
                target_id, _, text = entry.partition(" ")
                self.requests.remember(text, target_id)
        for payload, at, seen in waiting:
            self.swiped(payload, at, seen)

    def seen(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """For each ``key64`` (n,): whether that person was swiped (and the swipe not undone) or the pair has ended."""
        swiped = self.own.holds(keys)
        if self.ended:
            ended = self.ended
            swiped |= np.array([key in ended for key in keys.tolist()], np.bool_)
        return swiped

    def seen_set(self, since: int = 0) -> SeenKeys:
        """Everybody for whom ``seen`` is true; of many, when ``since`` is recent enough, only what has changed."""
        if self.changes is not None and (changed := self.changes.since(since)) is not None:
            keys = np.array(changed, np.uint64)
            held = self.seen(keys)
            return SeenKeys(_packed(keys[held]), self.changes.token, since, _packed(keys[~held]))
        keys = self.own.present()
        if self.ended:
            keys = np.union1d(keys, np.array(list(self.ended), np.uint64))
        if len(keys) > TOLD_WHOLE and self.changes is None:
            self.changes = Changes()
        token = 0 if self.changes is None else self.changes.token
        return SeenKeys(_packed(keys), token)

    def facts(self) -> int:
        """How many swipes and received likes are remembered."""
        return len(self.own) + (0 if self.incoming is None else len(self.incoming))

    def fact_bytes(self) -> int:
        """Bytes of the swipes and received likes that are remembered, spare room included."""
        return self.own.nbytes() + (0 if self.incoming is None else self.incoming.nbytes())

    def _load_received(self, rows: SwipeRows) -> None:
        received, self.incoming = self.incoming, None
        if len(rows.incoming_keys):
            self.incoming = FactMap.of(rows.incoming_keys, rows.incoming_facts)
        if received is not None:
            if self.incoming is None:
                self.incoming = received
            else:
                for key, fact in received.items():
                    self.incoming.put(key, fact)
        self._row_pair_keys = array("Q", rows.pair_keys.astype("u8").tobytes())
        self._row_pair_facts = array("I", rows.pair_facts.astype("u4").tobytes())
        for key, state in list((self.pairs or {}).items()):
            in_rows = self._row_pair(key)
            if in_rows is not None and not state.succeeds(in_rows):
                del self.pairs[key]  # type: ignore[union-attr]  # it has items
        over = {
            key for key, fact in zip(self._row_pair_keys, self._row_pair_facts, strict=True)
            if fact & _PAIR_MASK in (UNMATCHED, BLOCKED)
        }.union(rows.ended_keys.tolist())
        if over:
            self.ended = over.union(self.ended or ())

    def _row_pair(self, key: int) -> Pair | None:
        keys = self._row_pair_keys
        place = bisect_left(keys, key)
        if place < len(keys) and keys[place] == key:
            fact = self._row_pair_facts[place]
            return Pair(fact >> PAIR_BITS, fact & _PAIR_MASK)
        return None

    def _count(self, code: int, day: int) -> None:
        if day > self.day:
            self.day, self.likes, self.super_likes = day, 0, 0
        if day == self.day:
            if code == ACTION_CODES["like"]:
                self.likes += 1
            else:
                self.super_likes += 1
