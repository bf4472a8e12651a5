"""Decks that hold everybody there is, answered again as they were while nobody near has changed.

Such decks are asked for with every request, so that whoever comes is in the next answer (``serve_apps/matching/cards.py``).
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.cards.blocks import Blocks
from actors.cards.commands import DeckQuery, Shortlist
from actors.cards.nearby import Nearby
from recommender.candidates import distances_km

REMEMBERED: Final = 2_048
SEEN_BYTES_MOST: Final = 2_048
"""Of the seen people in a remembered query: all answers together take some 12 MB at most."""
FRESH: Final = timedelta(seconds=60)
"""Until the order follows people's activity again; cached decks keep theirs for 300 s."""

Held = tuple[object, ...]


class _Answer(NamedTuple):
    """``held``: the objects, by identity, that the answer depends on; ``people``: everybody in it."""

    changes: int
    at: datetime
    held: Held
    place: tuple[float, float]
    people: NDArray[np.int32]
    shortlist: Shortlist


class Answers:
    """The answers given last."""

    def __init__(self, blocks: Blocks, nearby: Nearby) -> None:
        self._blocks, self._nearby = blocks, nearby
        self._known: OrderedDict[DeckQuery, _Answer] = OrderedDict()
        self.repeated = 0

    def known(self, query: DeckQuery, now: datetime, held: Held, configuration: int) -> Shortlist | None:
        """What was answered to this query, when it would be answered again.

        ``held``: ranker and people table in force, ``configuration`` the number of the ranking configuration.
        """
        if not _repeatable(query):
            return None
        key = _key(query)
        answer = self._known.get(key)
        if answer is None:
            return None
        same = (
            timedelta() <= now - answer.at < FRESH and now.date() == answer.at.date()
            and answer.shortlist.configuration == configuration
            and all(one is other for one, other in zip(answer.held, held, strict=True))
        )
        if not same or self._changed(query, answer):
            del self._known[key]
            return None
        self._known.move_to_end(key)
        self.repeated += 1
        return answer.shortlist

    def keep(
        self, query: DeckQuery, now: datetime, held: Held, place: tuple[float, float], people: NDArray[np.int32],
        shortlist: Shortlist,
    ) -> None:
        """Remembers an answer that holds everybody who could be in it. ``place``: the centre of the viewer's cell."""
        if people.size >= query.size or shortlist.beyond_km is not None or not _repeatable(query):
            return
        self._known[_key(query)] = _Answer(self._blocks.changes, now, held, place, people, shortlist)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _changed(self, query: DeckQuery, answer: _Answer) -> bool:
        """Whether somebody in the answer, or near enough to be in it or just beyond, may have changed."""
        changed = self._blocks.changed_since(answer.changes)
        if changed is None:
            return True
        if not changed.size:
            return False
        if np.isin(changed, answer.people).any():
            return True
        away = distances_km(*answer.place, *self._nearby.points(self._blocks.group_of[changed]))
        return bool((away <= max(query.max_distance_km, query.widest_km)).any())


def _repeatable(query: DeckQuery) -> bool:
    """Whether the answer depends on nothing but the query, people and their places: not on activity, nor on a set of seen
    people that is kept elsewhere. Features that are logged are always of the present."""
    own = query.online_recently or query.seen_token or query.shown or query.with_features
    return not own and len(query.seen) <= SEEN_BYTES_MOST


def _key(query: DeckQuery) -> DeckQuery:
    return msgspec.structs.replace(query, at_us=0) if query.at_us else query
