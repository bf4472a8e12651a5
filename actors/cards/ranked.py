"""What stands between a query and its deck: who may be in it, who is worth scoring, who is best."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.cards.commands import DeckQuery
from recommender import waiting
from recommender.ranking import Floats, Ids, Ranker, best


class Crowd(NamedTuple):
    """People in some rows: how far away they are, and who likes the viewer (None: nobody)."""

    rows: Ids
    distances: NDArray[np.float64]
    waiting: NDArray[np.bool_] | None

    def only(self, places: Ids) -> Crowd:
        return Crowd(
            self.rows[places], self.distances[places], None if self.waiting is None else self.waiting[places]
        )


class Asked(NamedTuple):
    """A query whose deck is to be ranked: ``crowd`` of ``everybody`` is worth scoring; seconds spent to filter and narrow."""

    query: DeckQuery
    ranker: Ranker
    unseen: Callable[[Ids], NDArray[np.bool_]]
    everybody: Crowd
    crowd: Crowd
    seconds: tuple[float, float]


class Best(NamedTuple):
    """(places, scores, who likes the viewer) of the best ranked, and of all who like the viewer; a query's share of the time."""

    places: Ids
    scores: Floats
    waiting: NDArray[np.bool_] | None
    seconds: float


def ranked(
    scores: Floats, waits: NDArray[np.bool_] | None, boost: float, size: int
) -> tuple[Ids, Floats, NDArray[np.bool_] | None]:
    """(places, scores, who likes the viewer) of the best ``size``, and of all who like the viewer."""
    if waits is None:
        return *best(np.arange(scores.size), scores, size), None
    return waiting.ranked(scores, waits, boost, size)
