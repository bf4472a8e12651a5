"""What shards ask of the writers, which alone read PostgreSQL: positions first, then rows.

Both sides exchange these plain values through the ``loader`` actor; neither package imports the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from configs.contracts.accounts import AccountRow, IdentityRow
from configs.contracts.albums import Album
from configs.contracts.content import PostRecord
from configs.contracts.moderation import CaseRow
from configs.contracts.payouts import Funds, Payouts
from configs.contracts.purchases import Payment
from configs.contracts.ranking import RankingConfiguration
from configs.contracts.subscribers import Subscriber
from configs.contracts.tiers import Offer, Shop

__all__ = [
    "ACTION_BITS", "ACTION_CODES", "GENERATION_BITS", "LOADER_ACTOR", "NAMESPACE", "PAIR_BITS", "PAIR_CODES", "UNKNOWN_ROLE",
    "AccountRow", "IdempotencyRow", "IdentityRow", "PackedIds", "PeopleRows", "Positions", "PostRecord", "RowLoader", "SessionRow",
    "SubscriptionRequestRow", "SwipeRows",
]

ACTION_CODES = {"undone": 0, "like": 1, "pass": 2, "super_like": 3}
"""Two bits: what a remembered swipe says now. 0 is withdrawn."""
ACTION_BITS = 2

PAIR_CODES = {"active": 1, "unmatched": 2, "blocked": 3, "undone": 4}
"""Three bits: the state of a pair that was ever matched or blocked."""
PAIR_BITS = 3
GENERATION_BITS = 8


@dataclass(frozen=True, slots=True)
class SwipeRows:
    """One person's swipes as the rows hold them; all arrays sorted by key, unsigned 64-bit.

    ``own_keys`` / ``own_facts`` (n,): ``key64`` of each swiped person; ``version << 2 | action code``.
    ``incoming_keys`` / ``incoming_facts`` (m,): likes (and withdrawn likes) received from people with a *higher* id.
    ``pair_keys`` / ``pair_facts`` (k,): pairs in which this person is the lower id:
    ``match generation << 3 | pair code``.
    """

    own_keys: NDArray[np.uint64]
    own_facts: NDArray[np.uint64]
    incoming_keys: NDArray[np.uint64]
    incoming_facts: NDArray[np.uint64]
    pair_keys: NDArray[np.uint64]
    pair_facts: NDArray[np.uint64]
    last_target: str | None = None
    """Whom the newest swipe named; None when there is none or it was undone."""
    last_action: str | None = None
    last_swiped_at: datetime | None = None
    last_version: int = 0
    day: str = ""
    """UTC date (ISO) that the two counters below are of."""
    likes_today: int = 0
    super_likes_today: int = 0
    idempotency_keys: tuple[str, ...] = ()
    """The newest 64 keys, oldest first, each as ``target id + " " + key``; ``key`` is the ``idempotency_key`` of a
    swiped or swipe_undone event as it stands there."""
    ended_keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    """Sorted ``key64`` of everybody whose pair with this person (lower or higher id) is unmatched or blocked."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One token family."""

    family_id: str
    user_id: str
    counter: int
    token_hash: str
    rotated_at: datetime
    expires_at: datetime
    revoked: bool
    version: int
    email_hash: str | None = None
    sessions_from: int = 0
    signed_in_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyRow:
    """One remembered request of an owner."""

    key: str
    """``route scope + " " + client key``."""
    body_digest: str
    event_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class SubscriptionRequestRow:
    """One request about a subscription, by the id that its Idempotency-Key gave it; kept for good.

    ``now``: of a change of tier, whether it was an upgrade.
    """

    subscription_id: str
    body_digest: str
    now: bool
    version: int


RECENT_MESSAGES = 256
"""Messages of a conversation that its shard remembers one by one; of older ones it asks the rows when it must."""
OLDER_REQUESTS = 16_384
"""Digests of older requests that the loader gives a shard; with more it only says so."""
RECENT_ENTRY = ">8s8sIIIq"
"""One of them: first 8 bytes of the sha256 of ``sender:client message id`` and of the text, number,
``ordinal << 1 | sent by the member of higher id``, epoch, Unix microseconds."""


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """One conversation as the rows hold it; ``recent``: its newest messages in order, each a ``RECENT_ENTRY``."""

    conversation_id: str
    low_id: str
    high_id: str
    status: str
    generation: int
    recent: bytes
    reads: Mapping[str, tuple[int, int]]
    """Reader -> (number of the last message read, how many of those up to there are the other's)."""


