"""The ruler: plain logistic regression on both people's sign-up answers."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from recommender.datasets.speed_dating import attributes
from recommender.datasets.speed_dating.reading import Dates

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

C: Final = 0.001
"""Inverse strength of the L2 penalty, chosen so that the published figures of the plain regression are met."""


def design(dates: Dates) -> Doubles:
    """(n, k): both people's answers, years apart, interests' correlation, same race, side; missing ones NaN."""
    answers = np.stack([dates.people[name] for name in attributes.ANSWERS], axis=1)
    return np.concatenate((answers[dates.actor], answers[dates.partner], attributes.pairs(dates)[:, [0, 1, 2, 3, 7]]), axis=1)


def predict(x: Doubles, labels: NDArray[np.bool_], training: Mask, c: float = C) -> Doubles:
    """Probabilities (n,) of all rows by a regression on the training rows, missing values their mean."""
    known = ~np.isnan(x[training])
    mean = np.where(known, np.where(known, x[training], 0.0), 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    filled = np.where(np.isnan(x), mean, x)
    spread = filled[training].std(axis=0)
    scaled = (filled - filled[training].mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
    if labels[training].all() or not labels[training].any():
        return np.full(len(labels), float(labels[training].mean()))
    model = LogisticRegression(C=c, max_iter=2000).fit(scaled[training], labels[training])
    return np.asarray(model.predict_proba(scaled)[:, 1])
