"""How often a person will like and be liked, foreseen from sign-up answers by a Gaussian process over people.

A wave holds few people, and a person's twenty decisions say one thing about the person: so these tendencies are learned
a person at a time (377 examples), apart from what pairs add.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.speed_dating import attributes
from recommender.datasets.speed_dating.reading import CATEGORIES, Dates

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

LENGTH: Final = 1.5
"""Length scale in root mean squared distance of standardised answers: two average strangers are 1.4 apart."""
NOISE: Final = 4.0
"""Noise variance of a tendency in units of the process's. The marginal likelihood prefers less and then foresees waves
that it was not fitted on worse, because people of one wave share more than their answers; between 2 and 8 it hardly
matters."""
CATEGORY_WEIGHT: Final = 1.5
FEW: Final = CATEGORIES[:2]
"""Race and field: the third category, the intended career, mostly repeats the field."""


def similarities(dates: Dates, training: Mask) -> list[Doubles]:
    """Kernels (p, p), at most 1, one a view of people: answers as given or within their wave, with categories."""
    views = (attributes.standardised(dates, training), attributes.within_wave(dates))
    members = [attributes.categories(dates, training, names) * CATEGORY_WEIGHT for names in (FEW, CATEGORIES)]
    return [
        np.exp(_distances(np.concatenate((view, member), axis=1)) / (-2 * LENGTH**2))
        for view in views for member in members
    ]


def tendencies(dates: Dates, rows: Mask) -> tuple[Doubles, Doubles]:
    """(sent, received), each (p,): mean like less that of wave and side, among ``rows`` (n,); 0 of nobody."""
    people = dates.side.size
    actor, partner = dates.actor[rows], dates.partner[rows]
    _, cell = np.unique(dates.wave[rows] * 4 + dates.side[actor].astype(np.int64), return_inverse=True)
    like = dates.like[rows].astype(float)
    if like.size:
        like = like - (np.bincount(cell, weights=like) / np.bincount(cell))[cell]
    sent, received = (
        np.bincount(who, weights=like, minlength=people) / np.maximum(np.bincount(who, minlength=people), 1)
        for who in (actor, partner)
    )
    return sent, received


def foreseen(kernels: list[Doubles], targets: Doubles, training: Mask, wanted: Mask) -> Doubles:
    """Posterior means (p, t) of wanted people from the targets (p, t) of training people, the views' mean; 0 elsewhere."""
    out = np.zeros(targets.shape)
    if training.any():
        for kernel in kernels:
            inside = kernel[np.ix_(training, training)] + NOISE * np.eye(int(training.sum()))
            out[wanted] += kernel[np.ix_(wanted, training)] @ np.linalg.solve(inside, targets[training]) / len(kernels)
    return out


def _distances(x: Doubles) -> Doubles:
    squares = (x**2).sum(axis=1)
    return np.asarray(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0) / max(x.shape[1], 1))