class PackedIds(Sequence[str]):
    """Ids as 16 big-endian bytes each; a text is made only when it is asked for."""

    __slots__ = ("packed",)

    def __init__(self, packed: bytes) -> None:
        self.packed = packed

    @classmethod
    def of(cls, user_ids: Sequence[str]) -> PackedIds:
        """Packs ids given as canonical text."""
        if isinstance(user_ids, cls):
            return user_ids
        return cls(bytes.fromhex("".join(user_ids).replace("-", "")))

    def __len__(self) -> int:
        return len(self.packed) // 16

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start = 16 * (index % len(self))
        h = self.packed[start : start + 16].hex()
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


UNKNOWN_ROLE = 255
"""Role code of a person whose creation is not in the rows yet."""


@dataclass(frozen=True, slots=True)
class PeopleRows:
    """A page of people for the card shards; every array has length n, in one order.

    ``birth_days`` are days since 1970-01-01 (may be negative); ``last_active_s`` Unix seconds (0: never);
    ``roles``/``genders`` codes and masks as in ``configs.contracts.people``. Everybody with a ``users`` row is there:
    someone without a location has NaN coordinates and cell 0 (only their next location_changed names a place, and it
    carries nothing else), someone whose user_created has not reached the rows has role ``UNKNOWN_ROLE`` and birth
    day 0, and someone whose status is not active has ``discoverable`` False. ``role_masks``: the stored roles, or
    the opposite role when none are stored (0 while the role is unknown).
    """

    user_ids: Sequence[str]
    """``PackedIds`` from the loader: a million texts would take longer to make than everything else."""
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]
    cells: NDArray[np.uint64]
    birth_days: NDArray[np.int32]
    roles: NDArray[np.uint8]
    genders: NDArray[np.uint8]
    age_min: NDArray[np.uint8]
    age_max: NDArray[np.uint8]
    max_distance_km: NDArray[np.uint16]
    role_masks: NDArray[np.uint8]
    gender_masks: NDArray[np.uint8]
    discoverable: NDArray[np.bool_]
    verified: NDArray[np.bool_]
    last_active_s: NDArray[np.int64]
    versions: NDArray[np.uint64]
    """Version of the newest user.updated event of any kind in the row (0: none yet)."""
    match_versions: NDArray[np.uint64]
    """Version of the newest user.updated event that carried a field of ``record_scripts.MATCH_FIELDS`` (0: none yet).

    That is gender in profile_changed; ageMin, ageMax, maxDistanceKm, roles, genders or discoverable in
    preferences_changed; any location_changed. Exactly ``UserRecord.match_version``: a card whose version differs from
    the record's is stale. So the sink keeps it beside ``version`` (users.match_version bigint not null default 0).
    """
    next_page: str | None = None


Positions = Mapping[str, Mapping[int, int]]
"""Topic -> partition -> next offset to read, in the log's present generation."""


