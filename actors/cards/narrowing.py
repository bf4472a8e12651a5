"""How many people are scored for one deck is bounded: of more, a first stage keeps those that the ranker would put first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from recommender.first_stage import INPUTS, FirstStage, Sample, fit, sample
from recommender.ranking import Features, Ids, Ranker, best

LEARNED_FROM: Final = 12
"""Crowded queries of each ranker that are scored whole, to learn its first stage from."""
AUDITED_EVERY: Final = 256
"""Of so many later queries one is scored whole again, to see what the first stage keeps."""
TOP: Final = 50
KEPT_LEAST: Final = 0.98
"""Share of the whole ranking's top 50 that must be kept; below it the first stage is learned anew."""
AUDITS_WEIGHED: Final = 8
RANKERS: Final = 8
"""First stages that are remembered; past it the one learned first is forgotten."""


class _Learned:
    """What is known of one ranker."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.stage: FirstStage | None = None
        self.queries = 0
        self.kept = 1.0


class Narrowing:
    """Chooses whom to score: everybody up to ``scored`` people, of more the ``scored`` best guesses."""

    def __init__(self, scored: int) -> None:
        self.scored = scored
        self._learned: dict[str, _Learned] = {}

    def forget(self) -> None:
        """Learns anew: what the features are computed from has changed."""
        self._learned.clear()

    def chosen(self, ranker: Ranker, size: int, features: Callable[[Iterable[str]], Features]) -> Ids:
        """Ascending places, out of ``size`` candidates, of those to score. ``features(names)`` computes theirs."""
        if size <= self.scored:
            return np.arange(size)
        known = self._of(ranker.version)
        known.queries += 1
        if known.stage is None:
            return self._learn(known, ranker, size, features)
        places = known.stage.best(features(known.stage.names), size, self.scored)
        if known.queries % AUDITED_EVERY == 0:
            self._audit(known, ranker, size, places, features)
        return places

    def describe(self) -> dict[str, Any]:
        """Share of the whole ranking's top 50 kept, by ranker, as the last audits found it."""
        return {version: round(known.kept, 4) for version, known in self._learned.items() if known.stage is not None}

    def _of(self, version: str) -> _Learned:
        known = self._learned.get(version)
        if known is None:
            if len(self._learned) >= RANKERS:
                del self._learned[next(iter(self._learned))]
            known = self._learned[version] = _Learned()
        return known

    def _learn(self, known: _Learned, ranker: Ranker, size: int, features: Callable[[Iterable[str]], Features]) -> Ids:
        values = features(dict.fromkeys((*INPUTS, *ranker.features)))
        scores = np.broadcast_to(ranker.score(values), (size,))
        known.samples.append(sample(values, scores))
        if len(known.samples) == LEARNED_FROM:
            known.stage = fit(known.samples)
            known.samples.clear()
            known.kept, known.queries = 1.0, 0
        return np.sort(best(np.arange(size), scores, self.scored)[0])

    def _audit(
        self, known: _Learned, ranker: Ranker, size: int, places: Ids, features: Callable[[Iterable[str]], Features]
    ) -> None:
        scores = np.broadcast_to(ranker.score(features(ranker.features)), (size,))
        top, _ = best(np.arange(size), scores, min(TOP, size))
        kept = float(np.isin(top, places).mean())
        known.kept += (kept - known.kept) / AUDITS_WEIGHED
        if known.kept < KEPT_LEAST:
            known.stage = None
