"""Card shards follow the ranking configuration in the log: no restart, no card lost, nothing unusable served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from test_cards_shard import Committed, Platform, people_rows

from actors.cards.commands import DeckQuery, Explain
from cluster.connections.artifacts import ArtifactStore, artifact_store
from cluster.connections.kafka import LogAppender, Record
from configs.contracts.events import Event, RankingConfigured, encode
from configs.contracts.ids import new_id, partition_of
from configs.contracts.people import PositionInvalid, snap
from configs.contracts.ranking import BASELINE, KEY, RankingConfiguration
from configs.contracts.topics import RANKING_CONFIGURED
from configs.settings import Settings
from recommender import artifacts
from recommender.baseline import Baseline
from recommender.features import FEATURES
from recommender.logistic import Logistic

pytestmark = pytest.mark.servers

HERE = snap(41.15, -8.6)
LAST = 8
"""Above every number that a test configures, counted from its first."""


class Run:
    """Two card actors over their own store, and the log that configures them."""

    def __init__(self, settings: Settings, tmp_path: Path, number: int) -> None:
        self.settings = settings
        self.store: ArtifactStore = artifact_store(settings)
        self.appender = LogAppender(settings, "test-configured")
        self.people = [new_id() for _ in range(40)]
        self.first = number
        rows = people_rows([(name, snap(41.15 + place / 100, -8.6), 1) for place, name in enumerate(self.people)])
        self.platform = Platform(settings, Present(rows, RankingConfiguration(number)), self.appender)
        self._tmp_path = tmp_path

    def model(self, weight: float) -> str:
        """A model of distance in the store; positive: the far come first."""
        ranker = Logistic(("distance_km",), np.array([weight]), np.array([FEATURES["distance_km"].neutral]), 0.0)
        directory = self._tmp_path / f"model{weight}"
        artifacts.save(ranker, directory)
        self.store.publish("models", ranker.version, directory)
        return ranker.version

    async def configure(self, number: int, version: str) -> None:
        event = Event(new_id(), datetime.now(UTC), KEY, RankingConfigured(
            configuration=RankingConfiguration(number, version), reason="deploy"
        ))
        await self.appender.submit([Record(
            RANKING_CONFIGURED.name, partition_of(KEY, self.settings.log.partitions), KEY, encode(event)
        )])

    async def until(self, number: int) -> None:
        """Returns once every actor serves by the configuration."""
        async with asyncio.timeout(60):
            while not all(shard.cards.configuration >= number for shard in self.platform.shards):
                await asyncio.sleep(0.02)

    def query(self, **changed: Any) -> DeckQuery:
        return DeckQuery(**{
            "viewer_id": new_id(), "latitude": HERE[0], "longitude": HERE[1], "birth_date": date(1990, 1, 1).isoformat(),
            "role": "sugar_daddy", "gender": "man", "age_min": 18, "age_max": 99, "max_distance_km": 100,
            "roles": ("sugar_baby",), **changed,
        })


class Present(Committed):
    """A database with these people and this configuration."""

    def __init__(self, rows: Any, configuration: RankingConfiguration) -> None:
        super().__init__([rows])
        self._configuration = configuration

    async def ranking(self) -> RankingConfiguration:
        return self._configuration


@pytest_asyncio.fixture
async def run(servers: Settings, tmp_path: Path) -> AsyncIterator[Run]:
    settings = servers.model_copy(update={
        "plan": servers.plan.model_copy(update={"card_actors": 2}),
        "ranking": servers.ranking.model_copy(update={"artifacts": str(tmp_path / "store")}),
    })
    # The log keeps what other tests configured: begin above it.
    made = Run(settings, tmp_path, int(datetime.now(UTC).timestamp() * 1e3))
    await made.platform.ready()
    yield made
    # A writer of a later test stores what is in the log: the last of it is the baseline, which every store has.
    await made.configure(made.first + LAST, BASELINE)
    await asyncio.gather(*(shard.close() for shard in made.platform.shards))
    await asyncio.to_thread(made.appender.close)


async def shown(run: Run, **changed: Any) -> tuple[list[str], list[float], str]:
    deck = await run.platform.client.deck(run.query(**changed))
    return [entry.user_id for entry in deck.entries], [entry.distance_km for entry in deck.entries], deck.model_version


async def test_a_deploy_reorders_everybody_and_loses_nobody(run: Run) -> None:
    before, near_first, version = await shown(run)
    assert version == Baseline().version
    assert near_first == sorted(near_first)
    far = run.model(1.0)
    asking = asyncio.create_task(ask_all_along(run))
    await run.configure(run.first + 1, far)
    await run.until(run.first + 1)
    after, far_first, version = await shown(run)
    assert version == far
    assert far_first == sorted(far_first, reverse=True)
    assert set(after) == set(before) == set(run.people)
    asking.cancel()
    assert await asking > 0, "decks were asked for all along, each of them whole"


async def ask_all_along(run: Run) -> int:
    asked = 0
    try:
        while True:
            ids, distances, _ = await shown(run)
            assert set(ids) == set(run.people)
            assert distances in (sorted(distances), sorted(distances, reverse=True)), "scores of two models are not mixed"
            asked += 1
    except asyncio.CancelledError:
        return asked


async def test_a_damaged_model_is_refused_and_the_old_one_serves_on(run: Run) -> None:
    good, bad = run.model(2.0), run.model(-2.0)
    await run.configure(run.first + 1, good)
    await run.until(run.first + 1)
    manifest = run.store.fetch("models", bad) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"distance_km"', '"height_cm"'))
    await run.configure(run.first + 2, bad)
    await run.until(run.first + 2)
    assert (await shown(run))[2] == good
    for shard in run.platform.shards:
        refused = shard.describe()["ranking"]["refused"]
        assert list(refused) == [bad]
        assert "height_cm" in refused[bad], "the difference is named"


async def test_a_late_or_repeated_configuration_changes_nothing(run: Run) -> None:
    one, other = run.model(3.0), run.model(-3.0)
    await run.configure(run.first + 5, one)
    await run.configure(run.first + 5, other)
    await run.configure(run.first + 4, other)
    await run.configure(run.first + 6, one)
    await run.until(run.first + 6)
    assert (await shown(run))[2] == one


async def test_an_explanation_adds_up_and_says_who_would_not_be_shown(run: Run) -> None:
    version = run.model(4.0)
    await run.configure(run.first + 1, version)
    await run.until(run.first + 1)
    deck = await run.platform.client.deck(run.query())
    entry = deck.entries[3]
    found = await run.platform.client.explain(Explain(run.query(), entry.user_id))
    assert found is not None
    assert found.model_version == version
    assert found.score == pytest.approx(entry.score, abs=1e-6)
    assert sum(found.terms.values()) == pytest.approx(found.score, abs=1e-5)
    assert (found.eligible, found.distance_km) == (True, pytest.approx(entry.distance_km, abs=1e-3))
    near = await run.platform.client.explain(Explain(run.query(max_distance_km=1), entry.user_id))
    assert near is not None
    assert not near.eligible
    assert await run.platform.client.explain(Explain(run.query(), new_id())) is None
    other = await run.platform.client.explain(Explain(run.query(model_version="baseline"), entry.user_id))
    assert other is not None
    assert other.model_version == Baseline().version
    with pytest.raises(PositionInvalid):
        await run.platform.client.explain(Explain(run.query(latitude=float("nan")), entry.user_id))


async def test_an_actor_that_starts_later_serves_by_the_rows_and_the_log(run: Run) -> None:
    version = run.model(5.0)
    await run.configure(run.first + 7, version)
    await run.until(run.first + 7)
    again = Run(run.settings, run._tmp_path / "again", run.first)
    try:
        await again.platform.ready()
        assert all(shard.cards.configuration == run.first + 7 for shard in again.platform.shards)
        assert (await shown(again))[2] == version
    finally:
        await asyncio.gather(*(shard.close() for shard in again.platform.shards))
        await asyncio.to_thread(again.appender.close)
