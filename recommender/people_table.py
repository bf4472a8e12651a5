"""What is known of people beside their profiles: history counts, exposure prices, model vectors; by id.

A periodic job makes a table, card shards load it. Whoever has no row has the neutral one: no history, price 0, the
average taste and appeal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from configs.contracts.errors import ArtifactCorrupt
from recommender.artifact_files import read, write
from recommender.features import COLUMNS, FEATURES, Pairs, Priors

KIND: Final = "people"
NOBODY: Final = 0
"""The place of the neutral row."""
VECTORS: Final = ("taste", "appeal")
COUNTS: Final = ("likes_sent", "swipes_sent", "likes_received", "swipes_received")
PRICED_FOR: Final = "priced_for"
"""In a table's manifest: the version whose prices it holds."""
PRICED_AS: Final = "priced_as"
"""In a table's manifest: what its prices depend on of that version (``datasets.pricing.priced_as``)."""


@dataclass(frozen=True)
class PeopleTable:
    """Float32 columns of m people in the order of their ids' low halves, with the neutral row before them.

    ``high``, ``low`` (m,) uint64 are the halves of the 128-bit ids; ``columns`` have m + 1 rows each, (m + 1,) or
    (m + 1, k); row 0 is the neutral one.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    columns: Mapping[str, NDArray[np.float32]]
    priors: Priors = field(default_factory=Priors)
    version: str = "none"

    def __len__(self) -> int:
        return self.low.size

    @property
    def nbytes(self) -> int:
        return self.high.nbytes + self.low.nbytes + sum(column.nbytes for column in self.columns.values())

    def places(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The rows of people by their ids' halves, (n,) int32; ``NOBODY`` for who has none. O(n log m)."""
        places = np.zeros(low.shape, dtype=np.int32)
        if not self.low.size:
            return places
        found = np.searchsorted(self.low, low)
        searching = np.flatnonzero(found < self.low.size)
        while searching.size:
            at = found[searching]
            same = self.low[at] == low[searching]
            searching, at = searching[same], at[same]
            hit = self.high[at] == high[searching]
            places[searching[hit]] = at[hit] + 1
            searching = searching[~hit]
            found[searching] += 1
            searching = searching[found[searching] < self.low.size]
        return places

    def place(self, number: int) -> int:
        """``places`` of one id given as a 128-bit integer."""
        high, low = np.array([number >> 64], np.uint64), np.array([number & (1 << 64) - 1], np.uint64)
        return int(self.places(high, low)[0])


EMPTY: Final = PeopleTable(
    np.zeros(0, np.uint64), np.zeros(0, np.uint64),
    {name: np.zeros(1, np.float32) for name in (*COUNTS, "log_price")},
)
"""A table without people: everybody has the neutral row."""


def read_from_table(names: Iterable[str]) -> list[str]:
    """Those of the named features that are neutral for everybody without a people table."""
    profile = {column: np.zeros(()) for column in COLUMNS if column not in (*COUNTS, *VECTORS, "log_price")}
    bare = Pairs(profile, profile, np.zeros(()), 0.0)
    return [name for name in names if not _computable(name, bare)]


def _computable(name: str, pairs: Pairs) -> bool:
    try:
        FEATURES[name].compute(pairs)
    except KeyError:
        return False
    return True


def build(ids: NDArray[np.uint64], columns: Mapping[str, NDArray[Any]], *, version: str, strength: float = 20.0,
          neutral: Mapping[str, Any] | None = None) -> PeopleTable:
    """A table of people ``ids`` (m, 2) uint64 (high and low half) and their columns (m,) or (m, k), in any order.

    The priors are the population's like rates: all likes over all swipes, per direction. The neutral row is 0 for
    counts and prices, the columns' mean for vectors, or what ``neutral`` gives.
    Raises ValueError: lengths differ, an id occurs twice, a column is unknown or not finite.
    """
    ids = np.asarray(ids, np.uint64).reshape(-1, 2)
    order = np.lexsort((ids[:, 0], ids[:, 1]))
    ordered = ids[order]
    if len(ordered) > 1 and (ordered[1:] == ordered[:-1]).all(axis=1).any():
        raise ValueError("an id occurs twice")
    stored: dict[str, NDArray[np.float32]] = {}
    for name, values in columns.items():
        if name not in COLUMNS:
            raise ValueError(f"{name!r} is no column of a person")
        column = np.asarray(values, np.float32)
        if column.shape[:1] != (len(ids),) or column.ndim > 2 or not np.isfinite(column).all():
            raise ValueError(f"column {name!r} must be {len(ids)} finite rows")
        given = (neutral or {}).get(name)
        if given is None:
            given = column.mean(axis=0) if name in VECTORS and len(ids) else np.zeros(column.shape[1:])
        stored[name] = np.concatenate((np.asarray(given, np.float32)[None], column[order]))
    priors = Priors(
        _rate(stored, "likes_sent", "swipes_sent"), _rate(stored, "likes_received", "swipes_received"), strength
    )
    return PeopleTable(ordered[:, 0].copy(), ordered[:, 1].copy(), stored, priors, version)


def _rate(columns: Mapping[str, NDArray[np.float32]], likes: str, swipes: str) -> float:
    default = Priors().like_rate_sent
    if likes not in columns or swipes not in columns:
        return default
    total = float(columns[swipes].sum(dtype=np.float64))
    return float(columns[likes].sum(dtype=np.float64)) / total if total > 0 else default


def save(table: PeopleTable, directory: Path | str, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a table as an artifact directory of kind ``people``. Raises ArtifactExists: the directory is taken."""
    write(
        directory, kind=KIND, version=table.version,
        arrays={"high": table.high, "low": table.low} | {f"column.{name}": values for name, values in table.columns.items()},
        manifest={
            "parameters": {
                "like_rate_sent": table.priors.like_rate_sent, "like_rate_received": table.priors.like_rate_received,
                "strength": table.priors.strength,
            },
        } | dict(metadata or {}),
    )


def load(directory: Path | str) -> PeopleTable:
    """Reads what ``save`` wrote. Raises ArtifactCorrupt: not a whole, unaltered table."""
    manifest, arrays = read(directory)
    if manifest.get("kind") != KIND:
        raise ArtifactCorrupt("the artifact is no people table", directory=str(directory), kind=manifest.get("kind"))
    try:
        columns = {
            name.removeprefix("column."): np.asarray(values, np.float32)
            for name, values in arrays.items() if name.startswith("column.")
        }
        table = PeopleTable(
            arrays["high"].astype(np.uint64), arrays["low"].astype(np.uint64), columns,
            Priors(**manifest["parameters"]), str(manifest["version"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactCorrupt("the people table cannot be read", directory=str(directory), reason=str(error)) from error
    rows = {len(column) for column in columns.values()} | {table.low.size + 1}
    if len(rows) != 1 or table.high.size != table.low.size or np.any(table.low[1:] < table.low[:-1]):
        raise ArtifactCorrupt("the people table's columns disagree", directory=str(directory), rows=sorted(rows))
    return table
