"""Gradient-boosted trees of at most two features a path, scored as lookups in small tables.

A leaf of a tree whose paths test at most two features adds a constant on a rectangle of these features, so the whole
ensemble is a sum of tables over pairs of binned features (a GA²M: Lou, Caruana, Gehrke and Hooker, 2013). The sum is
the ensemble's own prediction, and what each test on a path changes is kept apart by feature (Saabas, 2014), so the
attribution is exact too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from recommender.features import FEATURES, cleaned
from recommender.log_score import Doubles, divided, fingerprint, log_sigmoid
from recommender.ranking import Features, Floats, Ranker, Scored

VALUE_MOST: Final = 1e12
Bins = NDArray[np.intp]


@dataclass(frozen=True)
class Boosted(Scored):
    """Tables of log-odds over bins of features.

    ``thresholds``: feature -> (m,) float32 ascending; a value's bin is the number of thresholds below it.
    ``mains``: feature -> (m + 1,) float64. ``pairs``: (first, second) -> (2, m1 + 1, m2 + 1) float64, the parts of the
    two features. ``base``: log-odds before any test. The score is ln P.
    Raises ValueError: shapes that disagree, numbers that are not finite, a name that is no feature.
    """

    kind: ClassVar[str] = "boosted"

    thresholds: Mapping[str, NDArray[np.float32]]
    mains: Mapping[str, Doubles]
    pairs: Mapping[tuple[str, str], Doubles]
    base: float
    label: str = "like"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.thresholds if name not in FEATURES]:
            raise ValueError(f"no such features: {', '.join(unknown)}")
        bins = {name: values.size + 1 for name, values in self.thresholds.items()}
        for name, edges in self.thresholds.items():
            if edges.ndim != 1 or not np.isfinite(edges).all() or np.any(edges[1:] <= edges[:-1]):
                raise ValueError(f"thresholds of {name} must ascend")
        tables = [(name, values, (bins.get(name, 0),)) for name, values in self.mains.items()] + [
            (f"{first} and {second}", values, (2, bins.get(first, 0), bins.get(second, 0)))
            for (first, second), values in self.pairs.items()
        ]
        for table, values, shape in tables:
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"the table of {table} must be finite and {shape}")
        if not np.isfinite(self.base):
            raise ValueError("the base must be finite")

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(self.thresholds)

    @cached_property
    def version(self) -> str:
        return f"boosted-{self.label}:{fingerprint(self.parameters(), self.arrays())}"

    @cached_property
    def _tables(self) -> list[tuple[str, str | None, Doubles]]:
        """(first, second, flat sum): pairs with the mains of their features added once, then what is left."""
        left = {name: np.clip(values, -VALUE_MOST, VALUE_MOST) for name, values in self.mains.items()}
        tables: list[tuple[str, str | None, Doubles]] = []
        for (first, second), parts in self.pairs.items():
            table = np.clip(parts, -VALUE_MOST, VALUE_MOST).sum(axis=0)
            if first in left:
                table = table + left.pop(first)[:, None]
            if second in left:
                table = table + left.pop(second)
            tables.append((first, second, table.ravel()))
        return tables + [(name, None, values) for name, values in left.items()]

    def log_odds(self, features: Features) -> Doubles:
        """(n,) or () float64: what the trees add up to."""
        bins = self._bins(cleaned(self.features, features))
        total = np.asarray(float(self.base))
        for first, second, table in self._tables:
            at = bins[first]
            if second is not None:
                at = at * np.intp(self.thresholds[second].size + 1) + bins[second]
            total = total + table.take(at)
        return np.asarray(total)

    def _bins(self, features: Features) -> dict[str, Bins]:
        return {name: _bins_of(features[name], edges) for name, edges in self.thresholds.items()}

    def score(self, features: Features) -> Floats:
        """(n,) float32: ln P."""
        return np.asarray(log_sigmoid(self.log_odds(features)), np.float32)

    def explain(self, features: Features) -> Mapping[str, Floats]:
        """``"base"`` and one term a feature, float32: what the tests of this feature changed on the paths taken."""
        bins = self._bins(cleaned(self.features, features))
        parts = {name: np.zeros(()) for name in self.features}
        for name, values in self.mains.items():
            parts[name] = parts[name] + np.clip(values, -VALUE_MOST, VALUE_MOST)[bins[name]]
        for pair, tables in self.pairs.items():
            for name, table in zip(pair, tables, strict=True):
                parts[name] = parts[name] + np.clip(table, -VALUE_MOST, VALUE_MOST)[bins[pair[0]], bins[pair[1]]]
        return divided(float(self.base), parts)

    def parameters(self) -> dict[str, Any]:
        """See ``artifacts.Storable``."""
        return {
            "features": list(self.thresholds), "mains": list(self.mains), "pairs": [list(pair) for pair in self.pairs],
            "base": float(self.base), "label": self.label,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **{f"thresholds.{name}": values for name, values in self.thresholds.items()},
            **{f"main.{name}": values for name, values in self.mains.items()},
            **{f"pair.{first}.{second}": values for (first, second), values in self.pairs.items()},
        }

    def parts(self) -> dict[str, Ranker]:
        return {}

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                parts: Mapping[str, Ranker]) -> Boosted:
        return cls(
            {name: arrays[f"thresholds.{name}"] for name in parameters["features"]},
            {name: arrays[f"main.{name}"] for name in parameters["mains"]},
            {(first, second): arrays[f"pair.{first}.{second}"] for first, second in parameters["pairs"]},
            float(parameters["base"]), str(parameters["label"]),
        )


def _bins_of(values: Floats, edges: NDArray[np.float32]) -> Bins:
    """The number of edges below each value, (n,) or ().

    Comparing all values with one edge after the other is five to ten times as fast as a binary search for each value,
    whose branches nobody can foresee.
    """
    if not values.ndim or edges.size > 255:
        return np.asarray(np.searchsorted(edges, values, side="left"), np.intp)
    below, count = np.empty(values.shape, np.bool_), np.zeros(values.shape, np.uint8)
    for edge in edges:
        np.greater(values, edge, out=below)
        count += below.view(np.uint8)
    return count.astype(np.intp)


def tables_of(names: Sequence[str], trees: Sequence[NDArray[Any]], base: float, *, label: str = "like") -> Boosted:
    """The tables that equal a sum of trees.

    ``trees``: node records with the fields left, right, feature_idx, num_threshold, value, count and is_leaf, as
    scikit-learn's histogram gradient boosting keeps them; a value at most the threshold goes left. Values are float32:
    a threshold between two of them is moved to the lower one, which parts them in the same way.
    Raises ValueError: a path tests more than two features.
    """
    edges: dict[int, set[float]] = {}
    for nodes in trees:
        for node in nodes[nodes["is_leaf"] == 0]:
            edges.setdefault(int(node["feature_idx"]), set()).add(float(_below(node["num_threshold"])))
    thresholds = {feature: np.array(sorted(values), np.float32) for feature, values in sorted(edges.items())}
    mains: dict[int, Doubles] = {}
    pairs: dict[tuple[int, int], Doubles] = {}

    def grow(nodes: NDArray[Any], means: Doubles, place: int, boxes: dict[int, tuple[int, int]],
             parts: dict[int, float]) -> None:
        node = nodes[place]
        if node["is_leaf"]:
            _fill(boxes, parts, thresholds, mains, pairs)
            return
        feature = int(node["feature_idx"])
        low, high = boxes.get(feature, (0, thresholds[feature].size))
        cut = int(np.searchsorted(thresholds[feature], _below(node["num_threshold"])))
        for child, box in ((int(node["left"]), (low, min(high, cut))), (int(node["right"]), (max(low, cut + 1), high))):
            change = parts.get(feature, 0.0) + float(means[child] - means[place])
            grow(nodes, means, child, boxes | {feature: box}, parts | {feature: change})

    for nodes in trees:
        means = _means(nodes)
        base += float(means[0])
        grow(nodes, means, 0, {}, {})
    return Boosted(
        {names[feature]: values for feature, values in thresholds.items()},
        {names[feature]: values for feature, values in sorted(mains.items())},
        {(names[first], names[second]): values for (first, second), values in sorted(pairs.items())},
        base, label,
    )


def _fill(boxes: Mapping[int, tuple[int, int]], parts: Mapping[int, float], thresholds: Mapping[int, NDArray[np.float32]],
          mains: dict[int, Doubles], pairs: dict[tuple[int, int], Doubles]) -> None:
    """Adds a leaf's parts on its rectangle."""
    tested = sorted(boxes)
    ranges = [slice(boxes[feature][0], boxes[feature][1] + 1) for feature in tested]
    if len(tested) == 1:
        main = mains.setdefault(tested[0], np.zeros(thresholds[tested[0]].size + 1))
        main[ranges[0]] += parts[tested[0]]
    elif len(tested) == 2:
        first, second = tested
        shape = (2, thresholds[first].size + 1, thresholds[second].size + 1)
        table = pairs.setdefault((first, second), np.zeros(shape))
        table[0][ranges[0], ranges[1]] += parts[first]
        table[1][ranges[0], ranges[1]] += parts[second]
    elif tested:
        raise ValueError("a path tests more than two features")


def _means(nodes: NDArray[Any]) -> Doubles:
    """Each node's mean of the leaves below it, weighted by their samples, (nodes,)."""
    means = nodes["value"].astype(np.float64).copy()
    for place in np.argsort(-nodes["depth"].astype(np.int64), kind="stable"):
        if not nodes["is_leaf"][place]:
            left, right = int(nodes["left"][place]), int(nodes["right"][place])
            counts = nodes["count"][[left, right]].astype(np.float64)
            means[place] = np.average(means[[left, right]], weights=counts if counts.sum() else None)
    return means


def _below(threshold: float) -> np.float32:
    """The largest float32 that is not above the threshold."""
    single = np.float32(threshold)
    return np.nextafter(single, np.float32(-np.inf)) if float(single) > float(threshold) else single
