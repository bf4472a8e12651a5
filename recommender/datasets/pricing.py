"""Exposure prices of an export's market: what crowding costs under a model, on the lists that people could be shown."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.congestion.prices import Prices, solve_lists
from recommender.datasets.exported import Exported
from recommender.datasets.neighbours import Lists, mutual_lists
from recommender.exposure import Exposed
from recommender.features import Pairs, compute
from recommender.ranking import Ranker

PAIRS_AT_ONCE: Final = 500_000


def market_prices(data: Exported, ranker: Ranker) -> Prices:
    """Prices (p,) of everybody in the export when pairs are worth e to the ranker's score.

    Of an ``Exposed`` ranker the inner score counts, and its temperature, so that it orders as the solution does.
    """
    inner, temperature = ranker, None
    if isinstance(ranker, Exposed):
        inner, temperature = ranker.inner, ranker.temperature
    lists = mutual_lists(data)
    return solve_lists(lists.starts, lists.candidates, _worth(data, lists, inner), temperature)


def _worth(data: Exported, lists: Lists, ranker: Ranker) -> NDArray[np.float32]:
    """(e,) e to the score of each pair, at most 1."""
    worth = np.empty(lists.owners.size, np.float32)
    for first in range(0, worth.size, PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        owners, candidates = lists.owners[part], lists.candidates[part]
        pairs = Pairs(
            {name: column[owners] for name, column in data.people.items()},
            {name: column[candidates] for name, column in data.people.items()},
            lists.distances[part], data.until_s, data.priors,
        )
        scores = ranker.score(compute(ranker.features, pairs))
        worth[part] = np.exp(np.minimum(np.broadcast_to(scores, owners.shape), 0))
    return worth