class RowLoader(Protocol):
    """The writers' side of loading. Every method may raise DependencyUnavailable: retry later.

    Rows are at least as new as any positions returned *before* the call.
    """

    async def positions(self, topics: Sequence[str]) -> Positions:
        """The row writers' committed positions; a partition without one is 0."""
        ...

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        """A new epoch for each shard, higher than every one before it."""
        ...

    async def epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        """The newest epoch of each shard; shards that nobody has claimed are missing."""
        ...

    async def swipes(self, user_ids: Sequence[str]) -> Mapping[str, SwipeRows]:
        """One entry for every id asked for, empty arrays for people without swipes."""
        ...

    async def accounts(self, email_hashes: Sequence[str]) -> Mapping[str, AccountRow]:
        """Only claimed addresses are in the answer."""
        ...

    async def sessions(self, family_ids: Sequence[str]) -> Mapping[str, SessionRow]:
        """Only known families are in the answer."""
        ...

    async def identities(self, hashes: Sequence[str]) -> Mapping[str, IdentityRow]:
        """Only identities that have an account are in the answer."""
        ...

    async def albums(self, owner_ids: Sequence[str]) -> Mapping[str, Album]:
        """Only people who have uploaded anything are in the answer."""
        ...

    async def idempotency(self, owner_ids: Sequence[str]) -> Mapping[str, Sequence[IdempotencyRow]]:
        """The newest 64 of each owner, at most 24 h old, oldest first; owners without any are missing."""
        ...

    async def shops(self, creator_ids: Sequence[str]) -> Mapping[str, Shop]:
        """Only creators who ever sold something are in the answer."""
        ...

    async def offers(self, places: Sequence[str]) -> Mapping[str, Offer]:
        """What checkouts and instruments (``tiers.checkout_key``, ``tiers.instrument_key``) took of shops."""
        ...

    async def warm_tiers(self, tier_ids: Sequence[str]) -> Sequence[str]:
        """Writes whose these tiers are; returns those that exist."""
        ...

    async def subscribers(self, subscriber_ids: Sequence[str]) -> Mapping[str, Subscriber]:
        """Subscriptions by subscriber: all that may be live, and the newest of the others."""
        ...

    async def payments(self, places: Sequence[str]) -> Mapping[str, Payment | tuple[Payment, ...] | Payouts]:
        """By ``payment_place`` one payment, by ``post_place`` all of a payer's for a post, by ``payouts_place`` a creator's payouts.

        Only those that were recorded.
        """
        ...

    async def funds(self, creator_ids: Sequence[str]) -> Mapping[str, Funds]:
        """Balances at one moment on the primary, with the payouts that are in them; only of those who ever earned."""
        ...

    async def subscription_requests(self, places: Sequence[str]) -> Mapping[str, SubscriptionRequestRow]:
        """Requests by ``subscriber id/request id``; only those that were recorded are in the answer."""
        ...

    async def conversations(self, conversation_ids: Sequence[str]) -> Mapping[str, ConversationRow]:
        """Only conversations that exist, ended ones among them, are in the answer."""
        ...

    async def ordinals(self, places: Sequence[tuple[str, int, str]]) -> Sequence[tuple[int, int]]:
        """For each (conversation, number, reader): (the version of the last message in the rows, how many messages up to there
        are the other's; -1: no such message)."""
        ...

    async def older_requests(self, places: Sequence[tuple[str, int]]) -> Sequence[tuple[int, bytes]]:
        """For each (conversation, number): (the version of the last message in the rows, the first 8 bytes of the ``RECENT_ENTRY`` of
        every message before the number; more than ``OLDER_REQUESTS`` stand for even more)."""
        ...

    async def sent(self, places: Sequence[tuple[str, str]]) -> Sequence[tuple[int, bytes]]:
        """For each (conversation, message id): (the version of the last message in the rows, the message as a ``RECENT_ENTRY``, empty if
        there is none)."""
        ...

    async def warm_conversations(self, conversation_ids: Sequence[str]) -> Sequence[str]:
        """Writes the heads (last message, read marks) of these conversations; returns the ids that exist."""
        ...

    async def warm_messages(self, pages: Sequence[str]) -> Sequence[str]:
        """Writes windows and pages of messages, each named by a ``conversations.page_name``; returns those that exist."""
        ...

    async def posts(self, names: Sequence[str]) -> Mapping[str, PostRecord]:
        """Posts by ``creator id/post id``; only those that exist are in the answer."""
        ...

    async def warm_posts(self, post_ids: Sequence[str]) -> Sequence[str]:
        """Writes these posts with their counts and newest comments; returns the ids that exist."""
        ...

    async def warm_homes(self, user_ids: Sequence[str]) -> Sequence[str]:
        """Fills the home feeds of these people; returns all of them."""
        ...

    async def people(self, page: str | None, limit: int) -> PeopleRows:
        """Everybody in order of id, after ``page`` (None: from the start); ``next_page`` None after the last."""
        ...

    async def ranking(self) -> RankingConfiguration:
        """The ranking configuration that the rows hold."""
        ...

    async def warm_people(self, user_ids: Sequence[str]) -> Sequence[str]:
        """Writes all read-model keys of these people; returns the ids that exist."""
        ...

    async def warm_addresses(self, email_hashes: Sequence[str]) -> Sequence[str]:
        """Writes the credential keys of these addresses; returns the hashes that exist."""
        ...

    async def warm_media(self, media_ids: Sequence[str]) -> Sequence[str]:
        """Writes the records of these media; returns the ids that exist."""
        ...

    async def cases(self, target_ids: Sequence[str]) -> Mapping[str, CaseRow]:
        """Only targets about which something was decided or asked are in the answer."""
        ...

    async def addresses(self, user_ids: Sequence[str]) -> Mapping[str, str]:
        """Person -> hash of their account's address; people without an account are missing."""
        ...

    async def warm_moderation(self, pages: Sequence[str]) -> Sequence[str]:
        """Caches what moderators look at, each named by a ``moderation_views.page_name``; returns the names."""
        ...

    async def warm_exports(self, user_ids: Sequence[str]) -> Sequence[str]:
        """Has files with these people's own data made where there are none; returns those whose file is there."""
        ...

    async def warm_money(self, pages: Sequence[str]) -> Sequence[str]:
        """Caches pages of people's money, each named by a ``statements.page_name``; returns the names."""
        ...

    async def warm_sessions(self, user_ids: Sequence[str]) -> Sequence[str]:
        """Caches where these people are signed in; returns those who are."""
        ...


LOADER_ACTOR = "loader-0"
NAMESPACE = "sugar"
"""Ray namespace of every actor of the platform."""

# The loader actor takes ``call.remote(method, *args)`` with the method names of RowLoader.
