"""The other decisions of the wave are known: who likes often, who is liked often, and what answers add.

The ruler is the plain regression with shrunken like rates. The model is a mixed logistic regression
(``recommender.mixed``): how far a person's twenty decisions are believed is learned, as is that the popular are choosy.
A match is more than the product of two such probabilities: the less willing side decides more, so their harmonic mean
is weighed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender import mixed
from recommender.datasets.speed_dating import attributes, ruler
from recommender.datasets.speed_dating.reading import Dates
from recommender.datasets.speed_dating.regression import logistic, probability

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

SHRINKAGE: Final = 5.0
"""Decisions that a like rate's prior, the training rows' mean, is worth."""
RULER_C: Final = 0.01
"""As ``ruler.C``: the rates need less of a penalty than the answers alone."""
ROUNDS: Final = 15
INNER_FOLDS: Final = 4
COMBINATION_PENALTY: Final = 1.0
LEAST: Final = 1e-4
"""Probabilities of a like are moved this far from 0 and 1 before two are combined."""


def folds(dates: Dates, count: int = 5, seed: int = 0) -> Ints:
    """The fold (n,) of each row: unordered pairs dealt at random, so both directions of a date are in one."""
    pair = np.minimum(np.arange(len(dates)), dates.reverse)
    first, which = np.unique(pair, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(first.size) % count
    return np.asarray(dealt[which])


def like_rates(dates: Dates, training: Mask) -> Doubles:
    """(n, 4): shrunken rates sent and received of actor and partner, from training rows other than the row's own date."""
    people, like = dates.side.size, dates.like.astype(float)
    prior = float(like[training].mean())
    columns = []
    sent_by, received_by = dates.actor[training], dates.partner[training]
    own, own_back = like * training, like[dates.reverse] * training[dates.reverse]
    counted, counted_back = training.astype(float), training[dates.reverse].astype(float)
    for who, sent, mine, there in (
        (dates.actor, True, own, counted), (dates.actor, False, own_back, counted_back),
        (dates.partner, True, own_back, counted_back), (dates.partner, False, own, counted),
    ):
        by = sent_by if sent else received_by
        likes, decisions = np.bincount(by, like[training], people), np.bincount(by, minlength=people)
        columns.append((likes[who] - mine + SHRINKAGE * prior) / (decisions[who] - there + SHRINKAGE))
    return np.stack(columns, axis=1)


def plain(dates: Dates, training: Mask) -> tuple[Doubles, Doubles]:
    """(like, match): the ruler's probabilities of all rows."""
    x = np.concatenate((ruler.design(dates), like_rates(dates, training)), axis=1)
    return ruler.predict(x, dates.like, training, RULER_C), ruler.predict(x, dates.match, training, RULER_C)


def predict(dates: Dates, training: Mask, seed: int = 0) -> tuple[Doubles, Doubles]:
    """(like, match): probabilities of all rows, (n,), from the decisions in the training rows.

    How the two sides' probabilities make a match is learned in the training rows, from likes predicted in inner folds.
    """
    like = likes(dates, training)
    inner, held_out = folds(dates, INNER_FOLDS, seed + 1), np.zeros(len(dates))
    for number in range(INNER_FOLDS):
        held = training & (inner == number)
        held_out[held] = likes(dates, training & (inner != number))[held]
    learned = _both_sides(held_out, dates)[training]
    mean, spread = learned.mean(axis=0), np.maximum(learned.std(axis=0), 1e-9)
    weights = logistic((learned - mean) / spread, dates.match[training], COMBINATION_PENALTY)
    return like, probability((_both_sides(like, dates) - mean) / spread, weights)


def _both_sides(like: Doubles, dates: Dates) -> Doubles:
    """(n, 2): ln of the product and ln of the harmonic mean of both sides' probabilities."""
    p = np.clip(like, LEAST, 1 - LEAST)
    product, total = np.log(p * p[dates.reverse]), np.log(p + p[dates.reverse])
    return np.stack([product, product - total], axis=1)


@dataclass(frozen=True)
class Fitted:
    """A mixed model and the rows (n,) that it was asked about."""

    model: mixed.MixedModel
    x: Doubles = field(repr=False)
    actor: Ints = field(repr=False)
    partner: Ints = field(repr=False)
    wave: Ints = field(repr=False)
    side: Doubles = field(repr=False)

    def probability(self) -> Doubles:
        """Of a like, all rows, (n,)."""
        log_odds = self.model.log_odds(self.x, self.actor, self.partner, self.wave, self.side)
        return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))))


def likes(dates: Dates, training: Mask) -> Doubles:
    """Probabilities (n,) of a like, of all rows, from the decisions in the training rows."""
    return fitted(dates, training).probability()


def fitted(dates: Dates, training: Mask) -> Fitted:
    """The mixed model of the training rows."""
    known = np.zeros(dates.side.size, dtype=bool)
    known[dates.actor[training]] = True
    answers, members = attributes.standardised(dates, known), attributes.categories(dates, known)
    pairs = attributes.pairs(dates)
    spread = pairs[training].std(axis=0)
    pairs = (pairs - pairs[training].mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
    blocks = (pairs, answers[dates.actor], answers[dates.partner], members[dates.actor], members[dates.partner])
    x = np.concatenate(blocks, axis=1)
    penalties = np.concatenate([np.full(block.shape[1], number) for number, block in enumerate(blocks)])
    waves, wave = np.unique(dates.wave, return_inverse=True)
    side = dates.side[dates.actor]
    model = mixed.fit(
        x[training], penalties, dates.actor[training], dates.partner[training], wave[training], side[training],
        dates.like[training], people=dates.side.size, group_count=waves.size, rounds=ROUNDS,
    )
    return Fitted(model, x, dates.actor, dates.partner, wave, side)
