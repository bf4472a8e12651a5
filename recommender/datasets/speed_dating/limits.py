"""How much of a like could be foretold at all: what the data's size, not the model, leaves out of reach.

Warm: worlds of the mixed model. People's effects are drawn anew, decisions from their probabilities, and the protocol
runs on them. Whoever knew every effect exactly would rank no better than the ``oracle``; ``learned`` is what the same model
recovers from as many decisions as there are. Penalised quasi-likelihood finds too small a spread of effects in yes and no,
so it is widened until drawn people differ as much in what they send and receive as real ones. Tastes that only one pair
knows of are not in these worlds. Cold: the model trained on fewer waves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recommender.datasets.speed_dating import cold, tendencies, warm
from recommender.datasets.speed_dating.reading import Dates
from recommender.evaluation.accuracy import grouped_auc

Doubles = NDArray[np.float64]

WIDENED: Final = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
"""Factors on the variance of effects that are tried."""
WAVES: Final = (3, 6, 9, 11)
"""Numbers of training waves, beside all others."""


@dataclass(frozen=True)
class Ceiling:
    """Like AUC within a wave, mean of waves, one a drawn world (draws,)."""

    oracle: Doubles
    """By the probabilities from which the decisions were drawn."""
    learned: Doubles
    """By ``warm.likes`` under the protocol."""
    widened: float
    """The factor on the fitted variance of people's effects."""


def warm_ceiling(dates: Dates, draws: int, seed: int = 0) -> Ceiling:
    """Worlds drawn from the model fitted to all dates. Decisions of the drawn worlds only are learned from and judged."""
    random = np.random.default_rng(seed)
    with threadpool_limits(1):
        fitted = warm.fitted(dates, np.ones(len(dates), bool))
        factor = _widening(fitted, dates, random)
        oracle, learned = np.zeros(draws), np.zeros(draws)
        for number in range(draws):
            drawn, world = _drawn(fitted, dates, factor, random)
            held, fold = np.zeros(len(dates)), warm.folds(dates, seed=number)
            for part in np.unique(fold):
                held[fold == part] = warm.likes(world, fold != part)[fold == part]
            oracle[number] = grouped_auc(world.like, drawn, dates.wave).mean
            learned[number] = grouped_auc(world.like, held, dates.wave).mean
    return Ceiling(oracle, learned, factor)


def _drawn(fitted: warm.Fitted, dates: Dates, factor: float, random: np.random.Generator) -> tuple[Doubles, Dates]:
    """(n,) probabilities of a like with effects drawn anew, and the dates with decisions drawn from them."""
    effects = random.multivariate_normal(np.zeros(2), fitted.model.variances.person * factor, dates.side.size)
    drawn = replace(fitted, model=replace(fitted.model, sent=effects[:, 0], received=effects[:, 1])).probability()
    like = random.random(len(dates)) < drawn
    return drawn, replace(dates, like=like, match=like & like[dates.reverse])


def _widening(fitted: warm.Fitted, dates: Dates, random: np.random.Generator) -> float:
    """The factor with which drawn people differ most nearly as real ones."""
    real = _spread(dates)
    return min(WIDENED, key=lambda factor: abs(
        float(np.mean([_spread(_drawn(fitted, dates, factor, random)[1]) for _ in range(4)])) - real
    ))


def _spread(dates: Dates) -> float:
    """Mean deviation of what people send and receive beyond their wave and side."""
    return float(np.mean([tendency.std() for tendency in tendencies.tendencies(dates, np.ones(len(dates), bool))]))


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
