"""Swipes, matches, cards and what ranks them."""

from __future__ import annotations

from typing import ClassVar, Literal

from configs.contracts import topics
from configs.contracts.events.base import Id, Instant, Payload
from configs.contracts.ranking import RankingConfiguration
from configs.contracts.topics import Topic

SwipeAction = Literal["like", "pass", "super_like"]


MatchEnd = Literal["unmatched", "blocked", "undone"]


class Swiped(Payload, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "swiped"
    swiper_id: Id
    swiped_id: Id
    action: SwipeAction
    idempotency_key: str | None = None
    impression_id: str | None = None


class SwipeUndone(Payload, frozen=True, kw_only=True):
    """The swiper's last swipe is withdrawn: the pair is as if it had never been swiped from this side."""

    TYPE: ClassVar[str] = "swipe_undone"
    swiper_id: Id
    swiped_id: Id
    undone_action: SwipeAction
    idempotency_key: str | None = None


class Matched(Payload, frozen=True, kw_only=True):
    """A mutual like. The event's id is ``derived_id(match_id, f"matched:{generation}")``."""

    TYPE: ClassVar[str] = "matched"
    match_id: Id
    low_id: Id
    high_id: Id
    generation: int


class Unmatched(Payload, frozen=True, kw_only=True):
    """The pair's match has ended, or (blocked) can never begin. ``generation`` is the one that ended."""

    TYPE: ClassVar[str] = "unmatched"
    match_id: Id
    low_id: Id
    high_id: Id
    generation: int
    ended_by: Id
    reason: MatchEnd


class CardsServed(Payload, frozen=True, kw_only=True):
    """One response of cards; the envelope's id is the response's. The tuples have one order, that of the response.

    ``positions`` from 0 in the deck; ``propensities``: the probability with which a card stands where it stands.
    ``decided_at``: when the deck was ranked, which is what features describe. Of a stated sample of decks
    ``feature_values`` holds a row of ``feature_names`` for each card, one after another.
    """

    TYPE: ClassVar[str] = "cards_served"
    viewer_id: Id
    configuration: int
    model_version: str
    experiment: str | None = None
    arm: str | None = None
    decided_at: Instant
    candidate_ids: tuple[Id, ...]
    positions: tuple[int, ...]
    scores: tuple[float, ...]
    propensities: tuple[float, ...]
    feature_names: tuple[str, ...] = ()
    feature_values: tuple[float, ...] = ()


class CardsSeen(Payload, frozen=True, kw_only=True):
    """Cards that the person's device has shown; the tuples have one order. Reporting one again changes nothing."""

    TYPE: ClassVar[str] = "cards_seen"
    viewer_id: Id
    response_ids: tuple[Id, ...]
    candidate_ids: tuple[Id, ...]
    positions: tuple[int, ...]


class RankingConfigured(Payload, frozen=True, kw_only=True):
    """What ranks cards from now on. Only the first event with a number above all before it counts."""

    TYPE: ClassVar[str] = "ranking_configured"
    configuration: RankingConfiguration
    reason: Literal["deploy", "rollback", "experiment", "refresh"]


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.MATCHING_SWIPE, Swiped),
    (topics.MATCHING_SWIPE, SwipeUndone),
    (topics.MATCHING_CARDS_SERVED, CardsServed),
    (topics.MATCHING_CARDS_SERVED, CardsSeen),
    (topics.MATCHING_MATCHED, Matched),
    (topics.MATCHING_MATCHED, Unmatched),
    (topics.RANKING_CONFIGURED, RankingConfigured),
)
