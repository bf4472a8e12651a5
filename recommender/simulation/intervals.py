"""What a ratio over paired seeds is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypedDict

import numpy as np

DRAWS: Final = 4000


class Ratio(TypedDict):
    """Sum over sum, with a 95 % percentile interval by bootstrap over the pairs, and the least and largest single one."""

    ratio: float
    low: float
    high: float
    least: float
    largest: float
    pairs: int


def paired_ratio(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Ratio:
    """Ratio of s paired sums (Efron, 1979). Raises ValueError: lengths differ, nothing to compare, theirs not positive."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.size != b.size or a.size == 0:
        raise ValueError(f"{a.size} and {b.size} values are no pairs")
    if not (b > 0).all():
        raise ValueError("nothing positive to compare with")
    drawn = np.random.default_rng(seed).integers(0, a.size, (DRAWS, a.size))
    ratios = a[drawn].sum(axis=1) / b[drawn].sum(axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    singles = a / b
    return Ratio(
        ratio=float(a.sum() / b.sum()), low=float(low), high=float(high),
        least=float(singles.min()), largest=float(singles.max()), pairs=int(a.size),
    )
