"""Training of ``Boosted`` by scikit-learn's histogram gradient boosting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from recommender.boosted import Boosted, tables_of
from recommender.features import cleaned
from recommender.ranking import Features


def fit(features: Features, labels: NDArray[Any], names: Sequence[str], *, trees: int = 150, learning_rate: float = 0.06,
        depth: int = 3, pairs_most: int = 12, bins: int = 48, l2: float = 1.0, min_samples_leaf: int = 40,
        sample_weight: NDArray[Any] | None = None, label: str = "like", seed: int = 0) -> Boosted:
    """Boosts log-odds of ``labels`` (n,) of 0 and 1 in two passes.

    The first pass may pair any two features; the second only the ``pairs_most`` pairs that gained most, so that scoring
    costs that many lookups (FAST: Lou et al., 2013). With one kind of label there are no trees.
    Raises ValueError: no samples, or lengths that differ.
    """
    labels = np.asarray(labels).astype(bool)
    if not labels.size:
        raise ValueError("there is nothing to learn from")
    if labels.all() or not labels.any():
        rate = (labels.sum() + 1) / (labels.size + 2)
        return Boosted({}, {}, {}, float(np.log(rate / (1 - rate))), label)
    x = matrix(features, names, labels.size)

    def model(allowed: str | list[tuple[int, ...]]) -> HistGradientBoostingClassifier:
        # On small trees the threads cost more than they save, on a busy machine thirty times as much (measured).
        with threadpool_limits(1, user_api="openmp"):
            return HistGradientBoostingClassifier(
                max_iter=trees, learning_rate=learning_rate, max_depth=depth, max_bins=bins, l2_regularization=l2,
                min_samples_leaf=min_samples_leaf, interaction_cst=allowed, early_stopping=False, random_state=seed,
            ).fit(x, labels, sample_weight=sample_weight)

    first = model("pairwise" if len(names) > 1 else [(0,)])
    gains = _pair_gains(_trees(first))
    kept = sorted(gains, key=lambda pair: (-gains[pair], pair))[:pairs_most]
    if len(kept) == len(gains):
        return converted(first, names, label)
    alone = [(feature,) for feature in range(len(names))]
    return converted(model([*kept, *alone]), names, label)


def matrix(features: Features, names: Sequence[str], size: int) -> NDArray[np.float64]:
    """The named features side by side, (size, len(names)) float64, missing ones neutral."""
    given = cleaned(names, features)
    return np.stack([np.broadcast_to(given[name], (size,)).astype(np.float64) for name in names], axis=1)


def converted(model: HistGradientBoostingClassifier, names: Sequence[str], label: str = "like") -> Boosted:
    """The tables of a fitted binary classifier whose paths test at most two features."""
    return tables_of(names, _trees(model), float(np.ravel(model._baseline_prediction)[0]), label=label)


def _trees(model: HistGradientBoostingClassifier) -> list[NDArray[Any]]:
    # scikit-learn shows its trees nowhere else; a unit test holds them against predict_proba.
    return [stage[0].nodes for stage in model._predictors]


def _pair_gains(trees: Sequence[NDArray[Any]]) -> dict[tuple[int, int], float]:
    """How much the tests gained that came second on a path with another feature, by pair."""
    gains: dict[tuple[int, int], float] = {}

    def walk(nodes: NDArray[Any], place: int, above: frozenset[int]) -> None:
        node = nodes[place]
        if node["is_leaf"]:
            return
        below = above | {int(node["feature_idx"])}
        if len(below) == 2:
            first, second = sorted(below)
            gains[first, second] = gains.get((first, second), 0.0) + float(node["gain"])
        for child in ("left", "right"):
            walk(nodes, int(node[child]), below)

    for nodes in trees:
        walk(nodes, 0, frozenset())
    return gains
