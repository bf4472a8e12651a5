"""The platform's own path through a simulated month: prices of the night before, waiting likes put forward and mixed in.

The steps are those of the running platform: prices are solved on candidate lists (``congestion``), a score is what
``exposure.Exposed`` makes of both wishes, and ``recommender.waiting`` is what a card shard calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from configs.contracts.ranking import WAITING_LIKE
from recommender.congestion.blend import blended, solve_blend
from recommender.congestion.prices import Prices, solve_lists
from recommender.simulation.congested import Floats, Scorer, dealt
from recommender.simulation.days import Lists, Policy, View
from recommender.simulation.dealing import Bools, best_unseen, may_deal
from recommender.waiting import LIKES_MOST, boosted, mixed

Wishes = tuple[Floats, Floats]
"""(likes, liked) of some ordered pairs, of one shape."""


def product_prices(starts: NDArray[np.int64], candidates: NDArray[np.int32], wishes: Wishes) -> Prices:
    """Prices of pairs that are worth the product of both probabilities."""
    return solve_lists(starts, candidates, wishes[0] * wishes[1])


def blend_prices(starts: NDArray[np.int64], candidates: NDArray[np.int32], wishes: Wishes) -> Prices:
    """Prices of pairs that are worth ``congestion.blend`` of both probabilities."""
    return solve_blend(starts, candidates, *wishes)


RULES: Final[Mapping[str, tuple[Callable[[Floats, Floats], Floats], Callable[..., Prices]]]] = {
    "blend": (blended, blend_prices), "product": (np.multiply, product_prices),
}
"""Rule of ``Reciprocal`` -> (what a pair is worth, its prices)."""


class ListPriced:
    """Estimates of today, prices of the night before on everybody's lists of people they may still be shown.

    On the first day nobody has a price. One instance lives through one simulation.
    """

    def __init__(self, rule: str) -> None:
        self._worth, self._solve = RULES[rule]
        self._log_prices: Floats | None = None
        self._temperature = 1.0

    def __call__(self, view: View) -> tuple[Floats, Floats]:
        left, right = view.left.estimates, view.right.estimates
        n, m = left.shape
        price = np.zeros(n + m, np.float32) if self._log_prices is None else self._log_prices
        scores = tuple(
            np.asarray(self._worth(one, other.T) / np.float32(self._temperature) + theirs, np.float32)
            for one, other, theirs in ((left, right, price[n:]), (right, left, price[:n]))
        )
        self._look_ahead(view)
        return scores[0], scores[1]

    def _look_ahead(self, view: View) -> None:
        n = view.left.present.size
        lists = may_deal(view.left, view.right), may_deal(view.right, view.left)
        starts = np.concatenate(([0], np.cumsum(np.concatenate([allowed.sum(axis=1) for allowed in lists])))).astype(np.int64)
        candidates = np.concatenate((np.nonzero(lists[0])[1] + n, np.nonzero(lists[1])[1])).astype(np.int32)
        left, right = view.left.estimates, view.right.estimates
        prices = self._solve(starts, candidates, (
            np.concatenate((left[lists[0]], right[lists[1]])), np.concatenate((right.T[lists[0]], left.T[lists[1]])),
        ))
        self._log_prices, self._temperature = prices.log_prices, prices.temperature


class PutForward:
    """Deals as the platform does: whose like waits, of the newest ``LIKES_MOST``, is put forward and mixed in.

    One instance lives through one simulation: it remembers on which day each like was first known.
    """

    def __init__(self, scorer: Scorer, boost: float = WAITING_LIKE) -> None:
        self._scorer, self._boost = scorer, boost
        self._since: list[NDArray[np.int16]] = []

    def __call__(self, view: View) -> tuple[Lists, Lists]:
        sides = (view.left, view.right), (view.right, view.left)
        if view.day == 0:
            self._since = [np.full(side.liked.shape, -1, np.int16) for side, _ in sides]
        lists = []
        for (side, other), since, scores in zip(sides, self._since, self._scorer(view), strict=True):
            liked = other.liked.T
            since[liked & (since < 0)] = view.day
            lists.append(best_mixed(scores, newest(since), may_deal(side, other), self._boost, view.cards))
        return lists[0], lists[1]


def newest(since: NDArray[np.int16], most: int = LIKES_MOST) -> Bools:
    """(n, m) which likes count: the ``most`` newest of each row, by the day they came; below 0: there is none."""
    counts: Bools = since >= 0
    crowded = np.flatnonzero(counts.sum(axis=1) > most)
    if crowded.size:
        kept = np.argsort(-since[crowded], axis=1, kind="stable")[:, :most]
        counts[crowded] = False
        counts[crowded[:, None], kept] = True
    return counts


def best_mixed(scores: Floats, waiting: Bools, allowed: Bools, boost: float, cards: int) -> Lists:
    """(n, cards) int64: the allowed columns of (n, m), those whose like waits put forward and mixed with the others;
    -1 where there are no more."""
    if not scores.shape[1]:
        return np.full((scores.shape[0], cards), -1)
    given = boosted(scores, waiting, boost)
    found = np.concatenate([best_unseen(given, allowed & kind, cards) for kind in (waiting, ~waiting)], axis=1)
    there = found >= 0
    worth = np.where(there, np.take_along_axis(given, np.maximum(found, 0), axis=1), np.float32(-np.inf))
    order = np.argsort(-worth, axis=1, kind="stable")
    found, there = np.take_along_axis(found, order, axis=1), np.take_along_axis(there, order, axis=1)
    waits = np.take_along_axis(waiting, np.maximum(found, 0), axis=1) & there
    for row in np.flatnonzero(waits.any(axis=1)):
        count = int(there[row].sum())
        found[row, :count] = found[row, :count][mixed(waits[row, :count])]
    return found[:, :cards]


POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {
    "served": lambda: PutForward(ListPriced("blend")),
    "served, product": lambda: PutForward(ListPriced("product")),
    "served, likes not put forward": lambda: dealt(ListPriced("blend")),
}
"""Name -> a policy for one simulation."""
