"""The two protocols: who is predicted from what, and how it is judged.

Cold: one wave after the other is left out and predicted from the others. Warm: five folds over unordered pairs of all
waves. Judged by AUC within a wave, the mean of waves, and log loss of matches; intervals by bootstrap over waves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recommender.datasets.speed_dating import cold, ruler, warm
from recommender.datasets.speed_dating.reading import Dates
from recommender.evaluation.accuracy import GroupedAuc, Interval, bootstrap, grouped_auc
from recommender.evaluation.calibration import curve, log_loss

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Held-out probabilities of all rows, (n,)."""

    like: Doubles
    product: Doubles
    """Of a match, both sides deciding independently."""
    match: Doubles
    """Of a match, by a model of the match."""


@dataclass(frozen=True)
class Judged:
    """The figures of one model under one protocol."""

    like: GroupedAuc
    match: GroupedAuc
    """Of the model of the match."""
    product: GroupedAuc
    log_loss: float
    """Of matches."""
    log_loss_by_wave: Doubles
    rows_by_wave: Doubles
    calibration_error: float


def cold_ruler(dates: Dates) -> Outcome:
    """Plain logistic regression, one wave left out at a time."""
    x = ruler.design(dates)
    return _waves_left_out(
        dates, lambda others, _: (ruler.predict(x, dates.like, others), ruler.predict(x, dates.match, others))
    )


def cold_model(dates: Dates) -> Outcome:
    """``cold.predict``, one wave left out at a time."""

    def predicted(_: NDArray[np.bool_], wave: int) -> tuple[Doubles, Doubles]:
        found = cold.predict(dates, [other for other in dates.waves if other != wave], [wave])
        return found.like, found.match

    return _waves_left_out(dates, predicted)


def base_rate(dates: Dates) -> Doubles:
    """The share of matches in the other waves, for each row (n,)."""
    return np.array([dates.match[dates.wave != wave].mean() for wave in dates.waves])[
        np.searchsorted(dates.waves, dates.wave)
    ]


def warm_ruler(dates: Dates, seed: int = 0) -> Outcome:
    """Plain logistic regression with shrunken like rates, five folds over pairs."""
    like, match = _held_out(dates, warm.folds(dates, seed=seed), lambda training, _: warm.plain(dates, training))
    return Outcome(like, like * like[dates.reverse], _symmetric(match, dates))


def warm_model(dates: Dates, seed: int = 0) -> Outcome:
    """``warm.predict``, five folds over pairs."""
    fold = warm.folds(dates, seed=seed)
    like, match = _held_out(dates, fold, lambda training, _: warm.predict(dates, training, seed))
    return Outcome(like, like * like[dates.reverse], match)


def judged(dates: Dates, outcome: Outcome) -> Judged:
    losses = np.array([
        log_loss(dates.match[dates.wave == wave], outcome.match[dates.wave == wave]) for wave in dates.waves
    ])
    return Judged(
        grouped_auc(dates.like, outcome.like, dates.wave), grouped_auc(dates.match, outcome.match, dates.wave),
        grouped_auc(dates.match, outcome.product, dates.wave), log_loss(dates.match, outcome.match), losses,
        np.array([(dates.wave == wave).sum() for wave in dates.waves], np.float64),
        curve(dates.match, outcome.match).error,
    )


def described(found: Judged, against: Judged | None = None) -> dict[str, Any]:
    """What JSON holds: each figure with its interval over waves and, given the ruler, the gains over it."""
    figures: dict[str, Interval] = {
        "like_auc": found.like.interval(), "match_auc": found.match.interval(), "product_auc": found.product.interval(),
        "match_log_loss": bootstrap(found.log_loss_by_wave, found.rows_by_wave),
    }
    if against is not None:
        figures |= {
            "like_auc_gain": found.like.gain_over(against.like), "match_auc_gain": found.match.gain_over(against.match),
            "match_log_loss_gain": bootstrap(against.log_loss_by_wave - found.log_loss_by_wave, found.rows_by_wave),
        }
    by_wave = {"like_auc": found.like.by_group, "match_auc": found.match.by_group}
    return {name: asdict(figure) for name, figure in figures.items()} | {
        "match_calibration_error": found.calibration_error,
        "by_wave": {name: {str(wave): value for wave, value in values.items()} for name, values in by_wave.items()},
    }


def _waves_left_out(dates: Dates, predicted: Callable[[NDArray[np.bool_], int], tuple[Doubles, Doubles]]) -> Outcome:
    """Raises ValueError: fewer than two waves."""
    if len(dates.waves) < 2:
        raise ValueError("one wave cannot be predicted from others")
    like, match = _held_out(dates, dates.wave, predicted)
    return Outcome(like, like * like[dates.reverse], _symmetric(match, dates))


def _held_out(dates: Dates, part: NDArray[np.int64],
              predicted: Callable[[NDArray[np.bool_], int], tuple[Doubles, Doubles]]) -> tuple[Doubles, Doubles]:
    """(like, match), each row by what ``predicted`` makes of the rows of other parts and its part's number."""
    like, match = np.zeros(len(dates)), np.zeros(len(dates))
    # Many small matrices: threads would wait for each other, on a busy machine most of the time.
    with threadpool_limits(1):
        for number in np.unique(part):
            held = part == number
            found = predicted(~held, int(number))
            like[held], match[held] = found[0][held], found[1][held]
    return like, match


def _symmetric(match: Doubles, dates: Dates) -> Doubles:
    """A match is one fact of both: the mean of what its two rows say."""
    return np.asarray((match + match[dates.reverse]) / 2)
