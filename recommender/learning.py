"""From an export to a ranker: which features, which model, how it is judged on swipes that came later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from configs.contracts.errors import PlatformError
from recommender import boosting, logistic
from recommender.baseline import RECENCY_HALF_LIFE_DAYS
from recommender.datasets.exported import Exported, Swipes
from recommender.datasets.pricing import market_prices
from recommender.evaluation.accuracy import auc, grouped_auc
from recommender.evaluation.calibration import log_loss
from recommender.evaluation.two_sided import yield_at_k
from recommender.exposure import Exposed
from recommender.features import FEATURES, compute
from recommender.ranking import Ranker
from recommender.recency import Recent, without_recency
from recommender.reciprocal import PRODUCT, RULES, Reciprocal

Model = Literal["logistic", "boosted"]
MODELS: Final = ("logistic", "boosted")
HELD_OUT: Final = 0.2
"""Share of the newest swipes that judge and do not teach."""
LEAST_SWIPES: Final = 50
VIEWERS_JUDGED: Final = 2_000
"""Viewers within whose swipes an order is judged; their numbers say nothing of them."""
LIKE_FEATURES: Final = (
    "log_distance", "age_fit", "viewer_age_fit", "older_years", "younger_years", "age_years", "is_verified", "is_woman",
    "is_man", "viewer_is_sugar_daddy", "like_rate_received", "log_swipes_received", "viewer_like_rate_sent",
)
"""What tells, as a rule, whether a viewer likes a candidate. Activity is left out: an export knows only the last one."""


class NotLearned(PlatformError):
    """Nothing can be learned from these data with this recipe; the message says what to change."""


@dataclass(frozen=True)
class Recipe:
    """How a ranker is made. ``exposure``: strength of the exposure price in the score, 0 for none.

    ``recency_half_life_days``: days away that halve what somebody counts, as in the baseline (``recommender.recency``); 0:
    activity counts nothing. It is no part of what is learned or judged.
    """

    model: Model = "logistic"
    rule: str = PRODUCT
    features: tuple[str, ...] = LIKE_FEATURES
    exposure: float = 0.0
    recency_half_life_days: float = RECENCY_HALF_LIFE_DAYS
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise NotLearned("no such model", model=self.model, known=MODELS)
        if self.rule not in RULES:
            raise NotLearned("no such rule", rule=self.rule, known=RULES)
        if unknown := [name for name in self.features if name not in FEATURES]:
            raise NotLearned("no such features", features=unknown)
        if not 0 <= self.recency_half_life_days < float("inf"):
            raise NotLearned("the half life of recency is a number of days, or 0", days=self.recency_half_life_days)


@dataclass(frozen=True)
class Learned:
    """A ranker with what it was judged by, on the newest swipes: those after ``taught_until_s``, Unix time."""

    recipe: Recipe
    ranker: Ranker
    metrics: dict[str, float]
    taught_until_s: float


def learn(data: Exported, recipe: Recipe, *, seed: int = 0) -> Learned:
    """Learns P(like) from the older swipes, combines both directions and adds the prices and recency of the recipe.

    Raises NotLearned: too few swipes, or parameters that the model does not take.
    """
    swipes = data.swipes
    if len(swipes) < LEAST_SWIPES:
        raise NotLearned("too few swipes to learn from", swipes=len(swipes), least=LEAST_SWIPES)
    cut = int(len(swipes) * (1 - HELD_OUT))
    older, newer = swipes.rows(slice(0, cut)), swipes.rows(slice(cut, None))
    past = data.before(newer)
    fit = logistic.fit if recipe.model == "logistic" else boosting.fit
    extra = recipe.parameters if recipe.model == "logistic" else {"seed": seed} | recipe.parameters
    try:
        like = fit(compute(recipe.features, past.pairs(older)), older.liked, recipe.features, **extra)
    except (TypeError, ValueError) as error:
        raise NotLearned("the model does not take these data or parameters", reason=str(error)) from error
    ranker: Ranker = Reciprocal(like, like, recipe.rule)
    if recipe.exposure:
        ranker = Exposed(ranker, recipe.exposure, market_prices(data, ranker).temperature)
    if recipe.recency_half_life_days:
        ranker = Recent(ranker, recipe.recency_half_life_days)
    return Learned(recipe, ranker, judged(like, data, newer), float(older.at_s[-1]))


def judged(like: Ranker, data: Exported, swipes: Swipes) -> dict[str, float]:
    """How well ln P(like) tells likes from passes among these swipes, which are in nobody's history when it is asked.

    ``base_log_loss`` is that of their mean rate.
    """
    rate = float(np.clip(swipes.liked.mean(), 1e-6, 1 - 1e-6)) if len(swipes) else 0.5
    figures = {"swipes": float(len(swipes)), "like_rate": rate}
    if len(swipes) and 0 < swipes.liked.mean() < 1:
        scores = np.broadcast_to(like.score(compute(like.features, data.before(swipes).pairs(swipes, counted=False))), swipes.liked.shape)
        figures["like_auc"] = auc(swipes.liked, scores)
        figures["log_loss"] = log_loss(swipes.liked, np.exp(scores.astype(np.float64)))
        figures["base_log_loss"] = log_loss(swipes.liked, np.full(len(swipes), rate))
    return figures


def evaluate(ranker: Ranker, data: Exported, after_s: float | None = None) -> dict[str, float]:
    """How well a ranker's score orders the swipes of an export: by likes, and by those that became matches.

    ``after_s``: only by swipes after this Unix time, which are in nobody's history then; ``left_out`` are the others, which may
    have taught the ranker. What ``Recent`` adds does not count: an export knows the last activity, not that of then.
    """
    ranker, swipes = without_recency(ranker), data.swipes
    pairs = data.pairs(swipes)
    if after_s is not None:
        swipes = swipes.rows(swipes.at_s > after_s)
        pairs = data.before(swipes).pairs(swipes, counted=False)
    left_out = float(len(data.swipes) - len(swipes))
    figures = {"swipes": float(len(swipes)), "left_out": left_out, "like_rate": float(swipes.liked.mean()) if len(swipes) else float("nan")}
    if not len(swipes):
        return figures
    scores = np.broadcast_to(ranker.score(compute(ranker.features, pairs)), swipes.liked.shape)
    matched = {tuple(pair) for pair in np.sort(data.matches, axis=1).tolist()}
    both = np.sort(np.stack([swipes.swiper, swipes.swiped], axis=1), axis=1).tolist()
    labels = {"like_auc": swipes.liked, "match_auc": np.array([tuple(pair) in matched for pair in both])}
    few = np.isin(swipes.swiper, np.unique(swipes.swiper)[:VIEWERS_JUDGED])
    for name, label in labels.items():
        if 0 < label.mean() < 1:
            figures[name] = auc(label, scores)
            figures[f"{name}_within_viewers"] = grouped_auc(label[few], scores[few], swipes.swiper[few]).mean
    figures["likes_in_top_5"] = yield_at_k(swipes.swiper, scores, swipes.liked, 5)
    return figures
