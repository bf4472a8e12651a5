"""Policies for many days that know of congestion: lists that meet, prices of the night before, likes that wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.congestion.equilibrium import solve
from recommender.congestion.rounds import meeting_scores
from recommender.simulation.days import Lists, Policy, Side, View
from recommender.simulation.dealing import best_unseen, may_deal

Floats = NDArray[np.float32]
Scorer = Callable[[View], tuple[Floats, Floats]]
"""Scores of a morning: (n, m) for the left's lists, (m, n) for the right's."""

WIDTH: Final = 60
"""Edges a person that may become meetings: three for each of 20 cards."""


def meetings(view: View) -> tuple[Floats, Floats]:
    """Every night pairs that neither was dealt are assigned, so that both have each other at the same place.

    Knows the cards dealt, not the likes. What is left of a list is filled by surplus.
    """
    both = may_deal(view.left, view.right) & may_deal(view.right, view.left).T
    joint = np.where(both, view.left.estimates * view.right.estimates.T, np.float32(0))
    surplus = solve(joint).surplus(joint)
    if both.any():
        surplus[~both] = surplus[both].min() - np.float32(1)
    scores = meeting_scores(surplus, view.cards, WIDTH)
    return scores, scores.T


class Priced:
    """The served path: estimates of today, multipliers of the night before, no agreement between lists.

    On the first day nobody has a price. Knows the cards dealt, not the likes. One instance lives through one simulation.
    """

    def __init__(self) -> None:
        self._prices: tuple[Floats, Floats] | None = None
        self._temperature = 1.0

    def __call__(self, view: View) -> tuple[Floats, Floats]:
        joint = view.left.estimates * view.right.estimates.T
        n, m = joint.shape
        left, right = self._prices or (np.zeros(n, np.float32), np.zeros(m, np.float32))
        worth = joint / np.float32(self._temperature)
        tonight = solve(
            np.where(may_deal(view.left, view.right) | may_deal(view.right, view.left).T, joint, np.float32(0))
        )
        self._prices, self._temperature = (tonight.left, tonight.right), tonight.temperature
        return worth + right, worth.T + left


def product(view: View) -> tuple[Floats, Floats]:
    """p(i likes j) · p(j likes i)."""
    joint = view.left.estimates * view.right.estimates.T
    return joint, joint.T


def random_order(seed: int) -> Scorer:
    """One uniform score a pair, the same for both people and all days."""

    def scored(view: View) -> tuple[Floats, Floats]:
        drawn = np.random.default_rng([seed, 4]).random(view.left.estimates.shape, dtype=np.float32)
        return drawn, drawn.T

    return scored


def popularity(view: View) -> tuple[Floats, Floats]:
    """Everybody's list begins with the most liked, as the estimates have it."""
    left, right = view.left.estimates, view.right.estimates
    return np.broadcast_to(left.mean(axis=0), left.shape), np.broadcast_to(right.mean(axis=0), right.shape)


def dealt(scorer: Scorer) -> Policy:
    """Each person's best unseen by a scorer."""

    def deal(view: View) -> tuple[Lists, Lists]:
        left, right = scorer(view)
        return (
            best_unseen(left, may_deal(view.left, view.right), view.cards),
            best_unseen(right, may_deal(view.right, view.left), view.cards),
        )

    return deal


def answering(scorer: Scorer) -> Policy:
    """A like that waits for an answer comes first on the list of who was liked; then what the scorer says.

    Last come people who passed, or were dealt the viewer and did not look: no match can follow.
    """

    def scored(view: View) -> tuple[Floats, Floats]:
        left, right = scorer(view)
        return _answers_first(left, view.left, view.right), _answers_first(right, view.right, view.left)

    return dealt(scored)


def _answers_first(scores: Floats, side: Side, other: Side) -> Floats:
    if not scores.size:
        return scores
    waiting = other.liked.T
    lost = other.dealt.T & ~waiting
    span = scores.max() - scores.min() + np.float32(1)
    # Among those who wait the viewer's own liking decides: the answer of the other is known.
    ordered = np.where(lost, scores - span, scores)
    return np.where(waiting, scores.max() + np.float32(1) + side.estimates, ordered)


POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {
    "priced": lambda: dealt(Priced()),
    "meetings": lambda: dealt(meetings),
    "product, likes first": lambda: answering(product),
    "priced, likes first": lambda: answering(Priced()),
    "meetings, likes first": lambda: answering(meetings),
}
"""Name -> a policy for one simulation."""
