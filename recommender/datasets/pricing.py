"""Exposure prices of an export's market: what crowding costs under a model, on the lists that people could be shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.congestion.blend import solve_blend
from recommender.congestion.prices import Prices, solve_lists
from recommender.datasets.exported import Exported
from recommender.datasets.neighbours import Lists, mutual_lists
from recommender.exposure import Exposed
from recommender.features import Mirrored, Pairs, compute
from recommender.ranking import Features, Ranker
from recommender.recency import without_recency
from recommender.reciprocal import BLEND, Reciprocal

PAIRS_AT_ONCE: Final = 500_000


def market_prices(data: Exported, ranker: Ranker) -> Prices:
    """Prices (p,) of everybody in the export when pairs are worth e to the ranker's score, at most 1.

    Of an ``Exposed`` ranker the inner score counts, and its temperature, so that it orders as the solution does; what
    ``Recent`` adds does not count.
    Both directions of a blend are judged apart, as ``congestion.blend`` wants them.
    """
    inner, temperature = _priced(ranker)
    lists = mutual_lists(data)
    if isinstance(inner, Reciprocal) and inner.rule == BLEND:
        back = inner.liked
        likes, liked = _worths(data, lists, inner.features, (
            inner.likes.score, lambda features: back.score(Mirrored(features)),
        ))
        return solve_blend(lists.starts, lists.candidates, likes, liked, temperature)
    (joint,) = _worths(data, lists, inner.features, (inner.score,))
    return solve_lists(lists.starts, lists.candidates, joint, temperature)


def priced_as(ranker: Ranker) -> str:
    """Names what ``market_prices`` reads of a ranker: two of one name have the same prices in every market.

    So a strength of the price, or recency, makes no other prices.
    """
    inner, temperature = _priced(ranker)
    return f"{inner.version} at {temperature!r}"


def _priced(ranker: Ranker) -> tuple[Ranker, float | None]:
    """(what is priced, at which temperature; None: the market's own)."""
    inner = without_recency(ranker)
    return (inner.inner, inner.temperature) if isinstance(inner, Exposed) else (inner, None)


def _worths(data: Exported, lists: Lists, names: tuple[str, ...],
            scorers: tuple[Callable[[Features], NDArray[np.float32]], ...]) -> list[NDArray[np.float32]]:
    """(e,) e to the score of each pair, at most 1, by each scorer of the same features."""
    worths = [np.empty(lists.owners.size, np.float32) for _ in scorers]
    for first in range(0, lists.owners.size, PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        owners, candidates = lists.owners[part], lists.candidates[part]
        pairs = Pairs(
            {name: column[owners] for name, column in data.people.items()},
            {name: column[candidates] for name, column in data.people.items()},
            lists.distances[part], data.until_s, data.priors,
        )
        features = compute(names, pairs)
        for worth, scorer in zip(worths, scorers, strict=True):
            worth[part] = np.exp(np.minimum(np.broadcast_to(scorer(features), owners.shape), 0))
    return worths
