"""The models that a card shard serves with: taken from the store when a ranking configuration names them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import structlog

from actors.cards.state import Cards
from cluster.connections.artifacts import ArtifactStore
from configs.contracts.errors import ArtifactCorrupt, ArtifactMissing, DependencyUnavailable, PlatformError
from configs.contracts.ranking import BASELINE, INITIAL, ConfigurationRefused, RankingConfiguration, checked
from recommender import artifacts, people_table
from recommender.baseline import Baseline
from recommender.features import FEATURES
from recommender.people_table import EMPTY, PeopleTable
from recommender.ranking import Ranker

log = structlog.get_logger(__name__)

RETRY_S: Final = 10.0
"""Until something that the store did not give, or gave damaged, is asked for again."""
KEPT: Final = 4
"""Models of earlier configurations that stay, so that actors a step behind can still be answered alike."""


class Models:
    """Keeps a shard's rankers and people table at the newest configuration it has heard of.

    What cannot be used is refused: the model or table that served before goes on, and ``describe`` says why.
    """

    def __init__(self, store: ArtifactStore, baseline: Ranker | None = None) -> None:
        self._store = store
        self.baseline: Ranker = baseline or Baseline()
        self._cards: Cards | None = None
        self._wanted = INITIAL
        self._applied = INITIAL
        self._loaded: dict[str, Ranker] = {}
        self._table: PeopleTable = EMPTY
        self.refused: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def serve(self, cards: Cards) -> None:
        """Gives these cards what is loaded now, and everything that comes later."""
        self._cards = cards
        self._hand_over()

    def hear(self, configuration: RankingConfiguration) -> None:
        """Takes note of a configuration; one that is not newer than the last, or not usable, changes nothing."""
        try:
            checked(configuration)
        except ConfigurationRefused as error:
            log.warning("configuration_refused", reason=str(error))
            return
        if configuration.number > self._wanted.number:
            self._wanted = configuration
            self._changed.set()

    async def settle(self) -> None:
        """Loads what the newest configuration names. Afterwards everything is loaded or refused."""
        while self._applied.number < self._wanted.number or self.refused:
            wanted = self._wanted
            refused: dict[str, str] = {}
            await self._load_models(wanted, refused)
            await self._load_table(wanted, refused)
            self.refused = refused
            self._applied = wanted
            self._hand_over()
            if self._wanted is wanted:
                return

    def follow(self) -> None:
        """Loads what later configurations name, in the background, until ``close``."""
        self._task = asyncio.create_task(self._follow(), name="models")

    async def _follow(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), RETRY_S)
            except TimeoutError:
                if not self.refused:
                    continue
            self._changed.clear()
            await self.settle()

    async def _load_models(self, wanted: RankingConfiguration, refused: dict[str, str]) -> None:
        for version in wanted.versions():
            if version == BASELINE or version in self._loaded:
                continue
            try:
                self._loaded[version] = await asyncio.to_thread(self._ranker, version)
            except PlatformError as error:
                refused[version] = str(error)
                log.warning("model_refused", version=version, reason=str(error))
        for version in list(self._loaded)[: -len(wanted.versions()) - KEPT]:
            if version not in wanted.versions() and self._loaded[version] is not self._default(wanted):
                del self._loaded[version]

    def _ranker(self, version: str) -> Ranker:
        ranker = artifacts.load(self._store.fetch("models", version))
        require_usable(ranker)
        return ranker

    async def _load_table(self, wanted: RankingConfiguration, refused: dict[str, str]) -> None:
        version = wanted.people_table
        if version is None:
            self._table = EMPTY
        elif version != self._table.version:
            try:
                self._table = await asyncio.to_thread(lambda: people_table.load(self._store.fetch("people", version)))
            except (ArtifactCorrupt, ArtifactMissing, DependencyUnavailable) as error:
                refused[version] = str(error)
                log.warning("people_table_refused", version=version, reason=str(error))

    def _default(self, configuration: RankingConfiguration) -> Ranker:
        version = configuration.default_version
        if version == BASELINE:
            return self.baseline
        held = None if self._cards is None else self._cards.ranker
        return self._loaded.get(version) or held or self.baseline

    def _hand_over(self) -> None:
        cards = self._cards
        if cards is None:
            return
        cards.ranker = self._default(self._applied)
        cards.models = MappingProxyType(
            {BASELINE: self.baseline, self.baseline.version: self.baseline} | self._loaded
            | {ranker.version: ranker for ranker in self._loaded.values()}
        )
        if cards.table is not self._table:
            cards.use(self._table)
        cards.configuration = self._applied.number

    def describe(self) -> Mapping[str, Any]:
        """Figures for status: what serves, and what was refused why."""
        return {
            "configuration": self._applied.number,
            "loaded": [BASELINE, *self._loaded],
            "people_table": self._table.version,
            "people_in_table": len(self._table),
            "refused": self.refused,
        }

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def require_usable(ranker: Ranker) -> None:
    """Raises ArtifactCorrupt: the ranker's scores of typical people are no numbers."""
    neutral = {name: np.full(3, FEATURES[name].neutral, np.float32) for name in ranker.features}
    try:
        scores = np.asarray(ranker.score(neutral))
        terms = sum(np.asarray(term, np.float64) for term in ranker.explain(neutral).values())
    except (ValueError, IndexError, KeyError, TypeError, ArithmeticError) as error:
        raise ArtifactCorrupt("the model cannot score", version=ranker.version, reason=repr(error)) from error
    if scores.shape not in ((3,), ()) or not np.isfinite(scores).all():
        raise ArtifactCorrupt("the model's scores are not finite: its weights are broken", version=ranker.version)
    if not np.allclose(terms, scores, atol=1e-4):
        raise ArtifactCorrupt("the model's explanation does not add up to its score", version=ranker.version)
