"""How much of a like could be foretold at all: what the data's size, not the model, leaves out of reach.

Warm: the mixed model's own world. People's effects are drawn anew from the spread that was learned, decisions from their
probabilities, and the protocol runs on them. Whoever knew every effect exactly would rank no better than the ``oracle``;
``learned`` is what the same model recovers from as many decisions as there are. Cold: the model trained on fewer waves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recommender.datasets.speed_dating import cold, warm
from recommender.datasets.speed_dating.reading import Dates
from recommender.evaluation.accuracy import grouped_auc

Doubles = NDArray[np.float64]

WAVES: Final = (3, 6, 9, 11)
"""Numbers of training waves, beside all others."""


@dataclass(frozen=True)
class Ceiling:
    """Like AUC within a wave, mean of waves, one a drawn world (draws,)."""

    oracle: Doubles
    """By the probabilities from which the decisions were drawn."""
    learned: Doubles
    """By ``warm.likes`` under the protocol."""


def warm_ceiling(dates: Dates, draws: int, seed: int = 0) -> Ceiling:
    """Worlds drawn from the model fitted to all dates. Decisions of the drawn worlds only are learned from and judged."""
    random = np.random.default_rng(seed)
    with threadpool_limits(1):
        fitted = warm.fitted(dates, np.ones(len(dates), bool))
        oracle, learned = np.zeros(draws), np.zeros(draws)
        for number in range(draws):
            effects = random.multivariate_normal(np.zeros(2), fitted.model.variances.person, dates.side.size)
            drawn = replace(fitted, model=replace(fitted.model, sent=effects[:, 0], received=effects[:, 1])).probability()
            like = random.random(len(dates)) < drawn
            world = replace(dates, like=like, match=like & like[dates.reverse])
            held, fold = np.zeros(len(dates)), warm.folds(dates, seed=number)
            for part in np.unique(fold):
                held[fold == part] = warm.likes(world, fold != part)[fold == part]
            oracle[number] = grouped_auc(like, drawn, dates.wave).mean
            learned[number] = grouped_auc(like, held, dates.wave).mean
    return Ceiling(oracle, learned)


def learning_curve(dates: Dates, repeats: int = 3, seed: int = 0) -> dict[int, float]:
    """Training waves -> cold like AUC of the waves left out one at a time, the mean over drawn sets of training waves."""
    random = np.random.default_rng(seed)
    found: dict[int, float] = {}
    most = len(dates.waves) - 1
    with threadpool_limits(1):
        for size in (*(size for size in WAVES if size < most), most):
            means = []
            for _ in range(repeats if size < most else 1):
                like = np.zeros(len(dates))
                for wave in dates.waves:
                    others = np.array([other for other in dates.waves if other != wave])
                    training = random.choice(others, size, replace=False).tolist()
                    like[dates.wave == wave] = cold.predict(dates, training, [wave]).like[dates.wave == wave]
                means.append(grouped_auc(dates.like, like, dates.wave).mean)
            found[size] = float(np.mean(means))
    return found
