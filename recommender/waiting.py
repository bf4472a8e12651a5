"""People whose like waits for the viewer's answer are put forward: an answer to them is a match or settles the question.

Two steps, the same for a card shard and for the simulator: ``boosted`` adds one term to the logarithmic score, and
``mixed`` lets them have every second place at most while others remain. So a place tells nobody for certain who likes
them: the best of the others may stand anywhere, and where nobody waits the same places hold others.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.ranking import Floats, Ids, best

TERM: Final = "waiting_like"
"""The name of the term in explanations, and of the value (0 or 1) among logged features."""
LIKES_MOST: Final = 200
"""The newest likes that count, answered or not: 1.6 KB a deck."""

Bools = NDArray[np.bool_]


def boosted(scores: Floats, waiting: Bools, boost: float) -> Floats:
    """New scores (…, n) float32: ``boost`` more, in natural logarithms, where a like waits."""
    return np.asarray(scores + waiting * np.float32(boost), np.float32)


def mixed(waiting: Bools) -> Ids:
    """(n,) places of a list that is best first, ``waiting`` (n,), in the order in which they are shown.

    Both kinds keep their own order. Between two whose like waits stands one of the others, as long as there are any;
    until then they wait behind better others as their scores say; who is left over comes last.
    """
    those = np.flatnonzero(waiting)
    number = np.arange(those.size)
    # The k-th who waits has at least as many others before them as their score leaves there, and one more than the
    # one before them: max over j ≤ k of (others before the j-th) + (k - j).
    before = number + np.maximum.accumulate(those - 2 * number)
    shown = np.minimum(before, waiting.size - those.size) + number
    order = np.empty(waiting.size, np.int64)
    free = np.ones(waiting.size, np.bool_)
    free[shown] = False
    order[shown] = those
    order[free] = np.flatnonzero(~waiting)
    return order


def ranked(scores: Floats, waiting: Bools, boost: float, size: int) -> tuple[Ids, Floats, Bools]:
    """(places, boosted scores, which wait) of all those who wait and the best ``size`` of the others, best first.

    ``mixed`` of them, whoever is then taken out, begins as that of everybody would.
    """
    those = np.flatnonzero(waiting)
    rest = np.array(scores, np.float32)
    rest[those] = -np.inf
    others, _ = best(np.arange(rest.size), rest, min(size, rest.size - those.size))
    # By the score as it was: a boost takes digits of it away.
    those = those[np.argsort(-scores[those], kind="stable")]
    found = np.concatenate((those, others))
    given = boosted(scores[found], waiting[found], boost)
    order = np.argsort(-given, kind="stable")
    return found[order], given[order], order < those.size
