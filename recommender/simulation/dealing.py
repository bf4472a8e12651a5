"""Policies for many days: from scores to each morning's lists, and the plain ones that others are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.simulation import policies
from recommender.simulation.days import Lists, Policy, Side, View
from recommender.simulation.markets import Market

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def best_unseen(scores: Floats, allowed: Bools, cards: int) -> Lists:
    """(n, cards) int64: the allowed columns of highest score (n, m) in each row, best first, equal ones in column order;
    -1 where there are no more."""
    n, m = scores.shape
    lists = np.full((n, cards), -1, dtype=np.int64)
    width = min(cards, m)
    if n == 0 or width == 0:
        return lists
    open_scores = np.where(allowed, scores, np.float32(-np.inf))
    if m > 4 * width:
        # Equal scores at the edge are rare; a stable choice among them would need a whole sort.
        chosen = np.sort(np.argpartition(-open_scores, width - 1, axis=1)[:, :width], axis=1)
    else:
        chosen = np.broadcast_to(np.arange(m), (n, m))
    values = np.take_along_axis(open_scores, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :width]
    columns = np.take_along_axis(chosen, order, axis=1)
    lists[:, :width] = np.where(np.take_along_axis(values, order, axis=1) > -np.inf, columns, -1)
    return lists


def may_deal(side: Side, other: Side) -> Bools:
    """(n, m): both are there and the row was never dealt the column."""
    return ~side.dealt & side.present[:, None] & other.present[None, :]


def fixed(ranking: Callable[[Market, int], policies.Scores], seed: int = 0) -> Policy:
    """Give each person each day their best unseen by one ranking of the estimates, made on the first day."""
    made: list[policies.Scores] = []

    def deal(view: View) -> tuple[Lists, Lists]:
        if view.day == 0:
            made[:] = [ranking(Market(view.left.estimates, view.right.estimates), seed)]
        left, right = made[0]
        return (
            best_unseen(left, may_deal(view.left, view.right), view.cards),
            best_unseen(right, may_deal(view.right, view.left), view.cards),
        )

    return deal


BASELINES: Final[Mapping[str, Callable[[int], Policy]]] = {
    name: lambda seed, ranking=ranking: fixed(ranking, seed)  # type: ignore[misc]
    for name, ranking in policies.BASELINES.items()
}
"""Name -> seed -> a policy for one simulation."""
