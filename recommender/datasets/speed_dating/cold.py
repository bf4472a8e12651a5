"""Nothing of the wave is known but who its people are: sign-up answers alone.

Two views of a like are added, both in probability: the people's foreseen tendencies (``tendencies``) and a ridge
regression on both people's answers, categories and what they share. A match adds a third one, a regression of the match
itself. Their weights are the ones that rank best in the training waves, each predicted from the others; a logistic
regression then turns scores into probabilities. Nothing of the wave to be predicted is looked at but answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.speed_dating import attributes, tendencies
from recommender.datasets.speed_dating.reading import CATEGORIES, Dates
from recommender.datasets.speed_dating.regression import Moments, logistic, probability
from recommender.evaluation.accuracy import grouped_auc

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

PENALTY: Final = 1000.0
"""Of a standardised column against the sum over some 5,000 decisions, which are those of some 350 people."""
SIDE_WEIGHTS: Final = (0.4, 0.6, 0.8, 1.0)
"""How much of the mean difference between men and women is counted: it changes its sign from wave to wave."""
ANSWER_WEIGHTS: Final = (0.25, 0.5, 1.0)
MATCH_WEIGHTS: Final = (0.5, 1.0, 2.0, 4.0)
CALIBRATION_PENALTY: Final = 1.0


@dataclass(frozen=True)
class Prediction:
    """Of all rows, (n,); meaningful in the predicted waves only."""

    like: Doubles
    match: Doubles
    """Of the joint model."""


@dataclass(frozen=True)
class _Views:
    """Scores of rows, (n,), in probability less the mean."""

    people: Doubles
    side: Doubles
    answers: Doubles
    match: Doubles


def predict(dates: Dates, training: Sequence[int], wanted: Sequence[int]) -> Prediction:
    """Probabilities in the ``wanted`` waves from the ``training`` waves' decisions."""
    known = np.isin(dates.person_wave, training)
    kernels = tendencies.similarities(dates, known)
    few, many = (_moments(dates, known, names) for names in (CATEGORIES[:2], CATEGORIES))
    views = _Views(*(np.zeros(len(dates)) for _ in range(4)))
    for target, source in [(wave, [w for w in training if w != wave]) for wave in training] + [
        (wave, list(training)) for wave in wanted
    ]:
        _fill(views, dates, kernels, few, many, source, target)
    return _combined(dates, views, np.isin(dates.wave, training))


def _moments(dates: Dates, known: Mask, names: tuple[str, ...]) -> Moments:
    people = np.concatenate((attributes.standardised(dates, known), attributes.categories(dates, known, names)), axis=1)
    x = np.concatenate((people[dates.actor], people[dates.partner], attributes.pairs(dates)), axis=1)
    return Moments.of(x, np.stack([dates.like, dates.match], axis=1).astype(float), dates.wave)


def _fill(views: _Views, dates: Dates, kernels: list[Doubles], few: Moments, many: Moments, source: Sequence[int],
          target: int) -> None:
    """Predicts one wave from others."""
    rows, from_rows = dates.wave == target, np.isin(dates.wave, source)
    sent_received = np.stack(tendencies.tendencies(dates, from_rows), axis=1)
    foreseen = tendencies.foreseen(
        kernels, sent_received, np.isin(dates.person_wave, source), dates.person_wave == target
    )
    views.people[rows] = foreseen[dates.actor[rows], 0] + foreseen[dates.partner[rows], 1]
    views.side[rows] = _side_difference(dates, source) / 2 * dates.side[dates.actor[rows]]
    views.answers[rows] = few.predict(source, rows, PENALTY)[:, 0]
    views.match[rows] = many.predict(source, rows, PENALTY)[:, 1]


def _side_difference(dates: Dates, waves: Sequence[int]) -> float:
    """By how much more men like than women, the mean of waves in which both are."""
    found = []
    side = dates.side[dates.actor]
    for wave in waves:
        men, women = (dates.like[(dates.wave == wave) & (side == sign)] for sign in (1, -1))
        if men.size and women.size:
            found.append(men.mean() - women.mean())
    return float(np.mean(found)) if found else 0.0


def _combined(dates: Dates, views: _Views, training: Mask) -> Prediction:
    waves, back = dates.wave[training], dates.reverse
    best: tuple[float, Doubles] = (-1.0, views.people)
    for side, answers in product(SIDE_WEIGHTS, ANSWER_WEIGHTS):
        score = views.people + side * views.side + answers * views.answers
        best = max(best, (_ranked(dates.like[training], score[training], waves), score), key=lambda found: found[0])
    like = best[1]
    both, joint = like + like[back], views.match + views.match[back]
    best = (-1.0, both)
    for weight in MATCH_WEIGHTS:
        score = both + weight * joint
        best = max(best, (_ranked(dates.match[training], score[training], waves), score), key=lambda found: found[0])
    return Prediction(_calibrated(like, dates.like, training), _calibrated(best[1], dates.match, training))


def _ranked(labels: NDArray[np.bool_], scores: Doubles, waves: NDArray[np.int64]) -> float:
    mean = grouped_auc(labels, scores, waves).mean
    return 0.0 if np.isnan(mean) else mean


def _calibrated(score: Doubles, labels: NDArray[np.bool_], training: Mask) -> Doubles:
    mean, spread = score[training].mean(), max(float(score[training].std()), 1e-9)
    x = ((score - mean) / spread)[:, None]
    return probability(x, logistic(x[training], labels[training], CALIBRATION_PENALTY))
