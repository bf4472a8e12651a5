"""What an A/B test shows: who was shown what by which arm, what came of it on both sides, and whether the split was kept.

Arms that share receivers interfere: a like that one arm earned may be answered by somebody of another. So a match is
counted for the arms of both swipes, and intervals are by bootstrap over the units that were split.

Where decks explore, logged propensities also tell what an arm's ranking would have earned had every place shown whom it
ranked there (``as_ranked``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

import h3
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare

from configs.contracts.ranking import REGION_RESOLUTION, Experiment, arm_of
from recommender.datasets.exported import Exported, Impressions
from recommender.evaluation.accuracy import bootstrap
from recommender.evaluation.counterfactual import Estimate, doubly_robust, inverse_propensity, self_normalised
from recommender.evaluation.two_sided import gini, received

UNATTRIBUTED: Final = ""
PLACES_ALIKE: Final = 5
"""Places whose cards are predicted alike."""
PLACES_TOLD: Final = 20
SUSPECT_P: Final = 0.001
"""Below it a split is not believed: the usual threshold for sample-ratio checks (Fabijan et al., 2019)."""


def report(data: Exported, experiment: Experiment, *, seed: int = 0) -> dict[str, Any]:
    """Figures of an experiment as plain values: ``arms`` (one row each), ``sample_ratio``, ``matches`` (first swipe's
    arm -> second swipe's arm -> count) and ``received`` (the receiver's own arm -> likes received).

    Split by time, a period counts for the arm that it was given: cards that are left over from the arm before, since pages
    in progress go on in the deck they began with, are left out.
    """
    shown = data.impressions
    inside = _inside(shown, experiment)
    units = _units(data, experiment, inside)
    by_unit = _by_unit(shown, inside, units)
    _, numbers = np.unique(np.array(units, dtype=object).astype(str), return_inverse=True)
    return {
        "experiment": experiment.name, "split": experiment.split, "cards": int(inside.size),
        "arms": [
            _arm(arm.name, arm.version, shown, inside[mine], by_unit[arm.name], seed)
            | {"as_ranked": as_ranked(shown, inside[mine], numbers[mine])}
            for arm in experiment.arms for mine in (shown.arm[inside] == arm.name,)
        ],
        "sample_ratio": sample_ratio(experiment, by_unit),
        "matches": _matches(data, inside),
        "received": _received(shown, inside, experiment),
    }


def _inside(shown: Impressions, experiment: Experiment) -> NDArray[np.intp]:
    """Rows of the cards that count."""
    inside = np.flatnonzero(shown.experiment == experiment.name)
    if experiment.split != "time":
        return inside
    periods = [_period(experiment, at) for at in shown.served_s[inside].tolist()]
    given = {period: arm_of(experiment, str(period)).name for period in set(periods)}
    arms = shown.arm[inside].tolist()
    return inside[np.fromiter((arm == given[period] for arm, period in zip(arms, periods, strict=True)), np.bool_, inside.size)]


def _period(experiment: Experiment, at_s: float) -> int:
    return int(at_s // experiment.period_s)


def as_ranked(shown: Impressions, rows: NDArray[np.intp], units: NDArray[np.intp]) -> dict[str, Any]:
    """Likes a card had these cards' places all shown whom the ranking put there, nobody from below: ``ips``,
    ``self_normalised`` and ``doubly_robust``, each (value, low, high, effective samples), 95 % by ``units`` (n,).

    A place that explores at a rate below a half shows its own person with a propensity above a half. The prediction of the
    doubly robust figure is the mean of others' likes at the same fifth of the page, own and from below apart, learned on the
    other half of the units.
    """
    propensity = np.minimum(shown.propensity[rows].astype(np.float64), 1.0)
    usable = propensity > 0
    rows, units, propensity = rows[usable], units[usable], propensity[usable]
    likes = (shown.liked[rows] == 1).astype(np.float64)
    own = propensity >= 0.5
    judged = own.astype(np.float64)
    predicted, value = _predicted(likes, own, shown.position[rows], units)
    return {
        "cards": int(rows.size), "from_below": int((~own).sum()),
        "ips": _figures(inverse_propensity(likes, propensity, judged, groups=units)),
        "self_normalised": _figures(self_normalised(likes, propensity, judged, groups=units)),
        "doubly_robust": _figures(doubly_robust(likes, propensity, judged, predicted, value, groups=units)),
    }


def _predicted(
    likes: NDArray[np.float64], own: NDArray[np.bool_], position: NDArray[Any], units: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(predicted reward of what was shown, and of whom the ranking put there), each row's from the other half of units."""
    place = np.minimum(position.astype(np.int64) // PLACES_ALIKE, PLACES_TOLD - 1)
    kind = 2 * place + own
    half = units % 2
    predicted, value = np.zeros(likes.size), np.zeros(likes.size)
    for side in (0, 1):
        here, there = half == side, half != side
        counts = np.bincount(kind[there], minlength=2 * PLACES_TOLD)
        mean = likes[there].mean() if there.any() else 0.0
        # Few of a kind say little: a card's worth of the overall mean is mixed in.
        rates = (np.bincount(kind[there], likes[there], 2 * PLACES_TOLD) + mean) / (counts + 1)
        predicted[here], value[here] = rates[kind[here]], rates[2 * place[here] + 1]
    return predicted, value


def _figures(estimate: Estimate) -> dict[str, float]:
    low, high = estimate.interval
    return {"value": estimate.value, "low": low, "high": high, "effective": estimate.effective_samples}


def sample_ratio(experiment: Experiment, by_unit: dict[str, dict[Any, tuple[int, int]]]) -> dict[str, Any]:
    """Chi-square test of the units that each arm got against the configured shares.

    ``mixed``: units that were served by more than one arm, which the split forbids.
    """
    counts = [len(by_unit[arm.name]) for arm in experiment.arms]
    total = sum(counts)
    seen = Counter(unit for units in by_unit.values() for unit in units)
    # Shares sum to 1 within a tolerance; the test wants the expected to sum to what was counted.
    shares = np.array([arm.share for arm in experiment.arms])
    expected = (shares / shares.sum() * total).tolist()
    p = float(chisquare(counts, expected).pvalue) if total else 1.0
    return {
        "units": dict(zip((arm.name for arm in experiment.arms), counts, strict=True)),
        "expected": dict(zip((arm.name for arm in experiment.arms), expected, strict=True)),
        "p": p, "suspect": p < SUSPECT_P, "mixed": sum(count > 1 for count in seen.values()),
    }


def _units(data: Exported, experiment: Experiment, inside: NDArray[np.intp]) -> list[Any]:
    viewers: list[int] = data.impressions.viewer[inside].tolist()
    if experiment.split == "user":
        return viewers
    if experiment.split == "time":
        return [_period(experiment, at) for at in data.impressions.served_s[inside].tolist()]
    regions = {
        cell: h3.cell_to_parent(f"{cell:x}", REGION_RESOLUTION) if cell else "nowhere"
        for cell in set(data.cells[viewers].tolist())
    }
    return [regions[cell] for cell in data.cells[viewers].tolist()]


def _by_unit(shown: Impressions, inside: NDArray[np.intp], units: list[Any]) -> dict[str, dict[Any, tuple[int, int]]]:
    """Arm -> unit -> (cards answered, likes)."""
    found: dict[str, dict[Any, tuple[int, int]]] = defaultdict(dict)
    for arm, unit, liked in zip(shown.arm[inside].tolist(), units, shown.liked[inside].tolist(), strict=True):
        answered, likes = found[arm].get(unit, (0, 0))
        found[arm][unit] = (answered + (liked >= 0), likes + (liked == 1))
    return found


def _arm(
    name: str, version: str, shown: Impressions, rows: NDArray[np.intp], units: dict[Any, tuple[int, int]],
    seed: int,
) -> dict[str, Any]:
    answered = np.array([counts[0] for counts in units.values()], np.int64)
    likes = np.array([counts[1] for counts in units.values()], np.int64)
    # Mean of the units' own rates, each weighted by its answers: the like rate, with units as what is drawn.
    rate = bootstrap(likes / np.maximum(answered, 1), answered.astype(np.float64), seed=seed)
    return {
        "arm": name, "version": version, "viewers": int(np.unique(shown.viewer[rows]).size),
        "units": len(units), "responses": int(np.unique(shown.response[rows]).size), "cards": int(rows.size),
        "seen": int(shown.seen[rows].sum()), "answered": int(answered.sum()), "likes": int(likes.sum()),
        "likes_a_card": float(likes.sum() / rows.size) if rows.size else float("nan"),
        "like_rate": rate.value, "like_rate_low": rate.low, "like_rate_high": rate.high,
        "receivers": int(np.unique(shown.candidate[rows]).size),
        "exposure_gini": gini(received(shown.candidate[rows], int(shown.candidate.max()) + 1)[np.unique(shown.candidate)])
        if rows.size else float("nan"),
    }


def _matches(data: Exported, inside: NDArray[np.intp]) -> dict[str, dict[str, int]]:
    """A swipe that answers no card of this experiment, or one of another, is ``UNATTRIBUTED``."""
    shown, swipes = data.impressions, data.swipes
    arm_of = dict(zip(shown.response[inside].tolist(), shown.arm[inside].tolist(), strict=True))
    made: dict[tuple[int, int], tuple[float, str]] = {}
    for swiper, swiped, liked, at, response in zip(
        swipes.swiper.tolist(), swipes.swiped.tolist(), swipes.liked.tolist(), swipes.at_s.tolist(),
        swipes.response.tolist(), strict=True,
    ):
        if liked:
            made[(swiper, swiped)] = (at, arm_of.get(response, UNATTRIBUTED))
    counts: dict[str, dict[str, int]] = {}
    for low, high in data.matches.tolist():
        sides = sorted(side for side in (made.get((low, high)), made.get((high, low))) if side is not None)
        if len(sides) == 2:
            row = counts.setdefault(sides[0][1], {})
            row[sides[1][1]] = row.get(sides[1][1], 0) + 1
    return counts


def _received(shown: Impressions, inside: NDArray[np.intp], experiment: Experiment) -> dict[str, int]:
    """Likes received through this experiment's cards, by the arm that the receivers are served by themselves."""
    own = dict(zip(shown.viewer[inside].tolist(), shown.arm[inside].tolist(), strict=True))
    counts = dict.fromkeys((*(arm.name for arm in experiment.arms), UNATTRIBUTED), 0)
    for candidate, liked in zip(shown.candidate[inside].tolist(), shown.liked[inside].tolist(), strict=True):
        if liked == 1:
            arm = own.get(candidate, UNATTRIBUTED)
            counts[arm] = counts.get(arm, 0) + 1
    return counts
