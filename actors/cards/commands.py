"""What the card shards are asked, and what they answer."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from configs.contracts.errors import PlatformError
from configs.contracts.events import Gender, LocationChanged, PreferencesChanged, ProfileChanged, Role, UserCreated
from configs.contracts.ids import ids_of

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
    """Sorted little-endian uint64 ``key64`` of everybody who must not be shown (``SwipesClient.seen_set``); or, with
    ``seen_base``, of those among them whose state has changed since that token."""
    seen_gone: bytes = b""
    """With ``seen_base``: those who changed and may be shown again."""
    seen_token: int = 0
    """Names this state of the set, to be kept for the next query; 0: not worth keeping."""
    seen_base: int = 0
    shown: bytes = b""
    """Sorted ``key64`` of more people to leave out, of this query only."""
    size: int = DECK_SIZE
    widest_km: int = 0
    """The viewer's own limit: past ``max_distance_km`` up to here the nearest of those who fit is looked for."""
    verified: bool = False
    """Whether the viewer is."""
    model_version: str = ""
    """Which model ranks; a shard that does not have it uses its default, and says so. Empty: the default."""
    with_features: bool = False
    """Whether the answer holds the values that the model read."""
    waiting: bytes = b""
    """Little-endian uint64 ``key64`` of people who like the viewer, answered or not: at most ``waiting.LIKES_MOST``."""
    waiting_boost: float = 0.0
    """What is added to the score of those of them who are eligible; 0: they are not put forward."""
    at_us: int = 0
    """Unix microseconds to rank for, so that several actors compute for one moment; 0: each for its own present."""


class DeckEntry(msgspec.Struct, frozen=True, gc=False):
    """One card before it is checked and filled from the read model."""

    user_id: str
    distance_km: float
    """Between the centres of both grid cells."""
    score: float
    """Natural logarithm, the boost of a waiting like included; higher is better; comparable within one model version."""
    match_version: str
    """``UserRecord.match_version`` as the shard knew it; a record with another one makes the card stale."""


class Deck(msgspec.Struct, frozen=True, gc=False):
    """The best candidates as columns, in the order in which they are shown, which is best first but for those whose like
    waits (``recommender.waiting``); fewer than asked for when there are no more.

    ``ids`` 16 bytes each (big-endian UUID), ``distances_km`` and ``scores`` little-endian float32, ``match_versions``
    big-endian uint64, in one order; see ``DeckEntry`` for what they mean.
    """

    ids: bytes
    distances_km: bytes
    scores: bytes
    match_versions: bytes
    model_version: str
    beyond_km: float | None = None
    """When there were fewer than asked for: how far away the nearest other person who fits is, up to ``widest_km``."""
    configuration: int = 0
    """Number of the ranking configuration that every actor has taken in."""
    decided_at_us: int = 0
    """Unix microseconds for which the features were computed."""
    feature_names: tuple[str, ...] = ()
    features: bytes = b""
    """(entries, names) little-endian float32, row by row."""

    def __len__(self) -> int:
        return len(self.ids) // 16

    @property
    def entries(self) -> list[DeckEntry]:
        """The cards one by one."""
        count = len(self)
        columns = (np.frombuffer(self.distances_km, "<f4"), np.frombuffer(self.scores, "<f4"))
        return [
            DeckEntry(user_id, distance, score, self.match_versions[8 * place : 8 * place + 8].hex())
            for place, user_id, distance, score in zip(
                range(count), ids_of(self.ids), *(column.tolist() for column in columns), strict=True
            )
        ]


class Shortlist(msgspec.Struct, frozen=True, gc=False):
    """One actor's share of a deck as columns, in the order of a deck: small to pickle, quick to merge.

    ``ids`` 16 bytes each (big-endian UUID), ``distances_km`` float32, ``scores`` float32, ``versions`` and
    ``match_versions`` uint64, all little-endian and in one order.
    """

    ids: bytes
    distances_km: bytes
    scores: bytes
    versions: bytes
    match_versions: bytes
    model_version: str
    beyond_km: float | None = None
    configuration: int = 0
    decided_at_us: int = 0
    feature_names: tuple[str, ...] = ()
    features: bytes = b""
    """(n, names) little-endian float32, row by row; empty unless asked for."""
    waiting: bytes = b""
    """(n,) whether a like waits, one byte each; empty: none does."""


class Explain(msgspec.Struct, frozen=True, gc=False):
    """Why a candidate has the score it has for a viewer. ``query``: the viewer's, as for a deck."""

    query: DeckQuery
    candidate_id: str


class Explanation(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """``terms`` sum to ``score``, the natural logarithm by which the card is ordered. ``eligible``: whether both sides'
    preferences accept each other within the viewer's radius now; whether the viewer has seen the candidate is not asked."""

    model_version: str
    configuration: int
    people_table: str
    score: float
    terms: dict[str, float]
    features: dict[str, float]
    distance_km: float
    eligible: bool


class NearestQuery(msgspec.Struct, frozen=True, gc=False):
    """The people nearest to a point, whatever their preferences (people who hide themselves included)."""

    latitude: float
    longitude: float
    radius_km: float
    count: int


class Nearest(msgspec.Struct, frozen=True, gc=False):
    """Nearest first: ``ids`` 16 bytes each (big-endian UUID), ``distances_km`` little-endian float32."""

    ids: bytes
    distances_km: bytes


NotedPayload = LocationChanged | PreferencesChanged | ProfileChanged | UserCreated


class Noted(msgspec.Struct, frozen=True, gc=False):
    """A change that is in the log: at ``version`` in its person's partition (0 for a creation, whatever its place)."""

    payload: NotedPayload
    version: int = 0


class SeenUnknown(PlatformError):
    """The query named changes of a set of seen people that this actor does not keep; ask again with the whole set."""
