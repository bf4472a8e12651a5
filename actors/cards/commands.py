"""What the card shards are asked, and what they answer."""

from __future__ import annotations

from typing import Final

import msgspec

from configs.contracts.events import Gender, Role

DECK_SIZE: Final = 50
ONLINE_RECENTLY_S: Final = 86_400
"""Seconds since the last activity up to which a person counts as recently online (a guess)."""


class DeckQuery(msgspec.Struct, frozen=True, gc=False):
    """Whom one viewer may be shown: the viewer's own facts, and the preferences narrowed by the request's filters.

    The position is snapped to the grid again by the shard, so the answer is the same from everywhere in a cell.
    """

    viewer_id: str
    latitude: float
    longitude: float
    birth_date: str
    role: Role
    gender: Gender | None
    age_min: int
    age_max: int
    max_distance_km: int
    roles: tuple[Role, ...]
    genders: tuple[Gender, ...] = ()
    """Empty: any, including people who did not state one."""
    verified_only: bool = False
    online_recently: bool = False
    seen: bytes = b""
    """Sorted little-endian uint64 ``key64`` of everybody who must not be shown (``SwipesClient.seen_set``)."""
    size: int = DECK_SIZE


class DeckEntry(msgspec.Struct, frozen=True, gc=False):
    """One card before it is checked and filled from the read model."""

    user_id: str
    distance_km: float
    """Between the centres of both grid cells."""
    score: float
    """Natural logarithm of a number in (0, 1]; higher is better; comparable within one model version."""
    match_version: str
    """``UserRecord.match_version`` as the shard knew it; a record with another one makes the card stale."""


class Deck(msgspec.Struct, frozen=True, gc=False):
    """The best candidates, best first; fewer than asked for when there are no more."""

    entries: list[DeckEntry]
    model_version: str


class Shortlist(msgspec.Struct, frozen=True, gc=False):
    """One actor's share of a deck as columns, best first: small to pickle, quick to merge.

    ``ids`` 16 bytes each (big-endian UUID), ``distances_km`` float32, ``scores`` float32, ``versions`` and
    ``match_versions`` uint64, all little-endian and in one order.
    """

    ids: bytes
    distances_km: bytes
    scores: bytes
    versions: bytes
    match_versions: bytes
    model_version: str
