"""Matrix factorisation of implicit feedback: what a person likes (taste) and who likes the person (appeal).

Alternating least squares with confidences (Hu, Koren and Volinsky, 2008). People are one set and a swipe is an ordered
pair, so one factorisation holds both directions: how much i prefers j is taste_i · appeal_j, how much j prefers i is
taste_j · appeal_i. The vectors travel in the people table; rankers read the features ``affinity`` and
``viewer_affinity`` computed from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recommender.logistic import fit as fit_logistic
from recommender.ranking import Features
from recommender.reciprocal import PRODUCT, Reciprocal

Doubles = NDArray[np.float64]
BATCH_ENTRIES: Final = 1 << 18
"""Interactions gathered at once: about 50 MB at 24 factors."""


@dataclass(frozen=True)
class Factors:
    """Vectors of n people."""

    taste: NDArray[np.float32]
    """(n, k) float32."""
    appeal: NDArray[np.float32]
    """(n, k) float32."""

    def scores(self, people: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float32]:
        """How much each of ``people`` (m,) prefers the one of ``others`` (m,), float32; about 1 for a like, 0 for none."""
        return np.asarray(np.einsum("mk,mk->m", self.taste[people], self.appeal[others]))

    def recommend(self, person: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(ids, scores) of the ``size`` people whom this person prefers most, themselves left out; best first."""
        scores = self.appeal @ self.taste[person]
        scores[person] = -np.inf
        size = max(min(size, scores.size - 1), 0)
        top = np.argsort(-scores, kind="stable")[:size]
        return top, scores[top]


def fit(swipers: NDArray[Any], swiped: NDArray[Any], liked: NDArray[Any], people: int, *, factors: int = 16,
        iterations: int = 12, l2: float = 16.0, like_confidence: float = 8.0, pass_confidence: float = 4.0,
        unseen_confidence: float = 0.0, seed: int = 0) -> Factors:
    """Factors of ``people`` persons numbered from 0, from swipes (m,): who, on whom, like or not.

    Minimises the sum of confidence · (liked - taste · appeal)² over all pairs plus l2 · |vectors|². A pair that nobody
    swiped counts as not liked with ``unseen_confidence``, which is 0 unless unseen people are likely to be unwanted.
    Whoever has no swipes gets a zero vector. Raises ValueError: a number out of range, or lengths that differ.
    """
    rows, columns = np.asarray(swipers, np.int64), np.asarray(swiped, np.int64)
    likes = np.asarray(liked, np.float64)
    if not rows.shape == columns.shape == likes.shape:
        raise ValueError("a swipe is one swiper, one swiped and one answer")
    if rows.size and not 0 <= min(rows.min(), columns.min()) <= max(rows.max(), columns.max()) < people:
        raise ValueError("people are numbered from 0")
    if factors < 1 or l2 <= 0:
        raise ValueError("there must be a factor and a penalty")
    confidence = np.where(likes > 0, like_confidence, pass_confidence)
    there = csr_array((np.arange(1, rows.size + 1, dtype=np.float64), (rows, columns)), shape=(people, people))
    if there.nnz != rows.size:
        raise ValueError("an ordered pair occurs twice")
    back = csr_array(there.T)
    rng = np.random.default_rng(seed)
    taste = rng.normal(0, 0.1, (people, factors)) + 1 / np.sqrt(factors)
    appeal = rng.normal(0, 0.1, (people, factors)) + likes.mean() / np.sqrt(factors) if rows.size else np.zeros_like(taste)
    for _ in range(iterations):
        taste = _solved(there, confidence, likes, appeal, l2, unseen_confidence)
        appeal = _solved(back, confidence, likes, taste, l2, unseen_confidence)
    return Factors(taste.astype(np.float32), appeal.astype(np.float32))


def ranker(features: Features, labels: NDArray[Any], *, rule: str = PRODUCT) -> Reciprocal:
    """Turns affinities of swiped pairs into probabilities and combines both directions.

    ``features`` must hold ``affinity`` (n,) of pairs that the factors were not fitted on; ``labels`` (n,) says who
    liked. A person without a vector has the population's average one (``people_table.build``).
    """
    likes = fit_logistic(features, labels, ("affinity",))
    return Reciprocal(likes, likes, rule)


def _solved(matrix: Any, confidence: Doubles, likes: Doubles, fixed: Doubles, l2: float, unseen: float) -> Doubles:
    """Each row's ridge regression on the fixed side's vectors, (n, k), many rows of about one length at a time."""
    n, k = fixed.shape
    solved = np.zeros((n, k))
    counts = np.diff(matrix.indptr)
    common = unseen * (fixed.T @ fixed) + l2 * np.eye(k)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    begin = 0
    while begin < order.size:
        end = _batch_end(counts[order], begin)
        rows = order[begin:end]
        width = int(counts[rows[-1]])
        at = matrix.indptr[rows][:, None] + np.arange(width)
        inside = np.arange(width) < counts[rows][:, None]
        at = np.where(inside, at, 0)
        entry = (matrix.data[at] - 1).astype(np.int64)
        weight = np.where(inside, confidence[entry], 0.0)
        vectors = fixed[matrix.indices[at]]
        extra = np.where(inside, weight - unseen, 0.0)
        left = (vectors * extra[..., None]).transpose(0, 2, 1) @ vectors + common
        right = vectors.transpose(0, 2, 1) @ (weight * likes[entry])[..., None]
        solved[rows] = np.linalg.solve(left, right)[..., 0]
        begin = end
    return solved


def _batch_end(counts: NDArray[Any], begin: int) -> int:
    """As many rows, in ascending length, as padded to the longest hold ``BATCH_ENTRIES``; at least one."""
    low, high = begin + 1, counts.size
    while low < high:
        middle = (low + high + 1) // 2
        if (middle - begin) * int(counts[middle - 1]) <= BATCH_ENTRIES:
            low = middle
        else:
            high = middle - 1
    return low


